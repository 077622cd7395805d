"""POST /push, on the ops listener: whoever may sends to a session later. GET /v1/events: the session listens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import orjson
from aiohttp import web

from proxy.edge.chat import session_of
from proxy.edge.events import as_sse, number_after
from proxy.edge.live import Live
from proxy.edge.ops import json_response
from proxy.edge.read import REQUEST_ID, Reader
from proxy.edge.sse import PING, Events, Pings, begin, event_source, put
from proxy.errors import (
    BadRequest,
    Denied,
    Draining,
    ProxyError,
    SessionInvalid,
    SignatureInvalid,
    TooLarge,
)
from proxy.filters.chain import Chain
from proxy.filters.whole import filtered, filtered_text
from proxy.flow import Flow
from proxy.guard.connections import Connections
from proxy.guard.masking import Keeper
from proxy.guard.push import Pusher, Pushers
from proxy.guard.revocation import Revocations
from proxy.guard.shape import bounded
from proxy.model import Session
from proxy.streams import StreamSettings
from proxy.streams.answer import error_fields
from proxy.streams.event import Fields
from proxy.streams.push import CHANNEL, Address, Channels
from proxy.telemetry import Metrics, audit
from proxy.wire import sse

MAX_BYTES = 65_536
OWNED = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Outlet:
    """What `/push` needs to know of a site."""

    chain: Callable[[Mapping[str, str]], Chain]
    max_chars: int
    ttl: float  # seconds that a push is kept


class PushEdge:
    def __init__(
        self,
        pushers: Pushers,
        reader: Reader,
        channels: Channels,
        outlets: Mapping[str, Outlet],
        keeper: Keeper,
        metrics: Metrics,
    ) -> None:
        self._pushers = pushers
        self._reader = reader
        self._channels = channels
        self._outlets = outlets
        self._keeper = keeper
        self._metrics = metrics

    async def push(self, http: web.Request) -> web.Response:
        site = "none"
        try:
            pusher = self._pushers.identify(http.headers.get("Authorization"))
            fields = await self._reader.json(http, MAX_BYTES)
            site = self._site(pusher, fields)
            address = Address(site, _addressee(pusher, fields))
            outlet = self._outlets[site]
            chain = partial(outlet.chain, await self._keeper.values(site, address.owned))
            message = _message(fields, outlet, chain)
            await self._pushers.spend(pusher)
            sent = await self._channels.send(address, message, outlet.ttl)
        except ProxyError as error:
            self._metrics.pushes.labels(site, error.code).inc()
            if isinstance(error, Denied):
                self._metrics.denied.labels("push", error.code, "enforce").inc()
                audit(
                    "DENIED", stage="push", code=error.code, detail=error.detail,
                    request_id=http[REQUEST_ID], ip=http.remote,
                )  # fmt: skip
            raise
        self._metrics.pushes.labels(site, "delivered" if sent.delivered else "kept").inc()
        audit(
            "PUSH", site=site, session=address.owned, push=sent.id, chars=len(str(message["text"])),
            delivered=sent.delivered, request_id=http[REQUEST_ID],
        )  # fmt: skip
        return json_response({"id": sent.id, "delivered": sent.delivered}, status=202)

    def _site(self, pusher: Pusher, fields: Fields) -> str:
        """The token's; with the ops token the one that is named, or the only one."""
        if pusher.site is not None:
            return pusher.site
        named = fields.get("site", next(iter(self._outlets)) if len(self._outlets) == 1 else None)
        if not isinstance(named, str) or named not in self._outlets:
            raise BadRequest("site names none", public='The field "site" must name one of the sites.')
        return named


def _addressee(pusher: Pusher, fields: Fields) -> str:
    owned = fields.get("sessionId")
    if not isinstance(owned, str) or not OWNED.fullmatch(owned):
        raise BadRequest(
            "no sessionId", public='The field "sessionId" must be the one that the workflow got: 64 hex digits.'
        )
    if pusher.owned is not None and pusher.owned != owned:
        raise SignatureInvalid("sub is another session", public="The token is for another session: see its sub.")
    return owned


def _message(fields: Fields, outlet: Outlet, chain: Callable[[], Chain]) -> Fields:
    """What may go out. Raises BadRequest, TooLarge or OutputBlocked."""
    text, data = fields.get("message"), fields.get("data")
    if not isinstance(text, str) or not text.strip():
        raise BadRequest("no message", public='The field "message" must be a text, and not an empty one.')
    if len(text) > outlet.max_chars:
        raise TooLarge(f"{len(text)} characters, {outlet.max_chars} are allowed")
    message: Fields = {"text": filtered_text(text, chain())}
    if data is not None:
        if not isinstance(data, dict):
            raise BadRequest("data is no object", public='The field "data" must be an object.')
        bounded(data, "data")
        message["data"] = filtered(data, chain)
    return message


class EventsEdge:
    """`owned` names a session as the upstream knows it."""

    def __init__(
        self,
        flow: Flow,
        reader: Reader,
        channels: Channels,
        streams: StreamSettings,
        live: Live,
        connections: Connections,
        owned: Callable[[Session], str],
        revocations: Revocations,
    ) -> None:
        self._flow = flow
        self._reader = reader
        self._channels = channels
        self._pings = Pings(streams.heartbeat)
        self._live = live
        self._connections = connections
        self._owned = owned
        self._revocations = revocations

    async def listen(self, http: web.Request) -> web.StreamResponse:
        client = await self._flow.admit(self._reader.client(http, "events"))
        after = number_after(http.headers.get("Last-Event-ID", http.query.get("after")), CHANNEL)
        session, counted = session_of(client), self._connections.one(client)
        del client  # with its credential and all that its head said: nothing of it is needed while the stream is open
        async with counted:
            return await self._listen(http, session, after)

    async def _listen(self, http: web.Request, session: Session, after: int) -> web.StreamResponse:
        response = event_source()
        with self._live.streaming(http):
            await begin(http, response)
            with self._pings.to(http, response, PING):
                await put(response, sse.comment("open"))
                try:
                    await self._relay(http, response, session, after)
                except (Draining, SessionInvalid) as error:
                    fields = orjson.dumps(error_fields(error, http[REQUEST_ID]))
                    await put(response, sse.event("error", fields))
        return response

    async def _relay(self, http: web.Request, response: Events, session: Session, after: int) -> None:
        """Until the client leaves, the session ends (SessionInvalid) or the process does (Draining)."""
        address = Address(session.site, self._owned(session))
        async with self._revocations.lasting(session), aclosing(self._channels.follow(address, after)) as batches:
            async for events in batches:
                await put(response, as_sse(CHANNEL, events))
