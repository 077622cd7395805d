"""A real listener with the strict runner, and the raw bytes that go in and come out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from aiohttp import web

from proxy.edge.http1 import read_body
from proxy.edge.problem import problem
from proxy.edge.runner import make_runner
from proxy.errors import ProxyError

PATIENCE = 10.0  # seconds until a test that waits for something gives up
BASE_HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Listener:
    port: int
    server: web.Server

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def transcript(self, *pieces: bytes) -> bytes:
        """Send the pieces; return all that comes until the server has closed the connection."""
        async with self.connect() as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await until_closed(reader)

    async def exchange(self, *pieces: bytes) -> list[Answer]:
        return answers(await self.transcript(*pieces))

    async def is_idle(self) -> None:
        """Wait until no connection is left."""
        await eventually(lambda: not self.server.connections)

    async def silent_connection_ends(self) -> None:
        """A full header deadline passes."""
        async with self.connect() as (reader, _):
            assert await until_closed(reader) == b""


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await reader.read()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """One answer with a Content-Length, from a connection that stays open."""
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(_headers(head).get("content-length", "0"))
        return answers(head + await reader.readexactly(length))[0]


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, byte: bytes) -> bytes:
    """Send the byte again and again, without a pause that anything could count as idle. Returns what is answered."""
    async with asyncio.timeout(PATIENCE):
        while True:
            writer.write(byte)
            try:
                async with asyncio.timeout(0.01):
                    first = await reader.read(1)
            except TimeoutError:
                continue
            return first + await reader.read()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


def answers(data: bytes) -> list[Answer]:
    """Complete answers with a Content-Length, in order."""
    found = []
    while data:
        head, blank, data = data.partition(b"\r\n\r\n")
        assert blank, head
        version, status = head.split(b" ")[:2]
        assert version == b"HTTP/1.1" or version == b"HTTP/1.0"
        headers = _headers(head)
        length = int(headers.get("content-length", "0"))
        assert len(data) >= length
        found.append(Answer(int(status), headers, data[:length]))
        data = data[length:]
    return found


def _headers(head: bytes) -> dict[str, str]:
    fields = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return {name.decode().lower(): value.strip().decode() for name, _, value in fields}


@asynccontextmanager
async def listening(
    handler: Handler | None = None, *, header_timeout: float = PATIENCE, keepalive_timeout: float = PATIENCE
) -> AsyncIterator[Listener]:
    """One handler for every path and method; without one, the size of the body comes back."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler or size_of_body)
    runner = make_runner(
        app,
        header_timeout=header_timeout,
        keepalive_timeout=keepalive_timeout,
        base_headers=lambda: BASE_HEADERS,
        shutdown_timeout=1,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.server is not None
        yield Listener(site.port, runner.server)
    finally:
        await runner.cleanup()


async def size_of_body(http: web.Request) -> web.StreamResponse:
    return await answer_with_size(http, max_bytes=1_000_000, timeout=PATIENCE)


async def answer_with_size(http: web.Request, max_bytes: int, timeout: float) -> web.StreamResponse:  # noqa: ASYNC109
    try:
        body = await read_body(http, max_bytes, timeout)
    except ProxyError as error:
        return problem(error, "r")
    return web.json_response({"size": len(body)})


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def recorded() -> Iterator[list[logging.LogRecord]]:
    """Every line that any logger writes at INFO and above. (caplog can't be used beside hypothesis.)"""
    lines, root = _Lines(), logging.getLogger()
    level = root.level
    root.addHandler(lines)
    root.setLevel(logging.INFO)
    try:
        yield lines.records
    finally:
        root.setLevel(level)
        root.removeHandler(lines)
