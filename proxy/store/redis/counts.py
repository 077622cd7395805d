"""Limits, once-only keys and claims, shared by replicas. Each operation is one atomic decision, in one round trip.

What it doesn't stop: a Redis that loses its memory (a restart, a failover to a replica that lags) forgets the hits and
the once-only keys it lost, and their limits start anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from proxy.store import Hit, Hits, StoreDown, Tier
from proxy.store.redis.link import MICRO, Link, key, milliseconds

SILENCE = 10  # seconds after which a replica that says nothing is no longer counted
REPLICAS = ["sidegate:{replicas}", "sidegate:{replicas}:memory"]
MAX_BATCH = 100  # hits in one round trip: about a millisecond of Redis
MAX_WAITING = 10_000
RESTORE_DEADLINE = 2.0  # nobody waits for it


class RedisStore:
    """The counts of one Redis. Time is the server's, so replicas need not agree on it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._hit = link.script("hit")
        self._restore = link.script("restore")
        self._beat = link.script("beat")
        self._claim = link.script("claim")
        self._release = link.script("release")
        self._waiting: deque[_Call] = deque()
        self._has_waiting = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    async def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        keys: list[str] = []
        args: list[str] = []
        for tier in tiers:
            keys.append(key(tier.key, "hits"))
            # A bucket as large as the limit never refuses what the log lets pass.
            has_bucket = 0 < tier.burst < tier.limit
            if has_bucket:
                keys.append(key(tier.key, "bucket"))
            args.append(f"{tier.limit} {round(tier.window * MICRO)} {tier.burst if has_bucket else 0}")
        answer = await self._send(keys, args)
        numbers = list(map(int, answer.split()))
        return [Hit(numbers[i], numbers[i + 1] / MICRO, numbers[i + 2] / MICRO) for i in range(0, len(numbers), 3)]

    async def restore(self, hits: Sequence[Hits]) -> None:
        """Count what was counted elsewhere, without judging it."""
        calls: list[tuple[list[str], list[str | int | bytes]]] = []
        for one in hits:
            keys = [key(one.key, "hits"), *([key(one.key, "bucket")] if one.full_in > 0 else [])]
            ages = " ".join(str(round(age * MICRO)) for age in one.ages)
            calls.append((keys, [round(one.window * MICRO), round(one.full_in * MICRO), ages]))
        for answer in await self._link.ask(partial(self._link.evaluate, self._restore, calls), RESTORE_DEADLINE):
            if isinstance(answer, Exception):
                raise StoreDown(type(answer).__name__)

    async def add(self, name: str, ttl: float) -> bool:
        """Remember the key for `ttl` seconds. True only for the one caller who was first."""
        once, mark, life = key(name, "once"), uuid4().hex, milliseconds(ttl)

        async def be_first() -> bool:
            if await self._link.redis.set(once, mark, nx=True, px=life):
                return True
            # A second look, where somebody was first: it may have been us, and the answer got lost with its connection.
            return bool(await self._link.redis.get(once) == mark.encode())

        return await self._link.ask(be_first)

    async def has(self, name: str) -> bool:
        return bool(await self._link.ask(lambda: self._link.redis.exists(key(name, "once"))))

    async def claim(self, name: str, value: bytes, ttl: float, instead: bytes = b"") -> bytes:
        args: list[int | bytes] = [value, milliseconds(ttl), instead]
        held: bytes = await self._link.ask(lambda: self._claim([key(name, "claim")], args))
        return held

    async def release(self, name: str, value: bytes) -> None:
        await self._link.ask(lambda: self._release([key(name, "claim")], [value]))

    async def beat(self, replica: str) -> tuple[int, str]:
        """Say that this replica is alive; return how many are, and a name for all that Redis remembers at present."""
        await self._link.look()
        alive, memory = await self._link.ask(lambda: self._beat(REPLICAS, [replica, SILENCE, uuid4().hex]))
        return int(alive), memory.decode()

    async def leave(self, replica: str) -> None:
        """Say that this replica ends."""
        await self._link.ask(lambda: self._link.redis.zrem(REPLICAS[0], replica))

    def degraded(self) -> str | None:
        return None

    async def close(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])  # at once, since nothing in it holds a cancellation up
        await self._link.close()

    async def _send(self, keys: list[str], args: list[str]) -> bytes:
        """Have the sender ask for one hit. Raises StoreDown."""
        if len(self._waiting) >= MAX_WAITING:
            raise StoreDown("too many hits are waiting")
        loop = asyncio.get_running_loop()
        call = _Call(keys, args, loop.time(), loop.create_future())
        self._waiting.append(call)
        self._has_waiting.set()
        if self._sender is None or self._sender.done():
            # The one owner of this task is this object, and close() ends it.
            self._sender = asyncio.create_task(self._send_waiting(), name="redis sender")  # noqa: TID251
        return await call.answer  # the sender answers every call, within the deadline and a quarter

    async def _send_waiting(self) -> None:
        """Send what has come together while the last batch was under way: under load, many hits share a round trip."""
        batch: list[_Call] = []
        try:
            while True:
                await self._has_waiting.wait()
                self._has_waiting.clear()
                while self._waiting:
                    batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
                    try:
                        calls = [(call.keys, call.args) for call in batch]
                        answers = await self._link.ask(
                            partial(self._link.evaluate, self._hit, calls), self._left(batch[0])
                        )
                    except StoreDown as error:
                        self._settle(batch, error)  # with those behind, who would wait for the same silence
                        continue
                    for call, answer in zip(batch, answers, strict=True):
                        call.settle(answer)
        finally:
            self._settle(batch, StoreDown("the sender ended"))

    def _left(self, oldest: _Call) -> float:
        """What waiting behind another batch has left of the deadline, but enough for a Redis that is well."""
        return max(self._link.deadline / 4, self._link.deadline - (asyncio.get_running_loop().time() - oldest.since))

    def _settle(self, batch: list[_Call], down: StoreDown) -> None:
        for call in (*batch, *self._waiting):
            call.settle(down)
        self._waiting.clear()


@dataclass(slots=True)
class _Call:
    """One hit on its way."""

    keys: list[str]
    args: list[str]
    since: float  # by the loop's clock
    answer: asyncio.Future[bytes]

    def settle(self, answer: bytes | Exception) -> None:
        if self.answer.done():  # whoever asked has left
            return
        if isinstance(answer, bytes):
            self.answer.set_result(answer)
        else:
            error = answer if isinstance(answer, StoreDown) else StoreDown(type(answer).__name__)
            self.answer.set_exception(error)
