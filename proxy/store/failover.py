"""Never unlimited, never locked: while the shared store is down, this replica counts its share of each limit locally.

What it stops: a dead or hanging store makes no client wait for more than 300 ms, and opens no limit. Each replica
remembers what it let pass itself: its share isn't on top of that, and the store is told of it when it is back.
What it doesn't: who used a limit up through one replica can get the other replicas' shares on top; limits smaller than
the number of replicas become one for each; and a replica that has not reached the store since it started knows of no
other and gives the whole limit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol
from uuid import uuid4

from proxy.background import Background
from proxy.store import (
    Circuits,
    Hit,
    Hits,
    Jobs,
    Journals,
    Posts,
    RevocationLog,
    SessionList,
    Store,
    StoreDown,
    Tier,
    Vaults,
)
from proxy.store.desk import SharedLedger
from proxy.store.memory import MemoryStore
from proxy.store.reputation import Reputations

_log = logging.getLogger(__name__)

MAX_TOLD = 20_000  # keys that the store is told of after an outage, those used last first
TOLD_AT_ONCE = 200
ROUNDS = 3


class SharedStore(Store, Protocol):
    """A store of several replicas. Every operation raises StoreDown within 300 ms when it can't decide."""

    async def beat(self, replica: str) -> tuple[int, str]:
        """Say that this replica is alive; return how many are, and a name for all that the store remembers."""
        ...

    async def restore(self, hits: Sequence[Hits]) -> None:
        """Count what was counted elsewhere."""
        ...

    async def leave(self, replica: str) -> None: ...


class FailoverStore:
    """The shared store while it is up, the local one while it isn't.

    One background task calls the shared store every `interval` seconds, which tells whether it is up and counts the
    replicas. It runs from start() to close(); without it, the first failure is for good.
    """

    def __init__(
        self,
        shared: SharedStore,
        local: MemoryStore,
        *,
        circuits: Circuits | None = None,
        journals: Journals | None = None,
        posts: Posts | None = None,
        ledger: SharedLedger | None = None,
        reputations: Reputations | None = None,
        revocations: RevocationLog | None = None,
        vaults: Vaults | None = None,
        sessions: SessionList | None = None,
        jobs: Jobs | None = None,
        interval: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._local = local
        self.circuits = circuits
        self.journals = journals
        self.posts = posts
        self.ledger = ledger
        self.reputations = reputations
        self._recalls: list[Callable[[], Awaitable[None]]] = []
        self.revocations = revocations
        self.vaults = vaults
        self.sessions = sessions
        self.jobs = jobs
        self._interval = interval
        self._clock = clock
        self._replica = uuid4().hex
        self._replicas = 1
        self._memory = ""  # the name of what the store remembers
        self._down: tuple[float, str] | None = None  # since when, and why
        self._down_since = 0.0  # the same by the local store's clock
        self._background = Background()

    async def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        if self._down is None:
            try:
                hits = await self._shared.hit(tiers)
            except StoreDown as down:
                self.fail(down)
            else:
                if not any(hit.retry_after for hit in hits):
                    self._local.note(tiers)
                return hits
        return await self._local.hit([self._share(tier) for tier in tiers])

    async def add(self, key: str, ttl: float) -> bool:
        """Remember the key for `ttl` seconds. True only for the one caller who was first.

        During an outage each replica knows only the keys that it was asked to add itself, before or during the outage:
        what is once-only can then be used once at each replica. After it, keys added during the outage are
        known only to the replica that added them.
        """
        if await self._local.has(key):
            return False
        if self._down is None:
            try:
                first = await self._shared.add(key, ttl)
            except StoreDown as down:
                self.fail(down)
            else:
                await self._local.add(key, ttl)  # for the next outage; where there is no room, that outage forgets it
                return first
        return await self._local.add(key, ttl)

    async def has(self, key: str) -> bool:
        """See add() for what is known during an outage."""
        if await self._local.has(key):
            return True
        if self._down is None:
            try:
                return await self._shared.has(key)
            except StoreDown as down:
                self.fail(down)
        return False

    async def claim(self, key: str, value: bytes, ttl: float, instead: bytes = b"") -> bytes:
        """See Store. What this replica was told before stays so here until somebody replaces it: an outage has each
        replica know what it asked itself, before or during it.
        """
        held = await self._local.claim(key, value, ttl, instead)
        if held != value or self._down is not None:
            return held
        try:
            held = await self._shared.claim(key, value, ttl, instead)
        except StoreDown as down:
            self.fail(down)
            return value
        return await self._local.claim(key, held, ttl, instead=value)

    async def release(self, key: str, value: bytes) -> None:
        """See Store. What can't be told to the shared store expires there."""
        await self._local.release(key, value)
        if self._down is None:
            try:
                await self._shared.release(key, value)
            except StoreDown as down:
                self.fail(down)

    @property
    def replicas(self) -> int:
        """How many replicas share the store, as far as this one knows."""
        return self._replicas

    def share(self) -> int | None:
        """This replica is one of so many while the shared store is away; None where it isn't."""
        return None if self._down is None else self._replicas

    def on_loss(self, recall: Callable[[], Awaitable[None]]) -> None:
        """Have this done when the shared store lost its memory. It may raise StoreDown, and is then done again."""
        self._recalls.append(recall)

    def degraded(self) -> str | None:
        if self._down is None:
            return None
        since, reason = self._down
        return (
            f"redis is not reachable since {self._clock() - since:.0f} s ({reason}); "
            f"counting locally with 1/{self._replicas} of each limit"
        )

    async def start(self) -> None:
        """Look once whether the shared store is up, which it need not be, and go on looking until close()."""
        await self._look()
        self._background.begin(self._keep_looking(), "store watch")

    async def close(self) -> None:
        try:
            await self._background.end()
        finally:
            await self._leave()

    async def _leave(self) -> None:
        if self._down is None:
            try:
                await self._shared.leave(self._replica)
            except StoreDown as down:
                _log.info("redis was not told that this replica ends (%s)", down)
        await self._shared.close()
        await self._local.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._look()

    async def _look(self) -> None:
        try:
            replicas, memory = await self._shared.beat(self._replica)
            was_lost = self._memory not in ("", memory)
            if self._down is not None or was_lost:
                await self._tell(0.0 if was_lost else self._down_since)
            for recall in self._recalls if was_lost else ():
                await recall()
        except StoreDown as down:
            self.fail(down)
            return
        self._replicas, self._memory = max(1, replicas), memory
        if self._down is not None:
            since, _ = self._down
            self._down = None
            _log.info("redis is back after %.1f s", self._clock() - since)

    async def _tell(self, since: float) -> None:
        """Tell the store what was counted here since then, while that goes on."""
        for _ in range(ROUNDS):
            now = self._local.now()
            hits = list(islice(self._local.counted(since), MAX_TOLD))
            if not hits:
                return
            for start in range(0, len(hits), TOLD_AT_ONCE):
                await self._shared.restore(hits[start : start + TOLD_AT_ONCE])
            since = now

    def fail(self, down: StoreDown) -> None:
        """It was found to be away."""
        if self._down is None:
            self._down = self._clock(), str(down)
            self._down_since = self._local.now()
            _log.warning("redis is not reachable (%s); counting locally with 1/%d of each limit", down, self._replicas)

    def _share(self, tier: Tier) -> Tier:
        if self._replicas == 1:
            return tier
        # The burst only where there is one: 0 means none.
        burst = max(1, tier.burst // self._replicas) if tier.burst else 0
        return replace(tier, limit=max(1, tier.limit // self._replicas), burst=burst)
