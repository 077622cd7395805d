"""The measurements: CPU per message and per piece, time to the first piece, memory per connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import quantiles

from scripts.benchmarks.machine import cpu_seconds, memory_bytes
from scripts.benchmarks.servers import Server
from scripts.benchmarks.traffic import SHORT_STREAM, SILENT_STREAM, SMALL_ANSWER, Client, Plan, Upstream, stream
from scripts.benchmarks.visitors import EVENTS, JSON, IdleSocket, open_socket, visit, visitors

SETTLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. `seconds` is for one figure of one server, `warm_up` goes before it uncounted."""

    rounds: int
    seconds: float
    warm_up: float
    turns: int  # messages to each server for one round's latency
    connections: int  # idle ones of each kind


DEFAULT = Size(rounds=5, seconds=0.8, warm_up=0.3, turns=100, connections=250)
SMOKE = Size(rounds=1, seconds=0.1, warm_up=0.05, turns=10, connections=10)


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

    cpu: float  # seconds
    messages: int
    pieces: int
    nudges: int

    @property
    def per_message(self) -> float:
        return self.cpu / self.messages * 1e6

    @property
    def per_piece(self) -> float:
        return self.cpu / self.pieces * 1e6


async def cost(server: Server, upstream: Upstream, load: Load, size: Size) -> Cost:
    """One figure. Raises TimeoutError where nothing comes back."""
    lanes = [upstream.lane(load.plan) for _ in range(load.clients)]

    def now() -> Cost:
        return Cost(
            cpu_seconds(server.pid),
            sum(lane.messages for lane in lanes),
            sum(lane.pieces for lane in lanes),
            sum(lane.nudges for lane in lanes),
        )

    async with asyncio.timeout(60 + 10 * size.seconds), visitors(server, lanes, load.accept) as clients:
        for client in clients:
            client.run()
        await asyncio.sleep(size.warm_up)
        before = now()
        await asyncio.sleep(size.seconds)
        after = now()
        while after.messages == before.messages and after.pieces == before.pieces:  # a machine that is busy otherwise
            await asyncio.sleep(size.seconds)
            after = now()
        for client in clients:
            await client.stop()
    return Cost(*(then - first for first, then in zip(_fields(before), _fields(after), strict=True)))
