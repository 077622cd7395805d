"""`sidegate admin …`: asks the running server, on its ops listener, with the address and token of the configuration."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from proxy.config import ConfigError
from proxy.reading import load
from proxy.settings import Settings

TIMEOUT = 10.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - listens everywhere, so also here


@dataclass(frozen=True, slots=True)
class Server:
    """A running server's ops listener."""

    host: str
    port: int
    token: str

    def ask(self, method: str, path: str, **query: str | int | None) -> dict[str, Any]:  # Any: what the path answers
        """The JSON that it answers, empty without any. Raises click.ClickException with what to do."""
        said = {name: value for name, value in query.items() if value not in (None, "")}
        where = f"{path}?{urlencode(said)}" if said else path
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        try:
            connection.request(method, where, headers={"Authorization": f"Bearer {self.token}"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise click.ClickException(f"no answer from {self.host}:{self.port}: {reason}. Does it run?") from None
        finally:
            connection.close()
        answer: dict[str, Any] = json.loads(body) if body else {}
        if response.status >= 400:
            raise click.ClickException(f"{response.status} {answer.get('code', '')}: {answer.get('detail', '')}")
        return answer


def server_of(settings: Settings) -> Server:
    if settings.ops.token is None:
        raise click.ClickException("ops.token is not set; without it the server takes no such question.")
    return Server(ANYWHERE.get(settings.ops.host, settings.ops.host), settings.ops.port, settings.ops.token.reveal())


@click.group()
@click.option(
    "--config", "path", type=click.Path(path_type=Path), help="The YAML file. Without it, the environment says it all."
)
@click.pass_context
def admin(context: click.Context, path: Path | None) -> None:
    """Look at a running server, and change what it knows."""
    try:
        context.obj = server_of(load(path).settings)
    except ConfigError as error:
        raise click.ClickException("\n".join(map(str, error.problems))) from None


@admin.group()
def sessions() -> None:
    """Sessions that were seen within the last hour."""


site_option = click.option("--site", help="Which site; not needed where there is one.")


@sessions.command("list")
@site_option
@click.option("--owner", help="Of this owner alone.")
@click.option("--first", default=0, help="Pass over so many.", type=click.IntRange(0))
@click.option("--number", default=100, show_default=True, type=click.IntRange(1, 1000))
@click.pass_obj
def list_sessions(server: Server, site: str | None, owner: str | None, first: int, number: int) -> None:
    """The last seen first: id, when it was opened and seen, network, owner."""
    answer = server.ask("GET", "/admin/sessions", site=site, owner=owner, first=first, number=number)
    for known in answer["sessions"]:
        times = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(known[when])) for when in ("born", "seen"))
        click.echo(" ".join([known["id"], *times, known["network"], known["owner"] or "-"]))


@sessions.command("end")
@site_option
@click.argument("session_id", required=False)
@click.option("--owner", help="All sessions of this owner.")
@click.option("--key", help="All that were opened with this key: api_key:NAME, embed_key:NAME, jwt.")
@click.option("--all", "is_all", is_flag=True, help="All of the site.")
@click.pass_obj
def end_sessions(
    server: Server, site: str | None, session_id: str | None, owner: str | None, key: str | None, is_all: bool
) -> None:
    """End a session by its id, or all of an owner, a key or a site that have begun so far."""
    if sum(map(bool, (session_id, owner, key, is_all))) != 1:
        raise click.UsageError("Say one of: an id, --owner, --key, --all.")
    if session_id:
        server.ask("DELETE", f"/admin/sessions/{quote(session_id, safe='')}", site=site)
    else:
        server.ask("DELETE", "/admin/sessions", site=site, owner=owner, key=key, all="true" if is_all else None)
    click.echo("Ended, at every replica within a second.")


@admin.group()
def blocks() -> None:
    """Addresses and sessions that are refused for a while."""


@blocks.command("list")
@click.pass_obj
def list_blocks(server: Server) -> None:
    """Who is blocked, for how many seconds more, and whether by hand."""
    for block in server.ask("GET", "/admin/blocks")["blocks"]:
        click.echo(f"{block['subject']} {block['left']:.0f} {'by hand' if block['by_hand'] else 'by points'}")


@blocks.command("add")
@click.argument("subject")
@click.option("--seconds", default=3600, show_default=True, type=click.IntRange(1, 31_536_000))
@click.pass_obj
def add_block(server: Server, subject: str, seconds: int) -> None:
    """Block ip:ADDRESS or session:SITE/ID."""
    server.ask("PUT", f"/admin/blocks/{quote(subject, safe='/:')}", seconds=seconds)
    click.echo("Blocked, at every replica within a second.")


@blocks.command("remove")
@click.argument("subject")
@click.pass_obj
def remove_block(server: Server, subject: str) -> None:
    """Let it in again, and forget its points."""
    server.ask("DELETE", f"/admin/blocks/{quote(subject, safe='/:')}")
    click.echo("Forgotten, at every replica within a second.")


@admin.group()
def hooks() -> None:
    """Queued webhooks that were given up."""


@hooks.command("list")
@click.option("--number", default=100, show_default=True, type=click.IntRange(1, 1000))
@click.pass_obj
def list_hooks(server: Server, number: int) -> None:
    """The latest first: id, when it was given up, tries, bytes; then how many wait."""
    answer = server.ask("GET", "/admin/hooks", number=number)
    for letter in answer["dead"]:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(letter["at"]))
        click.echo(f"{letter['id']} {at} {letter['tries']} {letter['bytes']}")
    click.echo(f"{answer['waiting']} waiting")


@hooks.command("replay")
@click.argument("letter", required=False)
@click.option("--all", "is_all", is_flag=True, help="All of them, at most 1000.")
@click.pass_obj
def replay_hooks(server: Server, letter: str | None, is_all: bool) -> None:
    """Run one again by its id, or all."""
    if bool(letter) == is_all:
        raise click.UsageError("Say one of: an id, --all.")
    found = server.ask("GET", "/admin/hooks", number=1000)["dead"] if is_all else [{"id": letter or ""}]
    for each in found:
        server.ask("POST", f"/admin/hooks/{quote(each['id'], safe='')}")
    click.echo(f"{len(found)} due again.")
