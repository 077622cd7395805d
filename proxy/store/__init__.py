"""State shared by replicas. Operations are whole decisions, so that a backend can take each atomically.

Every backend passes tests/store/test_contract.py. Times are seconds; keys are plain ASCII without spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tier:
    """One sliding-window limit to be counted against: at most `limit` hits in any `window` seconds.

    `burst` > 0 adds a token bucket of that size, refilled at `limit / window`.
    """

    key: str
    limit: int
    window: float
    burst: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """Where one tier stands after the decision.

    `retry_after` is 0 when this tier let the hit pass; otherwise that many seconds from now, a hit passes this tier
    (if nobody else hits it first). `reset` is the time until the oldest hit that still counts leaves the window.
    """

    remaining: int
    reset: float
    retry_after: float


class StoreDown(Exception):
    """A backend could not decide in time. Says why, without addresses or passwords."""


class Store(Protocol):
    async def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        """Count one hit against all tiers, or, if any refuses, against none. One round trip. Order as given."""
        ...

    async def add(self, key: str, ttl: float) -> bool:
        """Remember the key for `ttl` seconds. True only for the one caller who was first."""
        ...

    async def has(self, key: str) -> bool: ...

    def degraded(self) -> str | None:
        """Why decisions are local only at the moment, or None when all is well."""
        ...

    async def close(self) -> None: ...
