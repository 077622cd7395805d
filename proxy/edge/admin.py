"""/admin/…, on the ops listener: what the owner of the sites looks at and ends. `sidegate admin` speaks to it.

Always asks for the ops token, also where nothing else on this listener does: without one it is closed, so that no
page in a browser on the same machine can use it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from aiohttp import web

from proxy.config import Secret
from proxy.dispatch import Dispatch
from proxy.edge.ops import authorise, json_response
from proxy.edge.read import REQUEST_ID
from proxy.errors import AuthRequired, BadRequest, NotFound, UpstreamUnavailable
from proxy.guard.presence import Presence
from proxy.guard.reputation import Reputation
from proxy.guard.revocation import LATER, Kind, Revocations
from proxy.guard.subjects import ip_key
from proxy.store import StoreDown
from proxy.telemetry import Metrics, audit

MOST = 1000  # in one answer
MOST_SECONDS = 31_536_000


class AdminEdge:
    def __init__(
        self,
        token: Secret | None,
        sites: Collection[str],
        revocations: Revocations,
        presence: Presence,
        reputation: Reputation,
        dispatch: Dispatch,
        metrics: Metrics,
    ) -> None:
        self._token = token
        self._sites = sites
        self._revocations = revocations
        self._presence = presence
        self._reputation = reputation
        self._dispatch = dispatch
        self._metrics = metrics

    async def sessions(self, http: web.Request) -> web.Response:
        """Those of a site, or of an owner there, that were seen of late, the last one first."""
        site = self._site(http)
        first, number = _number(http, "first", 0, 10_000_000), _number(http, "number", 100, MOST)
        found = await self._presence.listed(site, http.query.get("owner", ""), first, number)
        return json_response({"sessions": [asdict(known) for known in found]})

    async def end_session(self, http: web.Request) -> web.Response:
        return await self._end(http, self._site(http), "session", http.match_info["id"])

    async def end_sessions(self, http: web.Request) -> web.Response:
        """All of an `owner` or a `key`, or, with `all=true`, of the site, that have begun so far."""
        site = self._site(http)
        named = [name for name in ("owner", "key", "all") if http.query.get(name)]
        match named:
            case ["owner"]:
                return await self._end(http, site, "owner", http.query["owner"])
            case ["key"]:
                return await self._end(http, site, "key", http.query["key"])
            case ["all"] if http.query["all"] == "true":
                return await self._end(http, site, "site", "")
        raise BadRequest("whose sessions?", public="Write one of ?owner=…, ?key=… and ?all=true.")

    async def blocks(self, http: web.Request) -> web.Response:
        """Who is blocked now."""
        self._authorise(http)
        with unavailable():
            found = await self._reputation.blocks()
        return json_response({"blocks": [asdict(block) for block in found]})

    async def block(self, http: web.Request) -> web.Response:
        """An address or a session, for so many seconds."""
        self._authorise(http)
        subject, seconds = _subject(http), _number(http, "seconds", 3600, MOST_SECONDS)
        audit("BLOCKED", subject=subject, seconds=seconds, reason="admin", request_id=http[REQUEST_ID])
        with unavailable():
            await self._reputation.block(subject, seconds)
        return web.Response(status=204)

    async def unblock(self, http: web.Request) -> web.Response:
        self._authorise(http)
        subject = _subject(http)
        audit("UNBLOCKED", subject=subject, request_id=http[REQUEST_ID])
        with unavailable():
            await self._reputation.unblock(subject)
        return web.Response(status=204)

    async def letters(self, http: web.Request) -> web.Response:
        """Webhooks that were given up, the latest first, and how many wait."""
        self._authorise(http)
        number = _number(http, "number", 100, MOST)
        with unavailable():
            found, waiting = await self._dispatch.letters(number), await self._dispatch.waiting()
        return json_response({"waiting": waiting, "dead": [asdict(letter) for letter in found]})

    async def replay(self, http: web.Request) -> web.Response:
        """Let one of them run again."""
        self._authorise(http)
        name = http.match_info["id"]
        with unavailable():
            is_there = await self._dispatch.again(name)
        if not is_there:
            raise NotFound("no such dead webhook")
        audit("WEBHOOK_REPLAYED", id=name, request_id=http[REQUEST_ID])
        return web.Response(status=204)

    async def _end(self, http: web.Request, site: str, kind: Kind, value: str) -> web.Response:
        fields = {"session": value} if kind == "session" else {"by": kind}
        audit("SESSION_ENDED", reason="admin", site=site, **fields, request_id=http[REQUEST_ID])
        self._metrics.sessions_ended.labels(site, "admin").inc()
        await self._revocations.end_all(site, kind, value)
        return web.Response(status=204)

    def _authorise(self, http: web.Request) -> None:
        if self._token is None:
            raise AuthRequired("ops.token is not set", public="Set ops.token: without one this address is closed.")
        authorise(http, self._token)

    def _site(self, http: web.Request) -> str:
        """The one that is named, or the only one. Raises AuthRequired first of all."""
        self._authorise(http)
        site = http.query.get("site") or (next(iter(self._sites)) if len(self._sites) == 1 else "")
        if site not in self._sites:
            raise BadRequest("site names none", public="?site= must name one of the sites.")
        return site


@contextmanager
def unavailable() -> Iterator[None]:
    try:
        yield
    except StoreDown as down:
        raise UpstreamUnavailable(f"redis: {down}", retry_after=5, public=LATER) from down


def _subject(http: web.Request) -> str:
    """`ip:ADDRESS` or `session:SITE/ID`, as it is counted."""
    kind, _, name = http.match_info["subject"].partition(":")
    if kind == "ip" and (address := ip_key(name)) != "unknown":
        return f"ip:{address}"
    if kind == "session" and re.fullmatch(r"[a-z0-9_-]{1,64}/[A-Za-z0-9_.~-]{1,128}", name):
        return f"session:{name}"
    raise BadRequest("no subject", public="Write ip:ADDRESS or session:SITE/ID.")


def _number(http: web.Request, name: str, default: int, most: int) -> int:
    text = http.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= most):
        raise BadRequest(f"{name} is no number", public=f"?{name}= must be a number up to {most}.")
    return int(text)
