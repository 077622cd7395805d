"""The measurements: CPU per message and per piece, time to the first piece, memory per connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median, quantiles

from scripts.benchmarks.machine import cpu_seconds, memory_bytes
from scripts.benchmarks.servers import Server
from scripts.benchmarks.traffic import SHORT_STREAM, SILENT_STREAM, SMALL_ANSWER, Client, Plan, Upstream, stream
from scripts.benchmarks.visitors import EVENTS, JSON, open_socket, visitors

PAUSE_SECONDS = 0.001  # between messages at low load
ENOUGH = 4  # pieces for each client; with fewer in the given time, the time is extended


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. In every round and for every load, each server has so many slices of so many seconds; a
    warm-up goes before each, uncounted.
    """

    rounds: int
    slices: int
    seconds: float
    warm_up: float
    turns: int  # messages to each server for one round's latency
    connections: int  # idle ones of each kind
    settle: float  # seconds before memory is read


DEFAULT = Size(rounds=5, slices=5, seconds=0.15, warm_up=0.05, turns=100, connections=250, settle=0.5)
SMOKE = Size(rounds=1, slices=1, seconds=0.1, warm_up=0.05, turns=10, connections=10, settle=0.1)


@dataclass(frozen=True, slots=True)
class Load:
    """Traffic that keeps a server busy: so many clients at once, each as fast as it is answered."""

    plan: Plan
    accept: str
    clients: int


SMALL = Load(SMALL_ANSWER, JSON, 8)
SHORT = Load(SHORT_STREAM, EVENTS, 8)
# Long enough that few answers begin while they are measured.
BY_FORTY = Load(stream(tokens=40, pieces=4000), EVENTS, 16)
ONE_BY_ONE = Load(stream(tokens=1, pieces=4000), EVENTS, 16)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the server used while so much passed."""

    cpu: float = 0.0  # seconds
    messages: int = 0
    pieces: int = 0
    nudges: int = 0

    @property
    def per_message(self) -> float:
        """Microseconds."""
        return self.cpu / self.messages * 1e6

    @property
    def per_piece(self) -> float:
        """Microseconds."""
        return self.cpu / self.pieces * 1e6

    def __add__(self, more: Cost) -> Cost:
        return Cost(
            self.cpu + more.cpu,
            self.messages + more.messages,
            self.pieces + more.pieces,
            self.nudges + more.nudges,
        )

    def __sub__(self, before: Cost) -> Cost:
        return Cost(
            self.cpu - before.cpu,
            self.messages - before.messages,
            self.pieces - before.pieces,
            self.nudges - before.nudges,
        )


async def costs(servers: Sequence[Server], upstream: Upstream, load: Load, size: Size) -> list[Cost]:
    """What the load costs each server: short slices by turns, so that what else this machine does meets them alike.

    Raises TimeoutError where nothing comes back.
    """
    async with asyncio.timeout(120), AsyncExitStack() as stack:
        pools = []
        for server in servers:
            lanes = [upstream.lane(load.plan) for _ in range(load.clients)]
            pools.append(await stack.enter_async_context(visitors(server, lanes, load.accept)))
        sums = [Cost() for _ in servers]
        for _ in range(size.slices):
            for number, (server, clients) in enumerate(zip(servers, pools, strict=True)):
                sums[number] += await _slice(server, clients, size)
    return sums


async def _slice(server: Server, clients: Sequence[Client], size: Size) -> Cost:
    def now() -> Cost:
        lanes = [client.lane for client in clients]
        return Cost(
            cpu_seconds(server.pid),
            sum(lane.messages for lane in lanes),
            sum(lane.pieces for lane in lanes),
            sum(lane.nudges for lane in lanes),
        )

    for client in clients:
        client.run()
    await asyncio.sleep(size.warm_up)
    before, passed = now(), Cost()
    while passed.pieces < ENOUGH * len(clients):
        await asyncio.sleep(size.seconds)
        passed = now() - before
    for client in clients:
        await client.stop()
    return passed


@dataclass(frozen=True, slots=True)
class Added:
    """Milliseconds that a server adds to the time until the first piece, over asking the upstream itself."""

    median: float
    p95: float


async def first_pieces(servers: Sequence[Server], upstream: Upstream, turns: int) -> tuple[float, list[Added]]:
    """The upstream's own median, in milliseconds, and what each server adds: one message at a time, in turns."""
    direct = Server("direct", 0, upstream.port)
    seconds: dict[str, list[float]] = {server.name: [] for server in (direct, *servers)}
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        clients = {
            server.name: (await stack.enter_async_context(visitors(server, [upstream.lane(SHORT_STREAM)], EVENTS)))[0]
            for server in (direct, *servers)
        }
        for turn in range(-5, turns):
            for name, client in clients.items():
                await asyncio.sleep(PAUSE_SECONDS)
                asked = time.perf_counter()
                await client.first_piece()
                if turn >= 0:  # those before it warm up
                    seconds[name].append(time.perf_counter() - asked)
                await client.idle()
    added: list[Added] = []
    for server in servers:
        more = [(own - base) * 1000 for own, base in zip(seconds[server.name], seconds[direct.name], strict=True)]
        added.append(Added(median(more), quantiles(more, n=20)[-1]))
    return median(seconds[direct.name]) * 1000, added


@dataclass(frozen=True, slots=True)
class Memory:
    """KiB of the server's memory for each idle connection, above what the process had before they came."""

    stream: float
    socket: float


async def memory(server: Server, upstream: Upstream, size: Size) -> Memory:
    """Open answers that wait for their upstream, then WebSockets beside them, so that none reuses another's memory.

    A stream counts with the connection to its upstream.
    """
    lanes = [upstream.lane(SILENT_STREAM) for _ in range(size.connections)]
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        before = memory_bytes(server.pid)
        clients = await stack.enter_async_context(visitors(server, lanes, EVENTS))
        for client in clients:
            await client.first_piece()
        await asyncio.sleep(size.settle)
        between = memory_bytes(server.pid)
        for number in range(size.connections):
            stack.callback((await open_socket(server, number)).abort)
        await asyncio.sleep(size.settle)
        after = memory_bytes(server.pid)
    kib = 1024 * size.connections
    return Memory((between - before) / kib, (after - between) / kib)


async def kept(server: Server, upstream: Upstream, size: Size) -> float:
    """KiB of memory that a finished short stream leaves behind, for as long as it may be asked for again.

    Of a process that gave no memory back yet: what is free already would be used first, and not be seen.
    """
    lanes = [upstream.lane(SHORT_STREAM) for _ in range(SHORT.clients)]

    async def until(messages: int) -> tuple[int, int]:
        # An event would be one more thing to do per message.
        while (passed := sum(lane.messages for lane in lanes)) < messages:  # noqa: ASYNC110 - see above
            await asyncio.sleep(PAUSE_SECONDS)
        return memory_bytes(server.pid), passed

    async with asyncio.timeout(120), visitors(server, lanes, EVENTS) as clients:
        for client in clients:
            client.run()
        before, first = await until(2 * size.turns)
        after, last = await until(12 * size.turns)
        for client in clients:
            await client.stop()
    return (after - before) / 1024 / (last - first)
