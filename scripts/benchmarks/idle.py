"""Thousands of connections that say nothing: memory for each, and what they do to a message beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from statistics import quantiles
from time import perf_counter

from scripts.benchmarks import servers
from scripts.benchmarks.machine import memory_bytes
from scripts.benchmarks.servers import Place, Server
from scripts.benchmarks.traffic import SILENT_STREAM, SMALL_ANSWER, Client, Upstream
from scripts.benchmarks.visitors import EVENTS, JSON, open_events, open_socket, visitors

WARM = 50  # of each, before memory is looked at: what is needed once is there then
AT_ONCE = 16  # being opened
ANSWERS_SHARE = 5  # for so many connections of each kind, one answer that is under way and silent
PAUSE_SECONDS = 0.002  # between messages
SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Beside:
    """Milliseconds for a small JSON answer: at a server of its own, and beside what is measured."""

    median_alone: float
    median_beside: float
    p99_alone: float
    p99_beside: float

    @classmethod
    def of(cls, alone: list[float], beside: list[float]) -> Beside:
        """Of the seconds that the messages took."""
        (median_alone, p99_alone), (median_beside, p99_beside) = map(middle_and_p99, (alone, beside))
        return cls(median_alone, median_beside, p99_alone, p99_beside)

    @property
    def ratio(self) -> float:
        return self.p99_beside / self.p99_alone

    def document(self) -> dict[str, float]:
        return {**asdict(self), "ratio": self.ratio}

    def lines(self) -> list[str]:
        return [
            f"a message, median               {self.median_alone:6.2f} ms alone, {self.median_beside:6.2f} beside them",
            f"a message, p99                  {self.p99_alone:6.2f} ms alone, {self.p99_beside:6.2f} beside them",
            f"ratio of p99                    {self.ratio:6.2f}",
        ]


@dataclass(frozen=True, slots=True)
class Idle:
    """KiB of the server's memory for each, and what a message takes beside all of them."""

    connections: int
    events: float
    sockets: float
    answers: float
    message: Beside

    def document(self) -> dict[str, float]:
        sizes = {"events": self.events, "sockets": self.sockets, "answers": self.answers}
        return {"connections": self.connections, **sizes, **self.message.document()}

    def lines(self) -> list[str]:
        return [
            f"{self.connections} of each open at once",
            f"memory per idle event stream    {self.events:6.1f} KiB",
            f"memory per idle WebSocket       {self.sockets:6.1f} KiB",
            f"memory per idle running answer  {self.answers:6.1f} KiB",
            *self.message.lines(),
        ]


async def idle(place: Place, upstream: Upstream, connections: int, turns: int) -> Idle:
    """So many of each kind on one server, then `turns` messages to it and to an empty one, by turns."""
    async with AsyncExitStack() as stack:
        alone = await stack.enter_async_context(servers.sidegate(place))
        crowded = await stack.enter_async_context(servers.sidegate(place))
        opened = _Crowd(stack, crowded)
        await opened.more(open_events, WARM)
        await opened.more(open_socket, WARM)
        events = await opened.more(open_events, connections)
        sockets = await opened.more(open_socket, connections)
        seconds: tuple[list[float], list[float]] = [], []
        async with AsyncExitStack() as asking:
            clients = [
                (await asking.enter_async_context(visitors(server, [upstream.lane(SMALL_ANSWER)], JSON)))[0]
                for server in (alone, crowded)
            ]
            for turn in range(-20, turns):
                for client, found in zip(clients, seconds, strict=True):
                    passed = await message(client)
                    if turn >= 0:  # those before it warm up
                        found.append(passed)
        answers = await _answers(stack, crowded, upstream, max(connections // ANSWERS_SHARE, 1))
    return Idle(connections, events, sockets, answers, Beside.of(*seconds))


class _Crowd:
    """Connections of one server, each of a visitor of its own, closed with the stack."""

    def __init__(self, stack: AsyncExitStack, server: Server) -> None:
        self._stack = stack
        self._server = server
        self._visitors = 0

    async def more(self, open_one: Callable[[Server, int], Awaitable[asyncio.Transport]], number: int) -> float:
        """KiB for each of them."""
        before = memory_bytes(self._server.pid)
        queue = iter(range(self._visitors, self._visitors + number))
        self._visitors += number

        async def keep_opening() -> None:
            for visitor in queue:
                self._stack.callback((await open_one(self._server, visitor)).abort)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(keep_opening())
        await asyncio.sleep(SETTLE_SECONDS)
        return (memory_bytes(self._server.pid) - before) / 1024 / number


async def _answers(stack: AsyncExitStack, server: Server, upstream: Upstream, number: int) -> float:
    """KiB for each answer that has begun and is silent, with the connection to its upstream."""
    before = memory_bytes(server.pid)
    for _ in range(number):  # one by one: a connection that says nothing for long is closed
        lanes = [upstream.lane(SILENT_STREAM)]
        (client,) = await stack.enter_async_context(visitors(server, lanes, EVENTS))
        await client.first_piece()
    await asyncio.sleep(SETTLE_SECONDS)
    return (memory_bytes(server.pid) - before) / 1024 / number


async def message(client: Client) -> float:
    await asyncio.sleep(PAUSE_SECONDS)
    asked = perf_counter()
    await client.first_piece()
    await client.idle()
    return perf_counter() - asked


def middle_and_p99(seconds: list[float]) -> tuple[float, float]:
    """Median and p99, in milliseconds."""
    cuts = quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000
