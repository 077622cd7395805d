"""Jobs of this process alone: they end with it. See Jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from proxy.store import MOST_JOBS, Held, Job


class MemoryJobs:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._dead: dict[str, float] = {}  # the oldest first
        self._jobs: dict[str, Job] = {}

    async def put(self, name: str, data: bytes, most_bytes: int) -> bool:
        if len(self._due) >= MOST_JOBS or self._bytes(self._due) + len(data) > most_bytes:
            return False
        self._drop(name)
        self._jobs[name] = Job(name, data)
        self._due[name] = self._clock()
        return True

    async def take(self, lease: float) -> Job | None:
        now = self._clock()
        name = min(self._due, key=self._due.__getitem__, default="")
        if not name or self._due[name] > now:
            return None
        self._due[name] = now + lease
        job = self._jobs[name] = replace(self._jobs[name], tries=self._jobs[name].tries + 1)
        return job

    async def done(self, name: str) -> None:
        self._drop(name)

    async def later(self, name: str, seconds: float, *, is_try: bool = True) -> None:
        if name in self._due:
            self._due[name] = self._clock() + seconds
            job = self._jobs[name]
            self._jobs[name] = replace(job, tries=job.tries - (not is_try))

    async def bury(self, name: str, most_bytes: int) -> None:
        if self._due.pop(name, None) is None:
            return
        self._dead[name] = self._clock()
        while len(self._dead) > MOST_JOBS or self._bytes(self._dead) > most_bytes:
            self._drop(next(iter(self._dead)))

    async def again(self, name: str) -> bool:
        if self._dead.pop(name, None) is None:
            return False
        self._jobs[name] = replace(self._jobs[name], tries=0)
        self._due[name] = self._clock()
        return True

    async def dead(self, number: int) -> list[Job]:
        return [replace(self._jobs[name], at=at) for name, at in list(self._dead.items())[::-1][:number]]

    async def held(self) -> Held:
        return Held(len(self._due), self._bytes(self._due), len(self._dead), self._bytes(self._dead))

    def _bytes(self, names: Iterable[str]) -> int:
        return sum(len(self._jobs[name].data) for name in names)

    def _drop(self, name: str) -> None:
        self._jobs.pop(name, None)
        self._due.pop(name, None)
        self._dead.pop(name, None)
