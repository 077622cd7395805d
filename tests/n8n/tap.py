"""A TCP pass-through between Sidegate and n8n that notes what passed and when, to count requests and to time pieces.

It runs on the test's own event loop, next to the client, so both ends of a measurement share a clock and a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.n8n.n8n import free_port


@dataclass
class Passed:
    """What one connection carried: bytes with the time they were read here, before they were passed on."""

    up: list[tuple[float, bytes]] = field(default_factory=list)  # from Sidegate
    down: list[tuple[float, bytes]] = field(default_factory=list)  # from n8n

    @property
    def sent(self) -> bytes:
        return b"".join(data for _, data in self.up)

    @property
    def received(self) -> bytes:
        return b"".join(data for _, data in self.down)

    def when_received(self, marker: bytes, since: float) -> float:
        """When the first `marker` from n8n after `since` was complete: one connection carries several answers."""
        whole = b""
        for at, data in self.down:
            whole += data if at >= since else b""
            if marker in whole:
                return at
        raise AssertionError(f"n8n did not send {marker!r}")


class Tap:
    """Listens on a port of its own while it is open; refuses connections while it isn't.

    One that `waits_for_target` takes a connection before n8n listens, and passes it on in the moment when n8n does.
    """

    def __init__(self, target_port: int, *, waits_for_target: bool = False) -> None:
        self.port = free_port()
        self.passed: list[Passed] = []
        self._target_port = target_port
        self._waits_for_target = waits_for_target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._idle = asyncio.Event()

    @property
    def requests(self) -> int:
        """How many requests arrived so far, over all connections."""
        return sum(passed.sent.count(b"POST /webhook/") for passed in self.passed)

    def webhook(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/webhook/{path}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        if self._writers:
            async with asyncio.timeout(5):
                await self._idle.wait()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """asyncio's server owns this task; close() ends it by aborting the connection."""
        passed = Passed()
        self.passed.append(passed)
        self._writers.add(writer)
        self._idle.clear()
        try:
            with contextlib.suppress(OSError):
                n8n_reader, n8n_writer = await self._connect()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, n8n_writer, passed.up))
                    group.create_task(self._pump(n8n_reader, writer, passed.down))
        finally:
            writer.close()
            self._writers.discard(writer)
            if not self._writers:
                self._idle.set()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(60):
            while True:
                try:
                    return await asyncio.open_connection("127.0.0.1", self._target_port)
                except ConnectionRefusedError:
                    if not self._waits_for_target:
                        raise
                await asyncio.sleep(0.001)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, notes: list[tuple[float, bytes]]
    ) -> None:
        try:
            while data := await reader.read(65536):
                notes.append((time.monotonic(), data))
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # one side is gone; closing the other tells it
        finally:
            writer.close()
