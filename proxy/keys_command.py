"""`sidegate keys`: make keys, hash keys, say which keys a configuration has. A key is shown once and kept nowhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import click
from pydantic import ValidationError

from proxy.config import ConfigError
from proxy.guard.keys import MAX_KEY_CHARS, ApiKeySettings, EmbedKeySettings, Kind, Scope, hash_of, new_key
from proxy.reading import load
from proxy.settings import Settings
from proxy.weak import suspicion, weakness


@click.group("keys")
def keys() -> None:
    """Make, hash and list API keys and embed keys."""


@keys.command()
@click.option("--kind", type=click.Choice(["api", "embed"]), default="api", show_default=True)
@click.option("--name", required=True, help="What the log calls it: small letters, digits, . _ and -")
@click.option("--site", default="", help="The site that it is for.")
@click.option("--scopes", default="chat", show_default=True, help="For API keys: chat or read, or both with a comma.")
@click.option("--expires", help="2027-01-31, or 2027-01-31T12:00:00Z")
@click.option("--owner", help="For API keys: whose sessions it has, where it takes another key's place.")
def new(kind: Kind, name: str, site: str, scopes: str, expires: str | None, owner: str | None) -> None:
    """Make a key: shown this once, with what to write into the configuration, which holds its hash only."""
    key = new_key(kind)
    given = {"name": name, "hash": hash_of(key), "expires": expires}
    try:
        if kind == "api":
            listed = [scope.strip() for scope in scopes.split(",")]
            text = _api(ApiKeySettings.model_validate(given | {"site": site, "scopes": listed, "owner": owner}))
        else:
            text = _embed(EmbedKeySettings.model_validate(given), site)
    except ValidationError as error:
        first = error.errors()[0]
        raise click.BadParameter(first["msg"], param_hint=f"--{first['loc'][0]}") from None
    click.echo(f"The key, shown this once:\n\n  {key}\n\nFor the configuration:\n\n{text}")


def _api(key: ApiKeySettings) -> str:
    scopes: tuple[Scope, ...] = key.scopes
    lines = [
        f"- name: {key.name}",
        f'  hash: "{key.hash}"',
        *([f"  site: {key.site}"] if key.site else []),
        f"  scopes: [{', '.join(scopes)}]",
        *([f"  expires: {key.expires}"] if key.expires else []),
        *([f"  owner: {key.owner}"] if key.owner else []),
    ]
    return "\n".join(["keys:", "  api:", *(f"    {line}" for line in lines)])


def _embed(key: EmbedKeySettings, site: str) -> str:
    lines = [
        f'- hash: "{key.hash}"',
        f"  name: {key.name}",
        *([f"  expires: {key.expires}"] if key.expires else []),
    ]
    return "\n".join(["sites:", f"  {site or 'NAME'}:", "    embed_keys:", *(f"      {line}" for line in lines)])


@keys.command("hash")
def hash_key() -> None:
    """Read a key from standard input; print its hash, as the configuration holds it."""
    if _is_terminal():
        key = str(click.prompt("The key", hide_input=True, err=True))
    else:
        key = sys.stdin.read(MAX_KEY_CHARS + 3).removesuffix("\n").removesuffix("\r")
    if not key or len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable() or " " in key:
        raise click.ClickException(f"A key is 1 to {MAX_KEY_CHARS} visible ASCII characters in one line.")
    if key.count(".") == 2:
        raise click.ClickException("With two dots it would be taken for a JWT. Choose another one: sidegate keys new")
    if fault := weakness(key) or suspicion(key):
        click.echo(f"warning: {fault}; whoever reads the hash can guess it. Better: sidegate keys new", err=True)
    click.echo(hash_of(key))


def _is_terminal() -> bool:
    return sys.stdin.isatty()


@keys.command("list")
@click.option("--config", "path", type=click.Path(path_type=Path), help="The YAML file, as for serve.")
def list_keys(path: Path | None) -> None:
    """Say which keys a configuration has: kind, name, site, scopes, end, and the beginning of the hash."""
    try:
        settings = load(path).settings
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(1)
    rows = [("kind", "name", "site", "scopes", "expires", "hash"), *_rows(settings, time.time())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rows(settings: Settings, now: float) -> Iterator[tuple[str, ...]]:
    for key in settings.keys.api:
        yield "api", key.name, key.site, ",".join(key.scopes), _end(key.expires, key.ends, now), f"{key.hash[:15]}…"
    for name, site in settings.sites.items():
        for embed in site.embed_keys:
            yield "embed", embed.label, name, "-", _end(embed.expires, embed.ends, now), f"{embed.hash[:15]}…"


def _end(written: str | None, ends: float, now: float) -> str:
    if ends == inf:
        return "never"
    return f"{written} (over)" if ends <= now else str(written)
