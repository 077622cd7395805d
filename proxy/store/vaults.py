"""Vaults of one process, bounded. Where there is no more room, the one that was used longest ago is forgotten."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from proxy.store import Versioned

OVERHEAD = 500  # bytes of a vault besides its data, about


@dataclass(slots=True)
class _Kept:
    version: int
    data: bytes
    ends: float


class MemoryVaults:
    """`clock` gives seconds and never goes back. At most `max_bytes` are held, and expired ones only until room is
    needed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._vaults: OrderedDict[str, _Kept] = OrderedDict()  # the one that was used longest ago first
        self._size = 0

    async def read(self, name: str, ttl: float) -> Versioned | None:
        kept = self._live(name)
        if kept is None:
            return None
        kept.ends = max(kept.ends, self._clock() + ttl)
        self._vaults.move_to_end(name)
        return Versioned(kept.version, kept.data)

    async def write(self, name: str, version: int, data: bytes, ttl: float) -> bool:
        kept = self._live(name)
        if (kept.version if kept else 0) != version:
            return False
        ends = max(kept.ends if kept else 0.0, self._clock() + ttl)
        self._forget(name)
        self._vaults[name] = _Kept(version + 1, data, ends)
        self._size += len(data) + OVERHEAD
        while self._size > self._max_bytes:
            self._forget(next(iter(self._vaults)))
        return True

    async def delete(self, name: str) -> None:
        self._forget(name)

    def _live(self, name: str) -> _Kept | None:
        kept = self._vaults.get(name)
        return kept if kept and kept.ends > self._clock() else None

    def _forget(self, name: str) -> None:
        if name in self._vaults:
            self._size -= len(self._vaults.pop(name).data) + OVERHEAD
