"""What the supervisor and its workers say to each other, over a pair of sockets that nobody else can open.

Frames: four bytes of length, then one byte that says what it is, then its content. The first one holds the worker's
settings, with their secrets: a worker is told what was checked and reads no file itself.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Any

from proxy.config import Secret
from proxy.totals import Report, parse

MAX_FRAME = 64 * 1024 * 1024
ASK_SECONDS = 5.0  # until a worker gives up on an answer of its supervisor

_HEAD = struct.Struct(">IB")


class Say(Enum):
    """What a frame is. S: said by the supervisor, W: by a worker."""

    SETTINGS = 0  # S, first of all
    READY = 1  # W: it accepts
    STOP = 2  # S: drain, the whole server ends
    REPLACE = 3  # S: drain, another worker is there already; STOP may come later
    REPORT = 4  # S asks, W answers; W says it once more at its end
    GATHER = 5  # W asks for the reports of all others; S answers
    ENDED = 6  # W's last report


class Unusable(Exception):
    """The other side said what can't be."""


class Channel:
    """One end. Writes are small and answered, except reports, whose number is bounded by one per question."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, pair: socket.socket) -> Channel:
        return cls(*await asyncio.open_unix_connection(sock=pair))

    def say(self, what: Say, content: bytes = b"") -> None:
        """Never raises: whoever has gone is noticed by hear()."""
        self._writer.write(_HEAD.pack(len(content), what.value) + content)

    async def flush(self) -> None:
        with suppress(ConnectionError):
            await self._writer.drain()  # ends when the other side reads or goes; callers set the time limit

    async def hear(self) -> tuple[Say, bytes] | None:
        """The next frame; None when the other side is gone. The caller ends the wait. Raises Unusable."""
        try:
            length, number = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            if length > MAX_FRAME or number >= len(Say):
                raise Unusable(f"a frame of {length} bytes, kind {number}")
            return Say(number), await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        self._writer.close()


class WorkerEnd:
    """The worker's end: `listen` runs beside the server, and sets `leave` when it is time to drain."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._answers: list[asyncio.Future[list[Report]]] = []
        self.leave = asyncio.Event()
        self.hurry = asyncio.Event()  # the whole server ends
        self.is_replaced = False

    async def listen(self, report: Callable[[], Awaitable[Report]]) -> None:
        """Answer the supervisor until it goes. Whoever started this ends it."""
        while (heard := await self._channel.hear()) is not None:
            what, content = heard
            match what:
                case Say.STOP:
                    self.stop()
                case Say.REPLACE:
                    self.is_replaced = True
                    self.leave.set()
                case Say.REPORT:
                    self._channel.say(Say.REPORT, (await report()).dump())
                case Say.GATHER:
                    reports = [parse(part) for part in unpacked(content)]
                    for answer in self._answers:
                        if not answer.done():
                            answer.set_result(reports)
                    self._answers.clear()
                case _:
                    raise Unusable(what.name)
        # Nobody would restart us: make room for the next supervisor, who wants the same addresses.
        self.is_replaced = True
        self.stop()

    def stop(self) -> None:
        """Drain, in the time that the settings give."""
        self.hurry.set()
        self.leave.set()

    async def gather(self) -> list[Report]:
        """The reports of all other workers, ended ones included. Raises TimeoutError."""
        answer: asyncio.Future[list[Report]] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._channel.say(Say.GATHER)
        async with asyncio.timeout(ASK_SECONDS):
            return await answer

    def ready(self) -> None:
        self._channel.say(Say.READY)

    async def goodbye(self, last: Report) -> None:
        """The last report, so that what was counted stays counted."""
        self._channel.say(Say.ENDED, last.dump())
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                await self._channel.flush()
        self._channel.close()


def packed(parts: list[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def unpacked(content: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        parts.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return parts


class _Pickler(pickle.Pickler):
    """Secrets refuse to be pickled; this is the one way for them, into the memory of our own child."""

    def reducer_override(self, value: object) -> Any:  # Any: pickle's own idea of how a value is made again
        if isinstance(value, Secret):
            return Secret, (value.reveal(),)
        return NotImplemented


def sealed(settings: object) -> bytes:
    """Settings as the first frame carries them."""
    file = io.BytesIO()
    _Pickler(file).dump(settings)
    return file.getvalue()


def unsealed(content: bytes) -> object:
    return pickle.loads(content)  # noqa: S301 - from our own parent, over a socket that only it can write to
