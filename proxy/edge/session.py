"""/v1/session, /v1/session/refresh, /v1/session/ticket: how a visitor becomes known, stays so, and leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from proxy.edge.ops import json_response
from proxy.edge.read import Reader
from proxy.errors import BadRequest, Denied, SessionInvalid
from proxy.flow import Flow
from proxy.guard.failures import Failures
from proxy.guard.session import TICKET_SECONDS, Issued, Sessions, SessionSettings
from proxy.model import Client
from proxy.telemetry import Metrics, audit


class SessionEdge:
    """`offers`: by site what its visitors may send as files, where they may. `secure`: cookies only over TLS, as in
    production; also in development where the cookie's name asks for it."""

    def __init__(
        self,
        flow: Flow,
        reader: Reader,
        sessions: Sessions,
        failures: Failures,
        settings: SessionSettings,
        metrics: Metrics,
        offers: Mapping[str, Mapping[str, object]],
        *,
        secure: bool,
    ) -> None:
        self._flow = flow
        self._reader = reader
        self._sessions = sessions
        self._failures = failures
        self._settings = settings
        self._metrics = metrics
        self._offers = offers
        self._secure = secure or settings.cookie_name.startswith(("__Host-", "__Secure-"))

    async def open(self, http: web.Request) -> web.Response:
        client = await self._flow.admit(self._reader.client(http, "session"))
        if client.site is None:
            raise BadRequest("the site is not clear")
        with self._counted(client, "opening"):
            issued = await self._sessions.open(client, client.site)
        self._metrics.sessions_opened.labels(client.site.name).inc()
        audit(
            "SESSION_OPENED",
            site=client.site.name,
            session=issued.session.id,
            key=issued.session.key,
            ip=client.ip,
            request_id=client.request_id,
        )
        return self._answer(issued)

    async def refresh(self, http: web.Request) -> web.Response:
        client = await self._flow.admit(self._reader.client(http, "refresh"))
        token = (await self._reader.json(http)).get("refresh_token")
        if not isinstance(token, str):
            raise BadRequest("no refresh_token", public='The field "refresh_token" must be a string.')
        with self._counted(client, "refresh"):
            async with self._failures.watching(client, token):
                return self._answer(await self._sessions.refresh(client, token))

    async def ticket(self, http: web.Request) -> web.Response:
        client = await self._flow.admit(self._reader.client(http, "ticket"))
        if client.session is None or client.credential is None or client.credential.kind == "ticket":
            raise SessionInvalid("a ticket is no credential for another")
        return json_response({"ticket": self._sessions.ticket(client.session), "expires_in": TICKET_SECONDS})

    async def close(self, http: web.Request) -> web.Response:
        """All tokens of the session end, everywhere. Raises UpstreamUnavailable where that was not written down."""
        client = await self._flow.admit(self._reader.client(http, "end"))
        if client.session is None or client.credential is None or client.credential.kind == "ticket":
            raise SessionInvalid("a ticket ends no session")
        await self._sessions.end(client.session, "visitor")
        return self._with_cookie(web.Response(status=204), "", 0)

    @contextmanager
    def _counted(self, client: Client, stage: str) -> Iterator[None]:
        """What is refused behind the guard's stages is counted and told like what they refuse."""
        try:
            yield
        except Denied as denied:
            self._metrics.denied.labels(stage, denied.code, "enforce").inc()
            audit(
                "DENIED", stage=stage, code=denied.code, detail=denied.detail,
                request_id=client.request_id, ip=client.ip,
            )  # fmt: skip
            raise

    def _answer(self, issued: Issued) -> web.Response:
        fields: dict[str, object] = {
            "session_id": issued.session.id,
            "access_token": issued.access_token,
            "expires_in": issued.expires_in,
            "refresh_token": issued.refresh_token,
            "refresh_expires_in": issued.refresh_expires_in,
        }
        if (offer := self._offers.get(issued.session.site)) is not None:
            fields["uploads"] = offer
        if self._settings.cookie:
            fields["csrf_token"] = self._sessions.csrf(issued.session)
        return self._with_cookie(json_response(fields), issued.cookie, issued.cookie_expires_in)

    def _with_cookie(self, response: web.Response, value: str, seconds: int) -> web.Response:
        """Where cookies are on. For this host alone (no Domain), so that no sibling domain sees it."""
        if self._settings.cookie:
            # By hand: Python's http.cookies knows no Partitioned (https://www.rfc-editor.org/rfc/rfc6265, CHIPS draft).
            secure, rest = "; Secure" if self._secure else "", "; SameSite=Lax"
            if self._settings.cookie_embedded:
                secure, rest = "; Secure", "; SameSite=None; Partitioned"
            cookie = f"{self._settings.cookie_name}={value}; Max-Age={seconds}; Path=/; HttpOnly{secure}{rest}"
            response.headers.add("Set-Cookie", cookie)
        return response
