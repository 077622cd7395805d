"""Who misbehaved of late, and who is blocked for it: a score that halves itself, and blocks that grow.

Subjects are names such as `ip:192.0.2.7`. Times are seconds.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_SUBJECTS = 50_000
ROUNDED = 0.5  # ten refusals in a minute are ten points, although the first have faded a little


@dataclass(frozen=True, slots=True)
class Rule:
    """Points halve every `half_life`. At `block_after` points a subject is blocked for `block_for` seconds, the next
    time for twice as long, up to `longest`; a block leaves half of the points."""

    half_life: float
    block_after: float
    block_for: float
    longest: float


@dataclass(frozen=True, slots=True)
class Block:
    """`left`: seconds until it ends. `by_hand`: somebody wanted it; points didn't."""

    subject: str
    left: float
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Repute:
    """How a subject stands: its points now, and for how long it is blocked (0: not)."""

    score: float
    blocked: float


class Reputations(Protocol):
    """What replicas know together. All raise StoreDown."""

    async def note(self, points: Mapping[str, float], rule: Rule) -> dict[str, Repute]:
        """Add points to several subjects."""
        ...

    async def block(self, subject: str, seconds: float) -> None: ...

    async def unblock(self, subject: str) -> None:
        """Forget all of it."""
        ...

    async def blocks(self, known: int) -> tuple[int, Sequence[Block]] | None:
        """Who is blocked, and the number of this state of things; None where it is the one that is known already."""
        ...


@dataclass(slots=True)
class _Mark:
    score: float = 0.0
    at: float = 0.0
    until: float = 0.0
    times: int = 0
    by_hand: bool = False


class MemoryReputations:
    """In one process. `clock` gives seconds and never goes back. At most MAX_SUBJECTS are known, those noted last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: OrderedDict[str, _Mark] = OrderedDict()

    def note(self, subject: str, points: float, rule: Rule) -> Repute:
        now = self._clock()
        mark = self._mark(subject)
        mark.score = mark.score * 0.5 ** ((now - mark.at) / rule.half_life) + points
        mark.at = now
        if mark.score >= rule.block_after - ROUNDED and mark.until <= now:
            if now - mark.until > rule.longest:
                mark.times = 0
            mark.times += 1
            mark.until = now + min(rule.longest, rule.block_for * 2 ** min(mark.times - 1, 30))
            mark.score, mark.by_hand = rule.block_after / 2, False
        return Repute(mark.score, max(0.0, mark.until - now))

    def score(self, subject: str, half_life: float) -> float:
        mark = self._marks.get(subject)
        return mark.score * 0.5 ** ((self._clock() - mark.at) / half_life) if mark else 0.0

    def raise_to(self, subject: str, score: float) -> None:
        """Others know more of it."""
        mark = self._mark(subject)
        mark.score, mark.at = score, self._clock()

    def block(self, subject: str, seconds: float, *, by_hand: bool = True) -> None:
        mark = self._mark(subject)
        mark.until, mark.by_hand = self._clock() + seconds, by_hand

    def unblock(self, subject: str) -> None:
        self._marks.pop(subject, None)

    def blocked(self, subject: str) -> float:
        """Seconds that are left of its block."""
        mark = self._marks.get(subject)
        return max(0.0, mark.until - self._clock()) if mark else 0.0

    def is_by_hand(self, subject: str) -> bool:
        """Is its block somebody's wish?"""
        mark = self._marks.get(subject)
        return mark is not None and mark.by_hand and mark.until > self._clock()

    def blocks(self) -> list[Block]:
        now = self._clock()
        return [
            Block(subject, mark.until - now, mark.by_hand) for subject, mark in self._marks.items() if mark.until > now
        ]

    def _mark(self, subject: str) -> _Mark:
        mark = self._marks.setdefault(subject, _Mark())
        self._marks.move_to_end(subject)
        if len(self._marks) > MAX_SUBJECTS:
            self._marks.popitem(last=False)
        return mark
