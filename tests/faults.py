"""A TCP proxy in front of an upstream that spoils what passes, and the ways in which it does."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.upstreams import HEAD, LAST, chunk

MIB = 1024 * 1024
FIRST = "half "  # of an answer; faults in mid-stream come behind it


@dataclass
class Proxy:
    port: int
    go: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0  # bytes, towards who asked

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhook/chat"


@dataclass
class Wire:
    """One connection through the proxy. Nothing waits longer than the test that made it."""

    reader: asyncio.StreamReader  # from who asks
    writer: asyncio.StreamWriter
    back: asyncio.StreamReader  # from who answers
    forth: asyncio.StreamWriter
    proxy: Proxy

    async def request(self) -> None:
        """Let one request through."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.forth.write(head + await self.reader.readexactly(int(length.partition(b":")[2])))
        await self.forth.drain()

    async def head(self) -> bytes:
        return await self.back.readuntil(b"\r\n\r\n")

    async def first(self) -> None:
        """Let the request through, and the answer up to its first text; wait until that has arrived."""
        await self.request()
        text = await self.head() + await self.back.readuntil(FIRST.encode()) + await self.back.readuntil(b"\n\r\n")
        await self.send(text)
        await self.proxy.go.wait()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.proxy.sent += len(data)

    async def rest(self) -> None:
        await self.send(await self.back.readuntil(b"\r\n0\r\n\r\n"))

    async def gone(self) -> None:
        """Until who asked has closed."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Fault = Callable[[Wire], Awaitable[None]]


async def black_hole(wire: Wire) -> None:
    await wire.gone()


async def slow_first_byte(wire: Wire) -> None:
    await wire.request()
    await wire.send(await wire.head())
    await wire.gone()


async def stall(wire: Wire) -> None:
    await wire.first()
    await wire.gone()


async def reset_early(wire: Wire) -> None:
    await wire.request()
    wire.reset()


async def reset(wire: Wire) -> None:
    await wire.first()
    wire.reset()


async def half_close_early(wire: Wire) -> None:
    await wire.request()
    wire.writer.write_eof()
    await wire.gone()


async def half_close(wire: Wire) -> None:
    await wire.first()
    wire.writer.write_eof()
    await wire.gone()


async def garbage_early(wire: Wire) -> None:
    await wire.request()
    await wire.send(bytes(range(256)) * 4)
    await wire.gone()


async def garbage(wire: Wire) -> None:
    await wire.first()
    await wire.send(bytes(range(256)) * 4)
    await wire.gone()


async def garbage_in_a_chunk(wire: Wire) -> None:
    await wire.first()
    await wire.send(chunk(b"\x00\xff}{\n"))
    await wire.gone()


async def endless_head(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    await flood(wire, b"x" * 65536)


async def endless_line(wire: Wire) -> None:
    await wire.first()
    await flood(wire, chunk(b"x" * 65536))


async def truncated_chunk(wire: Wire) -> None:
    await wire.first()
    await wire.send(b"ff\r\n" + b'{"type":"item","content":"not all of')
    wire.writer.close()


async def wrong_content_type(wire: Wire) -> None:
    await wire.request()
    await wire.send((await wire.head()).replace(b"application/json", b"text/html"))
    await wire.rest()


async def picture(wire: Wire) -> None:
    await wire.request()
    await wire.send((await wire.head()).replace(b"application/json; charset=utf-8", b"image/png"))
    await wire.rest()


async def page(wire: Wire) -> None:
    """What a proxy on the way says of its troubles, as if that were the answer."""
    await wire.request()
    await wire.head()
    head = HEAD.replace(b"application/json", b"text/html")
    await wire.send(head + chunk(b"<!DOCTYPE html>\n<title>Please wait</title>") + LAST)


async def huge_document(wire: Wire) -> None:
    """One JSON document of 1 GiB."""
    await wire.request()
    await wire.send(HEAD + chunk(b'{"output":"'))
    await flood(wire, chunk(b"x" * 65536))


async def huge_text(wire: Wire) -> None:
    """A stream of items with 1 GiB of text."""
    await wire.request()
    await wire.send(HEAD)
    await flood(wire, chunk(b'{"type":"item","content":"' + b"x" * 65500 + b'"}\n'))


async def huge_and_empty(wire: Wire) -> None:
    """An answer with 1 GiB of what isn't text in it."""
    await wire.request()
    text = await wire.head() + await wire.back.readuntil(FIRST.encode()) + await wire.back.readuntil(b"\n\r\n")
    await wire.send(text)
    await flood(wire, chunk(b'{"type":"keepalive","metadata":"' + b"x" * 65500 + b'"}\n'))


async def flood(wire: Wire, data: bytes) -> None:
    """The same again and again, 1 GiB of it."""
    for _ in range(1024 * MIB // len(data) + 1):
        await wire.send(data)


@asynccontextmanager
async def faulty(fault: Fault, upstream: int) -> AsyncIterator[Proxy]:
    """In front of whoever listens on that port."""
    proxy = Proxy(0)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        back, forth = await asyncio.open_connection("127.0.0.1", upstream)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await fault(Wire(reader, writer, back, forth, proxy))
        finally:
            forth.close()
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        if tasks:  # who asked was to close
            _, left = await asyncio.wait(tasks, timeout=10)
            assert not left, "the connection was left open"


@asynccontextmanager
async def refusing() -> AsyncIterator[Proxy]:
    """Nobody listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Proxy(bound.getsockname()[1])


@asynccontextmanager
async def unreachable() -> AsyncIterator[Proxy]:
    """Connecting never ends: the queue is full, and the kernel drops whoever comes next."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fill((stack.enter_context(socket.socket()) for _ in range(2)), listener)
        yield Proxy(listener.getsockname()[1])


def fill(sockets: Iterable[socket.socket], listener: socket.socket) -> None:
    for filler in sockets:
        filler.setblocking(False)
        with suppress(BlockingIOError):
            filler.connect(listener.getsockname())
