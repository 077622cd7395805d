"""Answers as they come, over one HTTP response: server-sent events or newline-delimited JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import aclosing

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from proxy.edge.events import as_ndjson, as_sse
from proxy.errors import ClientGone
from proxy.guard import limits
from proxy.streams.answer import Event, Transcript
from proxy.wire import sse

NO_STORE = "no-store, no-transform"


def event_source(heartbeat: float) -> EventSourceResponse:
    response = EventSourceResponse(sep="\n", allow_all_methods=True, ping_interval=heartbeat)
    response.headers["Cache-Control"] = NO_STORE  # the library sets no-cache
    del response.headers["Connection"]  # and keep-alive, even where the client wants it closed
    return response


async def put(response: web.StreamResponse, data: bytes) -> None:
    """Write bytes that belong together. Raises ClientGone."""
    try:
        await response.write(data)
    except ConnectionError as error:
        raise ClientGone from error


class HttpStream(ABC):
    """One client listening to one answer. Headers go out with `begin`."""

    def __init__(self, http: web.Request, answer: Transcript, heartbeat: float) -> None:
        self._http = http
        self._answer = answer
        self._heartbeat = heartbeat
        self.response = self._response()

    @abstractmethod
    def _response(self) -> web.StreamResponse: ...

    @abstractmethod
    async def relay(self, after: int) -> None:
        """Write all events behind number `after`, until the answer is over. Raises ClientGone."""

    async def begin(self) -> None:
        self.response.headers.update(limits.headers(self._answer.counts))
        try:
            await self.response.prepare(self._http)
        except ConnectionError as error:
            raise ClientGone from error

    async def put(self, data: bytes) -> None:
        await put(self.response, data)


class SseStream(HttpStream):
    """https://html.spec.whatwg.org/multipage/server-sent-events.html, carried by aiohttp-sse.

    Events are written whole, by one write each: the library's ping may otherwise land inside one.
    """

    def _response(self) -> EventSourceResponse:
        return event_source(self._heartbeat)

    async def relay(self, after: int) -> None:
        response = self.response
        if not isinstance(response, EventSourceResponse):
            raise TypeError("an SSE stream has an SSE response")
        async with response, aclosing(self._answer.follow(after)) as batches:  # leaving ends the library's ping
            if not self._answer.has_opened:
                await self.put(sse.comment("waiting"))
            async for events in batches:
                await self.put(self._encode(events))

    def _encode(self, events: Sequence[Event]) -> bytes:
        return as_sse(self._answer.id, events)


class NdjsonStream(HttpStream):
    """One JSON object a line. Signs of life are lines of type `keepalive`; like unknown types, ignore them."""

    def _response(self) -> web.StreamResponse:
        return web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": NO_STORE, "X-Accel-Buffering": "no"}
        )

    async def relay(self, after: int) -> None:
        async with aclosing(self._answer.follow(after, self._heartbeat)) as batches:
            async for events in batches:
                await self.put(as_ndjson(self._answer.id, events) or b'{"type":"keepalive"}\n')
