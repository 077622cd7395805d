"""POST /v1/messages: one message, its answer in the form that Accept asks for."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

import orjson
from aiohttp import web

from proxy.edge.live import Live
from proxy.edge.problem import problem
from proxy.edge.read import Reader, message
from proxy.edge.sse import HttpStream, NdjsonStream, SseStream, StreamSettings
from proxy.errors import Draining, ProxyError
from proxy.flow import Flow
from proxy.guard import limits
from proxy.model import Client, Message, Request

EVENT_STREAM, JSON, NDJSON = "text/event-stream", "application/json", "application/x-ndjson"


class ChatEdge:
    def __init__(self, flow: Flow, reader: Reader, streams: StreamSettings, live: Live) -> None:
        self._flow = flow
        self._reader = reader
        self._heartbeat = streams.heartbeat
        self._live = live

    async def handle(self, http: web.Request) -> web.StreamResponse:
        client = await self._flow.admit(self._reader.client(http, "messages"))
        request = new_request(client, message(await self._reader.json(http)), client.request_id)
        form = wanted(http.headers.getall("Accept", ()))
        if form == JSON:
            return await self._collect(request)
        stream_type = SseStream if form == EVENT_STREAM else NdjsonStream
        return await self._stream(request, stream_type(http, request, self._heartbeat))

    async def _collect(self, request: Request) -> web.StreamResponse:
        sink = Collected(request)
        try:
            async with asyncio.TaskGroup() as tasks:
                drained = tasks.create_task(self._live.drained())  # ends with the answer, below
                await self._flow.answer(request, sink)
                drained.cancel()
        except* Draining as errors:
            await sink.fail(Draining(str(errors)))
        return sink.response

    async def _stream(self, request: Request, sink: HttpStream) -> web.StreamResponse:
        with self._live.streaming():
            try:
                async with asyncio.TaskGroup() as tasks:
                    company = [tasks.create_task(sink.accompany()), tasks.create_task(self._live.drained())]
                    await self._flow.answer(request, sink)
                    for task in company:  # both end with the answer
                        task.cancel()
            except* Draining as errors:
                await sink.fail(Draining(str(errors)))
            finally:
                await sink.close()
        return sink.response


class Collected:
    """Gathers the whole answer into one JSON object. The filters bound its length."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pieces: list[str] = []
        self.response: web.StreamResponse = web.Response()  # nobody sees it: the flow always ends in done or fail

    def admit(self, request: Request) -> None:
        self._request = request

    async def start(self) -> None:
        """Nothing goes out before the end."""

    async def send(self, text: str) -> None:
        self._pieces.append(text)

    async def done(self) -> None:
        self.response = web.Response(
            body=orjson.dumps({"answer_id": self._request.answer_id, "text": "".join(self._pieces)}),
            content_type=JSON,
            headers=limits.headers(self._request.counts),
        )

    async def fail(self, error: ProxyError) -> None:
        self.response = problem(error, self._request.id)
        self.response.headers.update(limits.headers(self._request.counts))


def new_request(client: Client, message: Message, request_id: str) -> Request:
    """A message of an admitted client, as the flow takes it."""
    if client.site is None or client.session is None:
        raise ProxyError("an admitted client has a site and a session")
    return Request(request_id, secrets.token_urlsafe(18), client, client.site, client.session, message)


def wanted(accept: tuple[str, ...] | list[str]) -> str:
    """Which of our three forms an Accept header prefers (RFC 9110 section 12.5.1); events where it doesn't say."""
    ranges: list[tuple[float, str]] = []
    for part in ",".join(accept).split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        with suppress(ValueError):
            ranges.append((float(weight), media))
    for quality, media in sorted(ranges, key=lambda pair: -pair[0]):
        if quality > 0 and media in (EVENT_STREAM, JSON, NDJSON):
            return media
        if quality > 0 and media in ("*/*", "text/*"):
            return EVENT_STREAM
        if quality > 0 and media == "application/*":
            return JSON
    return EVENT_STREAM
