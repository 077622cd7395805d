"""Who asks: visitors with an address and, at Sidegate, a session of their own, as a browser's headers show them."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

import orjson

from scripts.benchmarks.servers import ORIGIN, Server
from scripts.benchmarks.traffic import QUESTION, Client, Lane

BROWSER = {
    "Origin": ORIGIN,
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
    "Accept-Language": "de-DE,de;q=0.9,en;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "cors",
    "Referer": f"{ORIGIN}/",
}
JSON, EVENTS = "application/json", "text/event-stream"
SOCKET_SECONDS = 10.0


def address(number: int) -> str:
    """One of the many addresses of the loopback interface: limits and caps per address see visitors, not one crowd."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def request(server: Server, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}"]
    lines += [f"{name}: {value}" for name, value in (BROWSER | headers).items()]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def authorization(server: Server, number: int) -> dict[str, str]:
    """A session of this visitor's, where the server wants one."""
    if not server.has_sessions:
        return {}
    opening = request(server, "POST", "/v1/session", {"Connection": "close"})
    async with asyncio.timeout(SOCKET_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address(number), 0))
        writer.write(opening)
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"no session: {answer[:1000]!r}")
    return {"Authorization": f"Bearer {orjson.loads(body)['access_token']}"}


async def visit(server: Server, lane: Lane, accept: str, number: int) -> Client:
    """A connected client, which has not asked anything yet."""
    body = orjson.dumps({"message": QUESTION + lane.name})
    asks = request(server, "POST", server.path, {"Accept": accept} | await authorization(server, number), body)
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Client(lane, asks), "127.0.0.1", server.port, local_addr=(address(number), 0)
    )
    return client


@asynccontextmanager
async def visitors(server: Server, lanes: Iterable[Lane], accept: str) -> AsyncIterator[list[Client]]:
    """One client for each lane; their connections end with the block."""
    clients: list[Client] = []
    try:
        for number, lane in enumerate(lanes):
            clients.append(await visit(server, lane, accept, number))
        yield clients
    finally:
        for client in clients:
            client.close()


class _Idle(asyncio.Protocol):
    """An open stream, or an open WebSocket that only answers pings (RFC 6455 section 5.5.3)."""

    def __init__(self, handshake: bytes, status: bytes) -> None:
        self._handshake = handshake
        self._status = status
        self._answer = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's, which doesn't say that it is one
        self._transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            if data[0] == 0x89:  # a ping, and servers here send it empty; no line of a stream begins so
                self._transport.write(b"\x8a\x80\x00\x00\x00\x00")
            return
        self._answer += data
        if b"\r\n\r\n" not in self._answer:
            return
        if self._answer.startswith(b"HTTP/1.1 " + self._status):
            self.opened.set_result(None)
        else:
            self.opened.set_exception(RuntimeError(f"refused: {self._answer[:1000]!r}"))
        self._answer = b""


async def open_socket(server: Server, number: int) -> asyncio.Transport:
    """An idle WebSocket of this visitor's."""
    headers = await authorization(server, number) | {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Protocol": "sidegate.v1",
    }
    return await _open(server, number, request(server, "GET", server.websocket, headers), b"101 ")


async def open_events(server: Server, number: int) -> asyncio.Transport:
    """An idle event channel of this visitor's."""
    headers = await authorization(server, number) | {"Accept": EVENTS}
    return await _open(server, number, request(server, "GET", server.events, headers), b"200 ")


async def _open(server: Server, number: int, handshake: bytes, status: bytes) -> asyncio.Transport:
    transport, idle = await asyncio.get_running_loop().create_connection(
        lambda: _Idle(handshake, status), "127.0.0.1", server.port, local_addr=(address(number), 0)
    )
    async with asyncio.timeout(SOCKET_SECONDS):
        await idle.opened
    return transport
