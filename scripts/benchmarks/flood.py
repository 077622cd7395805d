"""An honest visitor while others flood: 10,000 messages from 50 addresses, 500 a second, and what that does to a
message beside them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from time import perf_counter

import orjson

from scripts.benchmarks import servers
from scripts.benchmarks.idle import Beside, message
from scripts.benchmarks.servers import Place, Server
from scripts.benchmarks.traffic import QUESTION, SMALL_ANSWER, Lane, Upstream
from scripts.benchmarks.visitors import JSON, address, authorization, request, visit

ADDRESSES = 50  # of one neighbourhood, whose limit they share
HONEST = 250  # an address of another one
ALLOWED = 300  # messages of a neighbourhood
PACE = 500.0  # a second
WARM = 20


@dataclass(frozen=True, slots=True)
class Flood:
    """How the flood's messages were answered, and what an honest visitor's took."""

    requests: int
    passed: int
    refused: int
    message: Beside

    def document(self) -> dict[str, float]:
        counts = {"requests": self.requests, "passed": self.passed, "refused": self.refused}
        return {**counts, **self.message.document()}

    def lines(self) -> list[str]:
        return [
            f"{self.requests} messages from {ADDRESSES} addresses: {self.passed} answered, {self.refused} refused",
            *self.message.lines(),
        ]


async def flood(place: Place, upstream: Upstream, requests: int) -> Flood:
    limits = ({"per": "prefix", "limit": ALLOWED, "window": 3600}, {"per": "ip", "limit": 100_000, "window": 60})
    async with servers.sidegate(place, limits=limits) as quiet, servers.sidegate(place, limits=limits) as server:
        honest = [await visit(one, upstream.lane(SMALL_ANSWER), JSON, HONEST) for one in (quiet, server)]
        shared = upstream.lane(SMALL_ANSWER)
        crowd = [await _Attacker.come(server, shared, number) for number in range(ADDRESSES)]
        seconds: tuple[list[float], list[float]] = [], []
        pause = requests / PACE / (ALLOWED - WARM) / 2  # so that both last as long as the flood does
        for client in honest:
            for _ in range(WARM):
                await message(client)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_attack(crowd, requests))
            for _ in range(ALLOWED - WARM):  # by turns, so that whatever else this machine does is in both
                for client, found in zip(honest, seconds, strict=True):
                    await asyncio.sleep(pause)
                    found.append(await message(client))
        for client in honest:
            client.close()
        statuses = sum((attacker.statuses for attacker in crowd), Counter[int]())
        for attacker in crowd:
            attacker.writer.close()
    return Flood(requests, statuses[200], statuses[429], Beside.of(*seconds))


class _Attacker:
    """One address: a message, its answer, the next."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asks: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.statuses: Counter[int] = Counter()
        self._asks = asks

    @classmethod
    async def come(cls, server: Server, lane: Lane, number: int) -> _Attacker:
        headers = {"Accept": JSON} | await authorization(server, number)
        asks = request(server, "POST", server.path, headers, orjson.dumps({"message": QUESTION + lane.name}))
        streams = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address(number), 0))
        return cls(*streams, asks)

    async def ask(self) -> None:
        self.writer.write(self._asks)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await self.reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        self.statuses[int(head[9:12])] += 1


async def _attack(crowd: list[_Attacker], requests: int) -> None:
    """At the pace, or as fast as they are answered."""
    start = perf_counter()

    async def one(at: int, attacker: _Attacker) -> None:
        for number in range(at, requests, len(crowd)):
            await asyncio.sleep(max(0.0, start + number / PACE - perf_counter()))
            await attacker.ask()

    async with asyncio.TaskGroup() as tasks:
        for at, attacker in enumerate(crowd):
            tasks.create_task(one(at, attacker))
