"""State of one process, bounded. It counts for a single replica, and for any replica while Redis is down.

The bound is also the limit of what it defends: when more keys are live than fit, the least recently counted is
forgotten and its limit starts anew. Whoever can use `max_keys` addresses within one window gains that.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

from proxy.store import Hit, Hits, Tier

MICRO = 1_000_000  # times are whole microseconds inside, so that adding and comparing them is exact
SWEEP = 2  # expired logs dropped per counted tier: more than the one it can add
SWEEP_ONCE = 100  # expired once-only keys dropped per added one: bounds the pause when many end together


class _Log:
    """What is remembered of one key."""

    __slots__ = ("full_at", "times")

    def __init__(self) -> None:
        self.times = array("q")  # hits that may still count, oldest first
        self.full_at = 0  # when the token bucket is full again (GCRA's theoretical arrival time)


class MemoryStore:
    """Exact sliding windows: a log of each key's last hits, at most `limit` of them, 8 bytes a hit.

    `clock` gives seconds and never goes back. At most `max_keys` logs are held, as many once-only keys, as many
    claims. A key always comes with the same window, and there are few different windows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = 100_000) -> None:
        self._clock = clock
        self._max_keys = max_keys
        # By window, so that within a group the order of the last hits is the order in which the logs expire.
        self._groups: dict[int, OrderedDict[str, _Log]] = {}
        self._size = 0  # logs in all groups
        self._once: dict[str, int] = {}  # key -> when it is forgotten
        self._ends: list[tuple[int, str]] = []  # the same as a heap, plus what ended and was added anew
        self._claims: OrderedDict[str, tuple[int, bytes]] = OrderedDict()  # key -> when it is forgotten, and its value

    async def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        """See Store. Nothing is awaited, so no other hit comes between judging and counting."""
        now = self._now()
        windows, logs, waits = [], [], []
        for tier in tiers:
            window = round(tier.window * MICRO)
            log = self._live(tier.key, window, now)
            windows.append(window)
            logs.append(log)
            waits.append(_wait(tier, window, log, now) if log else 0)
        if not any(waits):
            logs = [self._count(*tier, now) for tier in zip(tiers, windows, logs, strict=True)]
            self._tidy(windows, now)  # last, so that no log is dropped between being judged and being counted in
        return [_state(*tier, now) for tier in zip(tiers, windows, logs, waits, strict=True)]

    def note(self, tiers: Sequence[Tier]) -> None:
        """Count a hit that was let pass elsewhere."""
        now = self._now()
        windows = [round(tier.window * MICRO) for tier in tiers]
        for tier, window in zip(tiers, windows, strict=True):
            self._count(tier, window, self._live(tier.key, window, now), now)
        self._tidy(windows, now)

    def now(self) -> float:
        """Seconds by this store's clock."""
        return self._clock()

    def counted(self, since: float) -> Iterator[Hits]:
        """What was counted from then on, by now(), as far as it still counts."""
        now, start = self._now(), round(since * MICRO)
        for window, group in self._groups.items():
            for key, log in reversed(group.items()):  # those that were counted in last come first
                if _last_of(log) < max(start, now - window + 1):
                    break
                ages = [(now - time) / MICRO for time in log.times if time >= start and time > now - window]
                yield Hits(key, window / MICRO, ages, max(0, log.full_at - now) / MICRO)

    async def add(self, key: str, ttl: float) -> bool:
        """Remember the key for `ttl` seconds. True only for the one caller who was first.

        Without room for the key the answer is False, as if somebody had been first: what can't be remembered could be
        used twice.
        """
        now = self._now()
        if self._once.get(key, 0) > now:
            return False
        for _ in range(SWEEP_ONCE):
            if not self._ends or self._ends[0][0] > now:
                break
            ends, ended = heappop(self._ends)
            if self._once.get(ended) == ends:  # and it was not added anew since
                del self._once[ended]
        if len(self._ends) >= self._max_keys:
            return False
        ends = now + round(ttl * MICRO)
        self._once[key] = ends
        heappush(self._ends, (ends, key))
        return True

    async def has(self, key: str) -> bool:
        return self._once.get(key, 0) > self._now()

    async def claim(self, key: str, value: bytes, ttl: float, instead: bytes = b"") -> bytes:
        """See Store. Where there are too many, the one that was made longest ago goes."""
        now = self._now()
        held = self._held(key, now)
        if held not in (None, instead):
            return held
        self._claims[key] = now + round(ttl * MICRO), value
        self._claims.move_to_end(key)
        for _ in range(SWEEP):
            if len(self._claims) <= self._max_keys and self._held(next(iter(self._claims)), now) is not None:
                break
            self._claims.popitem(last=False)
        return value

    async def release(self, key: str, value: bytes) -> None:
        if self._held(key, self._now()) == value:
            del self._claims[key]

    def degraded(self) -> str | None:
        return None

    async def start(self) -> None:
        """There is nothing to start."""

    async def close(self) -> None:
        """There is nothing to close."""

    def _now(self) -> int:
        return round(self._clock() * MICRO)

    def _held(self, key: str, now: int) -> bytes | None:
        ends, value = self._claims.get(key, (0, b""))
        return value if ends > now else None

    def _live(self, key: str, window: int, now: int) -> _Log | None:
        """The key's log, cut down to the hits that count."""
        group = self._groups.get(window)
        log = group.get(key) if group else None
        if log and log.times and log.times[0] <= now - window:
            del log.times[: bisect_right(log.times, now - window)]
        return log

    def _count(self, tier: Tier, window: int, log: _Log | None, now: int) -> _Log:
        if log:
            self._groups[window].move_to_end(tier.key)
        else:
            log = self._groups.setdefault(window, OrderedDict())[tier.key] = _Log()
            self._size += 1
        log.times.append(now)
        if 0 < tier.burst < tier.limit:
            log.full_at = max(log.full_at, now) + _interval(tier, window)
        return log

    def _tidy(self, windows: Sequence[int], now: int) -> None:
        """Drop a few logs that expired, and if that is not enough those that were counted longest ago."""
        for window in windows:
            group = self._groups[window]
            for _ in range(SWEEP):
                if _last(group) > now - window:
                    break
                group.popitem(last=False)
                self._size -= 1
        while self._size > self._max_keys:
            live = {window: group for window, group in self._groups.items() if group}
            # Expired ones of a window that nobody counts in any more come first.
            window = min(live, key=lambda window: (_last(live[window]) > now - window, _last(live[window])))
            live[window].popitem(last=False)
            self._size -= 1


def _last(group: OrderedDict[str, _Log]) -> int:
    """The last hit of the log that was counted in longest ago."""
    return _last_of(next(iter(group.values())))


def _last_of(log: _Log) -> int:
    return log.times[-1] if log.times else 0


def _interval(tier: Tier, window: int) -> int:
    """Microseconds in which a token comes back. Rounded down: every bucket is full again after its window."""
    return max(1, window // tier.limit)


def _wait(tier: Tier, window: int, log: _Log, now: int) -> int:
    """Microseconds until the tier lets a hit pass, 0 for now."""
    wait = 0
    count = len(log.times)
    if count >= tier.limit:  # more than the limit where it was lowered since
        wait = log.times[count - tier.limit] + window - now
    # A bucket as large as the limit never refuses what the log lets pass.
    if 0 < tier.burst < tier.limit:
        wait = max(wait, log.full_at - (tier.burst - 1) * _interval(tier, window) - now)
    return wait


def _state(tier: Tier, window: int, log: _Log | None, wait: int, now: int) -> Hit:
    remaining, reset = tier.limit, 0
    if log and log.times:
        remaining = max(0, tier.limit - len(log.times))
        reset = log.times[0] + window - now
    if 0 < tier.burst < tier.limit:
        used = max(0, log.full_at - now) if log else 0
        remaining = min(remaining, tier.burst - -(-used // _interval(tier, window)))
    return Hit(remaining, reset / MICRO, wait / MICRO)
