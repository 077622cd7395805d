"""Answers as they come, over one HTTP response: server-sent events or newline-delimited JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, aclosing, suppress
from types import TracebackType

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from proxy.edge.events import as_ndjson, as_sse
from proxy.edge.rounds import Rounds
from proxy.edge.runner import forget_heads
from proxy.errors import ClientGone
from proxy.guard import limits
from proxy.streams.answer import Transcript
from proxy.wire import sse

NO_STORE = "no-store, no-transform"
PING = sse.comment("ping")
KEEPALIVE = b'{"type":"keepalive"}\n'


class Events(EventSourceResponse):
    """Without the library's own pings, which take a task and a timer for each connection: see Pings."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return await web.StreamResponse.prepare(self, request)

    async def write_eof(self, data: bytes = b"") -> None:
        await web.StreamResponse.write_eof(self, data)


def event_source() -> Events:
    response = Events(sep="\n", allow_all_methods=True)
    response.headers["Cache-Control"] = NO_STORE  # the library sets no-cache
    del response.headers["Connection"]  # and keep-alive, even where the client wants it closed
    return response


async def begin(http: web.Request, response: web.StreamResponse) -> None:
    """Send the head. Raises ClientGone."""
    try:
        await response.prepare(http)
    except ConnectionError as error:
        raise ClientGone from error
    forget_heads(http, response)


async def put(response: web.StreamResponse, data: bytes) -> None:
    """Write bytes that belong together. Raises ClientGone."""
    try:
        await response.write(data)
    except ConnectionError as error:
        raise ClientGone from error


class Pings:
    """Signs of life every so many seconds, on all streams of one listener."""

    def __init__(self, seconds: float) -> None:
        self._rounds = Rounds(seconds)

    def to(self, http: web.Request, response: web.StreamResponse, sign: bytes) -> AbstractContextManager[None]:
        """While this lasts, and the client reads, `sign` is written, between what else is."""
        return _Pinged(self._rounds, http, response, sign)


class _Pinged(AbstractContextManager[None]):
    """A class and no generator: each open stream has one."""

    __slots__ = ("_http", "_response", "_rounds", "_sign", "_turn")

    def __init__(self, rounds: Rounds, http: web.Request, response: web.StreamResponse, sign: bytes) -> None:
        self._rounds = rounds
        self._http = http
        self._response = response
        self._sign = sign
        self._turn = 0

    def __enter__(self) -> None:
        self._turn = self._rounds.join(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rounds.leave(self, self._turn)

    def visit(self) -> None:
        if self._http.protocol.writing_paused:
            return  # somebody waits to write, and has not been heard of for lack of reading
        writing = self._response.write(self._sign)
        with suppress(StopIteration, ConnectionError):  # whoever writes next notices that the client is gone
            writing.send(None)  # a write waits only where writing is paused, so that this is all of it
        writing.close()


class HttpStream(ABC):
    """One client listening to one answer. Headers go out with `begin`."""

    def __init__(self, http: web.Request, answer: Transcript, pings: Pings) -> None:
        self._http = http
        self._answer = answer
        self._pings = pings
        self.response = self._response()

    @abstractmethod
    def _response(self) -> web.StreamResponse: ...

    @abstractmethod
    async def relay(self, after: int) -> None:
        """Write all events behind number `after`, until the answer is over. Raises ClientGone."""

    async def begin(self) -> None:
        self.response.headers.update(limits.headers(self._answer.counts))
        await begin(self._http, self.response)


class SseStream(HttpStream):
    """https://html.spec.whatwg.org/multipage/server-sent-events.html, carried by aiohttp-sse.

    Events are written whole, by one write each: a ping may otherwise land inside one.
    """

    def _response(self) -> Events:
        return event_source()

    async def relay(self, after: int) -> None:
        response = self.response
        with self._pings.to(self._http, response, PING):
            async with aclosing(self._answer.follow(after)) as batches:
                if not self._answer.has_opened:
                    await put(response, sse.comment("waiting"))
                async for events in batches:
                    await put(response, as_sse(self._answer.id, events))


class NdjsonStream(HttpStream):
    """One JSON object a line. Signs of life are lines of type `keepalive`; like unknown types, ignore them."""

    def _response(self) -> web.StreamResponse:
        return web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": NO_STORE, "X-Accel-Buffering": "no"}
        )

    async def relay(self, after: int) -> None:
        with self._pings.to(self._http, self.response, KEEPALIVE):
            async with aclosing(self._answer.follow(after)) as batches:
                async for events in batches:
                    await put(self.response, as_ndjson(self._answer.id, events))
