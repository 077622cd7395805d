"""Upstreams that follow a script, on real sockets, and a clock for the running event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.errors import UpstreamError
from proxy.model import Request, Upstream
from proxy.upstream import build
from proxy.upstream.n8n import N8nSettings
from tests.clients import request as some_request

DEADLINE = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def plain(body: bytes, head: bytes = OK) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def encoded(upstream: Upstream, request: Request) -> bytes:
    """The body of a message without files."""
    body = upstream.encode(request)
    assert isinstance(body, bytes)
    return body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class Heard:
    """One request, as it arrived."""

    start: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Connection:
    """One connection, after its request was read."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        """Each part in a write of its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the other side has closed; the deadline is the server's."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Connection], Awaitable[None]]


def says(*parts: bytes) -> Script:
    """Send this and close."""

    async def script(connection: Connection) -> None:
        await connection.send(*parts)

    return script


@dataclass
class Server:
    url: str = ""
    connections: int = 0
    heard: list[Heard] = field(default_factory=list)


@asynccontextmanager
async def serving(script: Script, *, requests: int = 1) -> AsyncIterator[Server]:
    """Run the script for each request; close a connection after that many. Leaving fails if a connection stays open."""
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        try:
            for _ in range(requests):
                server.heard.append(await _hear(reader))
                await script(Connection(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went first
        finally:
            writer.close()
            tasks.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/webhook/chat"
    try:
        yield server
    finally:
        listener.close()
        if tasks:
            _, open_still = await asyncio.wait(tasks, timeout=DEADLINE)
            assert not open_still, "the connection was left open"


async def _hear(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head.rstrip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines), "a header came twice"
    return Heard(start, headers, await reader.readexactly(int(headers["Content-Length"])))


def n8n(url: str, **given: Any) -> N8nSettings:  # Any: as a configuration file has them
    return N8nSettings(**{"kind": "n8n", "url": url} | given)


def owned(request: Request) -> str:
    return f"owned-{request.session.id}"


async def answer(upstream: Upstream, request: Request | None = None) -> tuple[str, UpstreamError | None]:
    """Everything that came, and how it ended."""
    request = request or some_request()
    text = ""
    try:
        async with asyncio.timeout(DEADLINE), upstream.open(request, upstream.encode(request), "tok.e.n") as pieces:
            async for piece in pieces:
                text += piece
    except UpstreamError as error:
        return text, error
    return text, None


async def ask(settings: N8nSettings, request: Request | None = None) -> tuple[str, UpstreamError | None]:
    async with build(settings, owned) as upstream:
        return await answer(upstream, request)


class LoopClock:
    """Moves the running loop's time: what waits for a timer doesn't have to wait for the time to pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        self._loop = asyncio.get_running_loop()
        real = self._loop.time
        monkeypatch.setattr(self._loop, "time", lambda: real() + self._ahead)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds

    def advance_soon(self, seconds: float) -> None:
        """Once the caller waits for something."""
        self._loop.call_soon(self.advance, seconds)
