"""How much one upstream is asked at a time: so many answers at once, a bounded queue in front, first come first served.

What it stops: a crowd that would drown a workflow, which takes every call and queues without end. What it doesn't: each
process counts its own, so N of them ask N times as much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from proxy.config import Section
from proxy.errors import UpstreamUnavailable
from proxy.upstream.breaker import BreakerSettings

PATIENCE = 120.0  # seconds of waiting, where an upstream has no deadline for its first byte
LONGEST = 900.0  # seconds of answering, where it has none for that
_LONGEST_RETRY = 60.0


class LineSettings(Section):
    """What guards an upstream of any kind."""

    max_concurrent: int = Field(50, ge=1, le=20_000)  # answers at a time, for each process
    max_waiting: int = Field(100, ge=0, le=20_000)  # messages that wait for one of them to end
    breaker: BreakerSettings = BreakerSettings()
    fallback: str | None = None  # what visitors read while it isn't asked

    @property
    def patience(self) -> float:
        """Seconds that a message may wait for a slot."""
        return PATIENCE

    @property
    def longest(self) -> float:
        """Seconds that a message may take, from waiting for a slot to the end of its answer."""
        return self.patience + LONGEST


class Slots:
    """One upstream's slots. Nobody waits longer than `patience` seconds. For one event loop."""

    def __init__(self, name: str, limit: int, max_waiting: int, patience: float) -> None:
        self._name = name
        self._limit = limit
        self._max_waiting = max_waiting
        self.patience = patience
        self._queue: deque[asyncio.Future[None]] = deque()
        self._held = 1.0  # seconds that a slot is held, on average of late
        self.active = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A slot while this lasts. Raises UpstreamUnavailable where there is none and no room to wait for one."""
        if self.active < self._limit:  # then nobody waits: who leaves hands the slot over
            self.active += 1
        elif self.waiting < self._max_waiting:
            await self._wait()
        else:
            raise self._refusal("the queue is full")
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            yield
        finally:
            self._held += (loop.time() - since - self._held) / 16
            self._leave()

    def dismiss(self, detail: str) -> None:
        """Nobody who waits now will be let through."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():  # whoever is leaving is no longer
                place.set_exception(UpstreamUnavailable(detail, retry_after=1))

    async def _wait(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            async with asyncio.timeout(self.patience):
                await place
        except (asyncio.CancelledError, TimeoutError) as error:
            if place in self._queue:
                self._queue.remove(place)
            elif not place.cancelled() and place.exception() is None:
                self._leave()  # the slot came together with the end of waiting
            if isinstance(error, TimeoutError):
                raise self._refusal("no slot in time") from error
            raise

    def _leave(self) -> None:
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.active -= 1

    def _refusal(self, why: str) -> UpstreamUnavailable:
        """Come back when those who wait now will have been served, as far as can be told."""
        wait = self._held * (self.waiting + 1) / self._limit
        return UpstreamUnavailable(f"{self._name}: {why}", retry_after=min(max(1.0, wait), _LONGEST_RETRY))
