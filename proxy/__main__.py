"""Command line: serve, try out, check and begin a configuration."""

from __future__ import annotations

import errno
import json
import socket
import sys
from pathlib import Path

import click
from pydantic import ValidationError

from proxy import __version__, app, workers
from proxy.admin import admin
from proxy.coherence import is_loopback
from proxy.config import ConfigError, Place, Problem, Secret
from proxy.edge.ops import OpsSettings
from proxy.edge.read import ListenSettings
from proxy.guard.origin import normal_origin
from proxy.guard.session import SessionSettings
from proxy.keys_command import keys
from proxy.listeners import CantListen
from proxy.reading import load
from proxy.scan import scan
from proxy.settings import Settings, json_schema, random_secret
from proxy.sites import SiteSettings
from proxy.starter import starter, write_starter
from proxy.store.url import parse_url
from proxy.upstream.echo import EchoSettings
from proxy.upstream.n8n import N8nSettings

CANT_LISTEN = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}
Port = click.IntRange(1, 65_535)
config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path), help="The YAML file. Without it, the environment says it all."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sidegate")
def main() -> None:
    """Sidegate: the guard in front of n8n and LLM webhooks."""


@main.command()
@config_option
def serve(path: Path | None) -> None:
    """Serve until SIGTERM or SIGINT, then let running answers end. SIGHUP reads the configuration again."""
    spare: dict[Place, Secret] = {}
    try:
        loaded = load(path, spare=spare)
    except ConfigError as error:
        _tell(error.problems, err=True)
        click.echo(f"{len(error.problems)} to put right; nothing was started.", err=True)
        sys.exit(2)
    _tell(loaded.warnings, "warning: ", err=True)
    try:
        in_time = workers.serve(loaded, lambda: load(path, spare=spare))
    except (CantListen, workers.NotStarted) as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if in_time else 1)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=Port, default=8080, show_default=True)
@click.option("--ops-port", type=Port, default=9090, show_default=True)
def demo(host: str, port: int, ops_port: int) -> None:
    """Serve a chat page whose answers are echoes. No configuration, no workflow, nothing kept."""
    shown = host if is_loopback(host) else "localhost"
    shown = f"[{shown}]" if ":" in shown else shown
    _run(demo_settings(host, port, ops_port), banner=f"The chat page is at http://{shown}:{port}/ (Ctrl+C ends it).")


def demo_settings(host: str, port: int, ops_port: int) -> Settings:
    """On a loopback address only this computer's names are served: a page elsewhere can't make its own name mean us."""
    names = ("localhost", "127.0.0.1", "[::1]") if is_loopback(host) else ()
    return Settings(
        environment="development",
        listen=ListenSettings(host=host, port=port, allowed_hosts=names),
        ops=OpsSettings(port=ops_port),
        session=SessionSettings(key=random_secret()),
        upstreams={"echo": EchoSettings(kind="echo")},
        sites={"demo": SiteSettings(upstream="echo", page=True)},
    )


@main.command("check-config")
@config_option
def check_config(path: Path | None) -> None:
    """Say what is wrong with a configuration, or what it means. Nothing is started, nothing is called."""
    try:
        loaded = load(path)
    except ConfigError as error:
        _tell(error.problems)
        sys.exit(1)
    click.echo("The configuration is fine.")
    for line in summary(loaded.settings):
        click.echo(line)
    _tell(loaded.warnings, "warning: ")


def summary(settings: Settings) -> list[str]:
    """What the settings mean, without secrets."""
    lines = [
        f"{settings.environment}, on {settings.listen.host}:{settings.listen.port}"
        f" (ops {settings.ops.host}:{settings.ops.port}), state in {parse_url(settings.store.url.reveal()).kind}"
    ]
    for name, site in settings.sites.items():
        pages = [*site.origins, *(["its own chat page"] if site.page else [])]
        upstreams = ", ".join(site.weights)
        limits = ", ".join(f"{rule.limit} per {rule.per} in {rule.window:g} s" for rule in settings.site_limits(name))
        lines.append(f"site {name}: {', '.join(pages) or 'no page'} -> {upstreams}; limits: {limits or 'none'}")
    for name, upstream in settings.upstreams.items():
        lines.append(f"upstream {name}: {upstream.kind} {getattr(upstream, 'url', '')}".rstrip())
    return lines


@main.command()
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default=".", show_default=True)
@click.option("--origin", "origins", multiple=True, help="A page that may talk to it: https://shop.example")
@click.option("--n8n-url", default="http://n8n:5678/webhook/chat", show_default=True, help="The Webhook node's URL.")
def init(folder: Path, origins: tuple[str, ...], n8n_url: str) -> None:
    """Write a first configuration and two random keys. Never overwrites."""
    try:
        text = starter([normal_origin(origin) for origin in origins], N8nSettings(kind="n8n", url=n8n_url).url)
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"], param_hint="--n8n-url") from None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--origin") from None
    try:
        files = write_starter(folder, text)
    except FileExistsError as error:
        raise click.ClickException(f"{error} is there already; nothing was written. Choose another --dir.") from None
    except OSError as error:
        raise click.ClickException(f"{error.filename} can't be written: {error.strerror}") from None
    click.echo("\n".join(["Written:", *(f"  {file}" for file in files), "", "Next:"]))
    if not origins:
        click.echo(f"  - list your pages in sites.shop.origins of {files[0]}")
    click.echo(f"  - in n8n, give the Webhook node a JWT credential (HS256) with the key in {files[2]}")
    click.echo(f"  - sidegate check-config --config {files[0]}")
    click.echo(f"  - sidegate serve --config {files[0]}")


main.add_command(admin)
main.add_command(keys)


@main.command(hidden=True)
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


main.add_command(scan)


def _tell(problems: tuple[Problem, ...], before: str = "", *, err: bool = False) -> None:
    for problem in problems:
        click.echo(f"{before}{problem}", err=err)


def _run(settings: Settings, banner: str | None = None) -> None:
    try:
        app.run(settings, banner=banner)
    except OSError as error:
        if error.errno not in CANT_LISTEN and not isinstance(error, socket.gaierror):
            raise
        raise click.ClickException(f"can't listen: {error.strerror}") from None


if __name__ == "__main__":
    main(prog_name="sidegate")
