"""GET /v1/ws: one WebSocket, many messages, their answers one after another.

We keep reading while an answer is under way, so that a client that leaves or says stop is noticed at once, and the
upstream stops working for nobody. What it stops: cross-site sockets and sockets without a session, both before the
upgrade. What it doesn't: unmasked frames pass, which harms no one but a broken intermediary.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from proxy.edge.chat import new_request
from proxy.edge.events import EventSink, Fields, error_fields
from proxy.edge.live import Live
from proxy.edge.read import Reader, json_object, message
from proxy.edge.sse import StreamSettings
from proxy.errors import BadRequest, ClientGone, Conflict, Draining, ProxyError, SessionInvalid, UpgradeRequired
from proxy.flow import Flow
from proxy.model import Client, Request

PROTOCOL = "sidegate.v1"
MAX_WAITING = 8  # messages that may wait for the one being answered
MAX_ID_CHARS = 64


class WebSocketEdge:
    def __init__(
        self, flow: Flow, reader: Reader, streams: StreamSettings, live: Live, *, max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._flow = flow
        self._reader = reader
        self._heartbeat = streams.heartbeat
        self._live = live
        self._max_bytes = max_bytes
        self._clock = clock

    async def handle(self, http: web.Request) -> web.StreamResponse:
        if http.headers.get("Upgrade", "").lower() != "websocket":
            raise UpgradeRequired("no WebSocket handshake")
        client = await self._flow.admit(self._reader.client(http, "ws"))  # refused before upgrading
        socket = web.WebSocketResponse(
            protocols=(PROTOCOL,), heartbeat=self._heartbeat, max_msg_size=self._max_bytes,
            compress=False,  # would cost 90 KiB for each connection instead of 17
        )  # fmt: skip
        await socket.prepare(http)
        with self._live.socket():
            await _Conversation(socket, client, self._flow, self._live, self._clock).run()
        return socket


class _Conversation:
    """One open socket."""

    def __init__(
        self, socket: web.WebSocketResponse, client: Client, flow: Flow, live: Live, clock: Callable[[], float]
    ) -> None:
        self._socket = socket
        self._client = client
        self._flow = flow
        self._live = live
        self._clock = clock
        self._waiting: asyncio.Queue[Request] = asyncio.Queue(MAX_WAITING)
        self._current: tuple[Request, asyncio.Task[None]] | None = None
        self._reply_to: dict[str, str] = {}

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [tasks.create_task(self._answer(tasks)), tasks.create_task(self._live.drained())]
                await self._read()
                for task in helpers:  # the client is gone: nobody is left to answer
                    task.cancel()
                if self._current is not None:
                    self._current[1].cancel()
        except* Draining as errors:
            await self._refuse(Draining(str(errors)), "", None)

    async def _read(self) -> None:
        async for frame in self._socket:
            if frame.type is not WSMsgType.TEXT:
                await self._socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"text frames only")
                return
            request_id = uuid.uuid4().hex
            reply_to: str | None = None
            try:
                fields = json_object(frame.data)
                reply_to = _frame_id(fields)
                await self._take(fields, request_id, reply_to)
            except ProxyError as error:
                await self._refuse(error, request_id, reply_to)
            except ClientGone:
                return

    async def _take(self, fields: Fields, request_id: str, reply_to: str | None) -> None:
        match fields.get("type"):
            case "message":
                self._enqueue(fields, request_id, reply_to)
            case "stop":
                self._stop(fields)
            case "ping":
                pong: Fields = {"type": "pong"}
                await self._write(pong if reply_to is None else pong | {"reply_to": reply_to})
            case _:
                raise BadRequest("unknown frame type", public='"type" must be one of message, stop, ping.')

    def _enqueue(self, fields: Fields, request_id: str, reply_to: str | None) -> None:
        session = self._client.session
        if session is None or self._clock() >= session.ends:
            raise SessionInvalid("the session ended while the socket was open")
        request = new_request(self._client, message(fields), request_id)
        try:
            self._waiting.put_nowait(request)
        except asyncio.QueueFull:
            raise Conflict(f"{MAX_WAITING} messages are waiting already") from None
        if reply_to is not None:
            self._reply_to[request.id] = reply_to

    async def _answer(self, tasks: asyncio.TaskGroup) -> None:
        """Answer what waits, in order. Ends when the socket's reading ends."""
        while True:
            request = await self._waiting.get()
            sink = WebSocketSink(self._socket, request, self._reply_to.pop(request.id, None))
            task = tasks.create_task(self._flow.answer(request, sink))
            self._current = (request, task)
            await asyncio.wait([task])  # the flow's timeouts end it; so does `stop`
            self._current = None
            if task.cancelled():
                with suppress(ClientGone):
                    await sink.stopped()

    def _stop(self, fields: Fields) -> None:
        answer_id = fields.get("answer_id")
        if self._current is None or self._current[0].answer_id != answer_id:
            raise BadRequest("no such answer", public="That answer is not running.")
        self._current[1].cancel()

    async def _refuse(self, error: ProxyError, request_id: str, reply_to: str | None) -> None:
        fields: Fields = {"type": "error", **error_fields(error, request_id)}
        if reply_to is not None:
            fields["reply_to"] = reply_to
        with suppress(ClientGone):
            await self._write(fields)
        if error.close is not None:
            await self._socket.close(code=error.close, message=error.code.encode())

    async def _write(self, fields: Fields) -> None:
        await _write(self._socket, fields)


class WebSocketSink(EventSink):
    """Answers as frames. `reply_to` is the `id` of the client's message."""

    def __init__(self, socket: web.WebSocketResponse, request: Request, reply_to: str | None) -> None:
        super().__init__(request)
        self._socket = socket
        self._reply_to = {} if reply_to is None else {"reply_to": reply_to}

    async def stopped(self) -> None:
        """The client said stop: the answer ends here, and that is no failure."""
        fields: Fields = {"answer_id": self.request.answer_id, "stopped": True}
        await self._emit("done", fields)

    async def fail(self, error: ProxyError) -> None:
        await super().fail(error)
        if error.close is not None:
            await self._socket.close(code=error.close, message=error.code.encode())

    async def write(self, name: str, fields: Fields, event_id: str) -> None:
        answer_id = self.request.answer_id
        await _write(self._socket, {"type": name, "id": event_id, "answer_id": answer_id, **fields, **self._reply_to})


async def _write(socket: web.WebSocketResponse, fields: Fields) -> None:
    try:
        await socket.send_str(orjson.dumps(fields).decode())
    except (ConnectionError, RuntimeError) as error:  # RuntimeError: it is closing already
        raise ClientGone from error


def _frame_id(fields: Fields) -> str | None:
    frame_id = fields.get("id")
    if frame_id is None:
        return None
    if not isinstance(frame_id, str) or len(frame_id) > MAX_ID_CHARS:
        raise BadRequest("frame id", public=f'"id" must be a string of at most {MAX_ID_CHARS} characters.')
    return frame_id
