"""Answers as they come, over one HTTP response: server-sent events or newline-delimited JSON."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Annotated

import orjson
from aiohttp import web
from aiohttp_sse import EventSourceResponse
from pydantic import Field

from proxy.config import Section
from proxy.edge.events import EventSink, Fields
from proxy.edge.problem import problem
from proxy.errors import ClientGone, ProxyError
from proxy.guard import limits
from proxy.model import Request
from proxy.wire import sse

COMMIT_AFTER = 5.0  # seconds until the headers go out even though the upstream hasn't opened yet
STALLED_AFTER = 30.0  # seconds that a client may leave us blocked on a full socket
NO_STORE = "no-store, no-transform"


class StreamSettings(Section):
    """`heartbeat`: seconds of silence after which a sign of life is sent. Many edges cut idle connections at 60 s."""

    heartbeat: Annotated[float, Field(gt=0, le=15)] = 15


class HttpStream(EventSink):
    """Holds the status line back until the upstream opened, so that an early failure is a plain HTTP error."""

    def __init__(self, http: web.Request, request: Request, heartbeat: float) -> None:
        super().__init__(request)
        self._http = http
        self._heartbeat = heartbeat
        self._committing = asyncio.Lock()
        self.response: web.StreamResponse = self._response()

    @abstractmethod
    def _response(self) -> web.StreamResponse: ...

    @abstractmethod
    async def beat(self) -> None:
        """Keep a silent connection alive, from the commit on, until cancelled."""

    def admit(self, request: Request) -> None:
        super().admit(request)
        self.response.headers.update(limits.headers(request.counts))

    async def start(self) -> None:
        async with self._committing:
            if self.response.prepared:
                return
            try:
                await self.response.prepare(self._http)
            except ConnectionError as error:
                raise ClientGone from error
            await super().start()

    async def fail(self, error: ProxyError) -> None:
        if self.response.prepared:
            await super().fail(error)
        else:
            self.response = problem(error, self.request.id)

    @abstractmethod
    async def close(self) -> None:
        """End what the transport runs by itself."""

    async def accompany(self) -> None:
        """Commit the headers in time, then beat. Ends with its answer: whoever runs it cancels it."""
        await asyncio.sleep(COMMIT_AFTER)
        try:
            await self.start()
            await self.beat()
        except ClientGone:
            return  # the answer's own writing finds that out, too

    async def put(self, data: bytes) -> None:
        """Write bytes that belong together. A client that doesn't read is cut off after STALLED_AFTER."""
        try:
            if self._http.protocol.writing_paused:
                async with asyncio.timeout(STALLED_AFTER):
                    await self.response.write(data)
            else:
                await self.response.write(data)
        except TimeoutError as error:
            if self._http.transport is not None:
                self._http.transport.abort()
            raise ClientGone from error
        except ConnectionError as error:
            raise ClientGone from error


class SseStream(HttpStream):
    """https://html.spec.whatwg.org/multipage/server-sent-events.html, carried by aiohttp-sse.

    Events are written whole, by one write each: the library's ping may otherwise land inside one.
    """

    def _response(self) -> web.StreamResponse:
        response = EventSourceResponse(sep="\n", allow_all_methods=True, ping_interval=self._heartbeat)
        response.headers["Cache-Control"] = NO_STORE  # the library sets no-cache
        return response

    async def beat(self) -> None:
        await self.put(sse.comment("waiting"))  # from here on the library's ping keeps the connection alive

    async def write(self, name: str, fields: Fields, event_id: str) -> None:
        await self.put(sse.event(name, orjson.dumps(fields), event_id))

    async def close(self) -> None:
        """End the library's ping task."""
        if isinstance(self.response, EventSourceResponse) and self.response.prepared:
            self.response.stop_streaming()
            await self.response.wait()


class NdjsonStream(HttpStream):
    """One JSON object a line. Signs of life are lines of type `keepalive`; like unknown types, ignore them."""

    def _response(self) -> web.StreamResponse:
        return web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": NO_STORE, "X-Accel-Buffering": "no"}
        )

    async def beat(self) -> None:
        while True:
            await self.put(b'{"type":"keepalive"}\n')
            await asyncio.sleep(self._heartbeat)

    async def write(self, name: str, fields: Fields, event_id: str) -> None:
        await self.put(orjson.dumps({"type": name, "id": event_id, **fields}, option=orjson.OPT_APPEND_NEWLINE))

    async def close(self) -> None:
        """Nothing to end."""
