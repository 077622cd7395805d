"""An n8n, over a real socket, whose executions ask their visitor back as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import WSMsgType, web

from tests.sidegate import Visitor, sidegate

STARTED = {"executionStarted": True, "executionId": "49", "resumeToken": "d5" * 32}
HEARTBEAT = "n8n|heartbeat"
DONE = "n8n|done"  # in a script: it closes, as when the execution has ended
Talking = Callable[["N8n", web.WebSocketResponse], Awaitable[None]]


async def asks(n8n: N8n, socket: web.WebSocketResponse) -> None:
    """As n8n does: a heartbeat first, then what `frames` has."""
    await socket.send_str(HEARTBEAT)
    while (frame := await n8n.frames.get()) != DONE:
        await socket.send_str(frame)


@dataclass
class N8n:
    """`talk` is what it does with a WebSocket; `answers` what a button gets."""

    talk: Talking = asks
    started: Any = field(default_factory=lambda: dict(STARTED))  # Any: what hostile ones answer
    button: tuple[int, str] = (200, "<html>Got it, inner-secret</html>")
    port: int = 0
    frames: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    heard: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    asked: list[dict[str, Any]] = field(default_factory=list)
    opened: list[tuple[dict[str, str], dict[str, str]]] = field(default_factory=list)  # query, headers
    pressed: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # method and target, headers
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    delay: asyncio.Event | None = None  # before it answers a button

    async def start(self, http: web.Request) -> web.Response:
        self.asked.append(await http.json())
        return web.Response(body=orjson.dumps(self.started), content_type="application/json")

    async def chat(self, http: web.Request) -> web.StreamResponse:
        self.opened.append((dict(http.query), dict(http.headers)))
        self.gone.clear()
        socket = web.WebSocketResponse(max_msg_size=16 * 1024 * 1024)
        await socket.prepare(http)
        try:
            async with asyncio.TaskGroup() as tasks:
                talking = tasks.create_task(self._talk(socket))
                async for frame in socket:
                    if frame.type is WSMsgType.TEXT:
                        self.heard.put_nowait(frame.data)
                talking.cancel()
        finally:
            self.gone.set()
        return socket

    async def _talk(self, socket: web.WebSocketResponse) -> None:
        await self.talk(self, socket)
        await socket.close()

    async def wait(self, http: web.Request) -> web.Response:
        self.pressed.append((f"{http.method} {http.path_qs}", dict(http.headers)))
        if self.delay is not None:
            await self.delay.wait()  # who asked gives up
        status, body = self.button
        headers = {"Location": f"http://127.0.0.1:{self.port}/stolen"} if status == 307 else {}
        return web.Response(status=status, text=body, headers=headers | {"X-Inner": "inner-secret"})

    def question(self, text: str = "Do you approve?", *buttons: tuple[str, str], **more: object) -> str:
        """A frame with buttons: captions and links."""
        made = [{"text": caption, "link": link, "type": "primary"} for caption, link in buttons]
        return orjson.dumps({"type": "with-buttons", "text": text, "buttons": made} | more).decode()

    def link(self, approved: str = "true", execution: str = "49") -> str:
        """As n8n writes it, whatever its WEBHOOK_URL is."""
        signature = "bd" * 32
        place = f"webhook-waiting/{execution}/n-approve?approved={approved}&signature={signature}"
        return f"https://n8n.internal:5678/{place}"

    async def words(self) -> dict[str, Any]:
        """The next thing that was said to it, heartbeats apart."""
        async with asyncio.timeout(10):
            while (frame := await self.heard.get()).endswith("heartbeat-ack") or "heartbeat-ack" in frame:
                pass
        said: dict[str, Any] = orjson.loads(frame)
        return said


@asynccontextmanager
async def asking(n8n: N8n, **sections: Any) -> AsyncIterator[Visitor]:  # Any: configuration as written
    """A Sidegate in front of it."""
    application = web.Application()
    application.router.add_post("/webhook/chat", n8n.start)
    application.router.add_get("/chat", n8n.chat)
    application.router.add_route("*", "/webhook-waiting/{path:.*}", n8n.wait)
    runner = web.AppRunner(application, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    n8n.port = runner.addresses[0][1]
    upstream = {"kind": "n8n", "url": f"http://127.0.0.1:{n8n.port}/webhook/chat", "auth": "none"}
    upstream |= sections.pop("upstream", {})
    try:
        async with sidegate(upstream, **sections) as visitor:
            yield visitor
    finally:
        await runner.cleanup()


async def begin(visitor: Visitor, text: str = "hello", session: str = "v1", **headers: str) -> dict[str, str]:
    """The widget's message, and with what it comes back: its query."""
    fields = {"action": "sendMessage", "sessionId": session, "chatInput": text}
    url = f"{visitor.url}/chat/shop"
    async with visitor.http.post(url, json=fields, headers=visitor.headers | headers) as response:
        started = await response.json()
        assert response.status == 200, started
    assert started.keys() == {"executionStarted", "executionId", "resumeToken"}
    query = {"sessionId": session, "executionId": started["executionId"], "token": started["resumeToken"]}
    return query | {"isPublic": "true"}


@asynccontextmanager
async def chat(visitor: Visitor, query: dict[str, str], **headers: str) -> AsyncIterator[Chat]:
    url = f"{visitor.url}/chat"
    async with visitor.http.ws_connect(url, params=query, headers=visitor.headers | headers) as socket:
        yield Chat(socket)


async def refused(visitor: Visitor, query: dict[str, str], **headers: str) -> int:
    """The status of the handshake."""
    try:
        async with chat(visitor, query, **headers):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


class Chat:
    """The widget's side of the WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.beats = 0

    async def next(self) -> Any:
        """The next frame but heartbeats: text, an object, or the close code."""
        while True:
            frame = await self.socket.receive(10)
            if frame.type is not WSMsgType.TEXT:
                return self.socket.close_code
            if frame.data != HEARTBEAT:
                return orjson.loads(frame.data) if frame.data.startswith("{") else frame.data
            self.beats += 1
            await self.socket.send_str("n8n|heartbeat-ack")

    async def say(self, text: str, **more: object) -> None:
        fields = {"sessionId": "v1", "action": "sendMessage", "chatInput": text, "files": []}
        await self.socket.send_str(orjson.dumps(fields | more).decode())
