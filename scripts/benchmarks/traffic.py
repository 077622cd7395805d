"""Both ends of the traffic, in one process and as light as Python allows: clients on raw sockets, and the upstream.

A stream goes in lockstep: the upstream writes its next piece when the client has seen the one before. So every piece is
a network read of its own for the server between them, however fast that is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import orjson

# Ends every piece. Plain words, so that no filter has a reason to change them or to keep them back.
MARK = b"the tide. "
# 200 characters, as people write.
QUESTION = (
    "I ordered a blue jacket last week and it still hasn't arrived. Could you please tell me where the parcel is now, "
    "and whether I can change the address to my office, since nobody is at home then? Lane "
)
NUDGE_SECONDS = 0.5  # a piece that is not seen for that long was swallowed
_LANE = re.compile(rb"Lane ([a-p]{4})")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_METADATA = {
    "nodeId": "9f9b1d5a-6f0e-4b7e-9d43-0c5d1c2f7a11",
    "nodeName": "AI Agent",
    "itemIndex": 0,
    "runIndex": 0,
    "timestamp": 1_800_000_000_000,
}


def _json_response(document: dict[str, object]) -> bytes:
    body = orjson.dumps(document)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def _line(kind: str, **more: str) -> bytes:
    """One line of n8n's stream, which n8n sends as one HTTP chunk."""
    line = orjson.dumps({"type": kind, **more, "metadata": _METADATA}) + b"\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


def _piece(tokens: int) -> bytes:
    words = [*(["time ", "and ", "sea, "] * tokens)[: tokens - 1], MARK.decode()]
    return b"".join(_line("item", content=word) for word in words)


_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    + _line("begin")
)
_END = _line("end") + b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the upstream answers: `first` at once, `piece` for each of `pieces` marks seen, then `last`, if any."""

    first: bytes
    piece: bytes = b""
    pieces: int = 0
    last: bytes = b""


def stream(tokens: int, pieces: int) -> Plan:
    """An answer of n8n's in so many network reads, of so many tokens each."""
    piece = _piece(tokens)
    return Plan(_STREAM + piece, piece, pieces - 1, _END)


SMALL_ANSWER = Plan(_json_response({"output": "Low water is at noon; wait for " + MARK.decode()}))
SHORT_STREAM = stream(tokens=8, pieces=3)
SILENT_STREAM = Plan(_STREAM + _piece(1))  # begins, and then says nothing


class Lane:
    """One conversation: what its client sees, and what its upstream says next."""

    def __init__(self, number: int, plan: Plan) -> None:
        self.name = "".join("abcdefghijklmnop"[number >> shift & 15] for shift in (12, 8, 4, 0))
        self.plan = plan
        self.messages = 0  # answered
        self.pieces = 0  # seen by the client
        self.nudges = 0  # pieces written although the one before was not seen
        self._left = 0
        self._upstream: asyncio.WriteTransport | None = None

    def asked(self, upstream: asyncio.WriteTransport) -> None:
        self._left = self.plan.pieces
        self._upstream = upstream if self.plan.last else None
        upstream.write(self.plan.first)

    def go_on(self) -> None:
        if self._upstream is None:
            return
        if self._left > 0:
            self._left -= 1
            self._upstream.write(self.plan.piece)
        else:
            self._upstream.write(self.plan.last)
            self._upstream = None

    def wind_up(self) -> None:
        """End the stream that is under way with the next piece."""
        self._left = 0

    @property
    def is_streaming(self) -> bool:
        return self._upstream is not None


class Upstream:
    """The webhook. Each lane's messages name it."""

    def __init__(self) -> None:
        self.lanes: dict[bytes, Lane] = {}
        self.port = 0
        self._timer: asyncio.TimerHandle | None = None

    def lane(self, plan: Plan) -> Lane:
        lane = Lane(len(self.lanes), plan)
        self.lanes[lane.name.encode()] = lane
        return lane

    def nudge(self, every: float, seen: dict[Lane, tuple[int, int]]) -> None:
        """Keep lanes going whose piece was swallowed on the way. Comes back every so many seconds, until close()."""
        for lane in self.lanes.values():
            now = (lane.messages, lane.pieces)
            if lane.is_streaming and seen.get(lane) == now:
                lane.nudges += 1
                lane.go_on()
            seen[lane] = now
        self._timer = asyncio.get_running_loop().call_later(every, self.nudge, every, seen)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Webhook(asyncio.Protocol):
    """One connection from a server under test. Requests have a Content-Length, as those of both servers do."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's, which doesn't say that it is one

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(self._data, 0, end)
        if length is None:
            raise ValueError("a request without Content-Length")
        if len(self._data) < end + int(length[1]):
            return
        lane = _LANE.search(self._data, end)
        if lane is None:
            raise ValueError("a message without its lane")
        self._data = b""
        self._upstream.lanes[lane[1]].asked(self._transport)


class Client(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it was answered, as long as it is told to."""

    def __init__(self, lane: Lane, request: bytes) -> None:
        self.lane = lane
        self._request = request
        self._is_running = False
        self._head = b""
        self._tail: bytes | None = None  # the last bytes of the body; None in the head
        self._left: int | None = None  # bytes of the body; None when it is chunked
        self._first: asyncio.Future[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's, which doesn't say that it is one

    def run(self) -> None:
        self._is_running = True
        self._ask()

    async def stop(self) -> None:
        """Let the last answer come to its end."""
        self._is_running = False
        self.lane.wind_up()
        await self.idle()

    async def first_piece(self) -> None:
        """Ask once, and wait for the first mark of the answer. The run's time limit ends the wait."""
        self._first = asyncio.get_running_loop().create_future()
        self._ask()
        await self._first
        self._raise()

    async def idle(self) -> None:
        """Wait for the end of the answer. The run's time limit ends the wait."""
        await self._idle.wait()
        self._raise()

    def close(self) -> None:
        self._error = None
        self._idle.set()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._tail is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            if not self._head.startswith(b"HTTP/1.1 200 "):
                self._fail(RuntimeError(f"refused: {self._head[:1000]!r}"))
                return
            length = _LENGTH.search(self._head, 0, end)
            self._left = int(length[1]) if length else None
            # What precedes a body also precedes its first chunk: an empty body ends here already.
            data, self._head, self._tail = self._head[end:], b"", b"\r\n"
        whole = self._tail + data
        self._tail = whole[1 - len(MARK) :]
        if self._left is None:
            is_over = whole.endswith(_LAST_CHUNK)
        else:
            self._left -= len(data)
            is_over = self._left <= 0
        self._seen(whole.count(MARK), is_over=is_over)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._idle.is_set():
            self._fail(RuntimeError(f"the connection ended within an answer ({exc})"))

    def _seen(self, marks: int, *, is_over: bool) -> None:
        lane = self.lane
        for _ in range(marks):
            lane.pieces += 1
            lane.go_on()
        if marks and self._first is not None:
            self._first.set_result(None)
            self._first = None
        if is_over:
            lane.messages += 1
            if self._is_running:
                self._ask()
            else:
                self._idle.set()

    def _ask(self) -> None:
        self._tail = None
        self._idle.clear()
        self._transport.write(self._request)

    def _fail(self, error: Exception) -> None:
        self._error, self._is_running = error, False
        if self._first is not None:
            self._first.set_result(None)
            self._first = None
        self._idle.set()
        self._transport.abort()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


@asynccontextmanager
async def listening() -> AsyncIterator[Upstream]:
    """The upstream, on a port of its own."""
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Webhook(upstream), "127.0.0.1", 0, backlog=1024)
    upstream.port = server.sockets[0].getsockname()[1]
    upstream.nudge(NUDGE_SECONDS, {})
    try:
        yield upstream
    finally:
        upstream.close()
        server.close()
