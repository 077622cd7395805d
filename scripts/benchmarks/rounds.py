"""One run: fresh servers every round, by turns, and rows out of what they cost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median

import orjson

from scripts.benchmarks import measure, rules, servers
from scripts.benchmarks.measure import BY_FORTY, ONE_BY_ONE, SHORT, SMALL, Added, Cost, Memory, Size
from scripts.benchmarks.report import Row, Share, row
from scripts.benchmarks.servers import Place, Server
from scripts.benchmarks.traffic import Upstream

LOADS = {"small": SMALL, "short": SHORT, "forty": BY_FORTY, "one": ONE_BY_ONE}
STORE_LOADS = ("small", "short", "one")  # it is asked for messages, and gets what is said in batches
BUDGETS = {"token": 30.0, "the guard": 250.0}  # microseconds
Costs = dict[tuple[str, str], list[Cost]]  # one for each round, by load and server


@dataclass(frozen=True, slots=True)
class Run:
    place: Place
    upstream: Upstream
    size: Size
    redis: str | None  # the program, where it is installed

    async def rows(self) -> tuple[list[Row], list[Share], list[str]]:
        """Everything, and what a reader has to know about it."""
        costs, was_local = await self._costs()
        latencies, memories, notes = await self._connections()
        notes.append(rules.cost(self.size.rounds).note())
        rows = [*_cost_rows(costs), *_latency_rows(latencies), *_memory_rows(memories)]
        small = rows[0].plain
        shares = [
            Share(name, micros, micros / small, BUDGETS.get(name))
            for name, micros in (await self._share("memory:")).items()
        ]
        if self.redis:
            stream, piece = _by_journal(costs, "short"), _by_journal(costs, "one")
            notes.append(
                f"With Redis, and so with the journal, a short stream costs {stream:.2f} times what it does without, "
                f"a piece of one token {piece:.2f} times."
            )
            async with servers.redis(self.place, self.redis) as port:
                alone = await self._share(f"redis://127.0.0.1:{port}/0", port)
            was_local = was_local or bool(alone["counts locally"])
            shares.append(
                Share("the guard, Redis", alone["the guard"], alone["the guard"] / small, BUDGETS["the guard"])
            )
            notes.append(f"A message asks Redis {alone['round trips']:.2f} times.")
        if was_local:
            notes.append(
                "Sidegate lost its Redis for a while, so the figures with Redis are no good: too busy a machine?"
            )
        if nudges := sum(cost.nudges for found in costs.values() for cost in found):
            notes.append(f"{nudges} pieces were sent although the one before was not seen for half a second.")
        return rows, shares, notes

    async def _costs(self) -> tuple[Costs, bool]:
        """CPU of fresh servers in every round; and whether one of them had to do without its Redis."""
        found: Costs = {}
        was_local = False
        kinds = ["plain", "sidegate", *(["redis"] if self.redis else [])]
        for _ in range(self.size.rounds):
            async with AsyncExitStack() as stack:
                fresh = [await stack.enter_async_context(self._server(kind)) for kind in kinds]
                for load, traffic in LOADS.items():
                    tested = fresh if load in STORE_LOADS else fresh[:2]
                    costs = await measure.costs(tested, self.upstream, traffic, self.size)
                    for kind, cost in zip(kinds, costs, strict=False):  # those that were tested
                        found.setdefault((load, kind), []).append(cost)
                for server in fresh[2:]:
                    was_local = was_local or await servers.counts_locally(server.ops_port)
        return found, was_local

    async def _connections(self) -> tuple[list[tuple[Added, Added]], tuple[Memory, Memory], list[str]]:
        """Latency in several rounds, then memory, of one pair of servers that were not under load before."""
        async with self._server("plain") as plain, self._server("sidegate") as sidegate:
            latencies, medians = [], []
            for _ in range(self.size.rounds):
                direct, added = await measure.first_pieces((plain, sidegate), self.upstream, self.size.turns)
                latencies.append((added[0], added[1]))
                medians.append(direct)
            kept = await measure.kept(sidegate, self.upstream, self.size)
            used = [await measure.memory(server, self.upstream, self.size) for server in (plain, sidegate)]
        notes = [
            f"The upstream itself takes {median(medians):.2f} ms to its first piece, asked directly.",
            f"A finished short stream leaves {kept:.1f} KiB in Sidegate, for as long as it may be asked for again.",
        ]
        return latencies, (used[0], used[1]), notes

    @asynccontextmanager
    async def _server(self, kind: str) -> AsyncIterator[Server]:
        async with AsyncExitStack() as stack:
            if kind == "plain":
                yield await stack.enter_async_context(servers.plain_relay(self.place))
                return
            store = "memory:"
            if kind == "redis" and self.redis:
                port = await stack.enter_async_context(servers.redis(self.place, self.redis))
                store = f"redis://127.0.0.1:{port}/0"
            yield await stack.enter_async_context(servers.sidegate(self.place, store))

    async def _share(self, store: str, port: int = 0) -> dict[str, float]:
        """The guard alone, in a fresh process on the server's core. `port` is Redis's."""
        config = servers.write_config(self.place, store)
        words = [str(config), str(self.size.seconds), str(port)]
        with self.place.cores.for_the_server():
            process = servers.start([sys.executable, "-m", "scripts.benchmarks.share", *words], self.place)
        try:
            await asyncio.to_thread(process.wait, 60)
        finally:
            process.kill()  # does nothing to a process that ended
        if process.returncode:
            raise RuntimeError(f"the guard's share: {servers.last_words(self.place)}")
        found: dict[str, float] = orjson.loads(servers.last_words(self.place).splitlines()[-1])
        return found


def _by_journal(costs: Costs, load: str) -> float:
    """How many times as much Sidegate costs with Redis as without, in the middle round."""
    pairs = zip(costs[load, "redis"], costs[load, "sidegate"], strict=True)
    if load == "short":
        return median(shared.per_message / alone.per_message for shared, alone in pairs)
    return median(shared.per_piece / alone.per_piece for shared, alone in pairs)


def _cost_rows(costs: Costs) -> list[Row]:
    def messages(load: str, kind: str) -> list[float]:
        return [cost.per_message for cost in costs[load, kind]]

    def pieces(load: str, kind: str) -> list[float]:
        return [cost.per_piece for cost in costs[load, kind]]

    def tokens(load: str, kind: str, each: int) -> list[float]:
        return [1e6 * each / micros for micros in pieces(load, kind)]

    rows = []
    for load, name in (("small", "CPU per small JSON answer"), ("short", "CPU per short stream")):
        rows.append(row(name, "us", messages(load, "plain"), messages(load, "sidegate")))
        if (load, "redis") in costs:
            rows.append(row(f"{name}, Redis", "us", messages(load, "plain"), messages(load, "redis")))
    for load, each in (("forty", 40), ("one", 1)):
        name = f"{each} token{'s' if each > 1 else ''} a read"
        rows.append(row(f"CPU per piece, {name}", "us", pieces(load, "plain"), pieces(load, "sidegate")))
        if (load, "redis") in costs:
            rows.append(row(f"CPU per piece, {name}, Redis", "us", pieces(load, "plain"), pieces(load, "redis")))
        rates = tokens(load, "plain", each), tokens(load, "sidegate", each)
        rows.append(row(f"tokens per CPU second, {name}", "1/s", *rates))
    return rows


def _latency_rows(latencies: list[tuple[Added, Added]]) -> list[Row]:
    plain, sidegate = zip(*latencies, strict=True)
    return [
        row("added to the first piece, median", "ms", [added.median for added in plain], [a.median for a in sidegate]),
        row("added to the first piece, p95", "ms", [added.p95 for added in plain], [added.p95 for added in sidegate]),
    ]


def _memory_rows(memories: tuple[Memory, Memory]) -> list[Row]:
    plain, sidegate = memories
    return [
        row("memory per idle stream", "KiB", [plain.stream], [sidegate.stream]),
        row("memory per idle WebSocket", "KiB", [plain.socket], [sidegate.socket]),
    ]
