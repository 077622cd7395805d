"""Jobs of this process alone: they end with it. See Jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from proxy.store import MOST_JOBS, Job

MAX_BYTES = 64 * 1024 * 1024


class MemoryJobs:
    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._dead: dict[str, float] = {}  # the oldest first
        self._jobs: dict[str, Job] = {}
        self._bytes = 0

    async def put(self, name: str, data: bytes) -> bool:
        if len(self._due) >= MOST_JOBS or self._bytes + len(data) > MAX_BYTES:
            return False
        self._drop(name)
        self._jobs[name] = Job(name, data)
        self._bytes += len(data)
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

    async def bury(self, name: str) -> None:
        if self._due.pop(name, None) is None:
            return
        self._dead[name] = self._clock()
        while len(self._dead) > MOST_JOBS:
            self._drop(next(iter(self._dead)))

    async def again(self, name: str) -> bool:
        if self._dead.pop(name, None) is None:
            return False
        self._jobs[name] = replace(self._jobs[name], tries=0)
        self._due[name] = self._clock()
        return True

    async def dead(self, number: int) -> list[Job]:
        return [replace(self._jobs[name], at=at) for name, at in list(self._dead.items())[::-1][:number]]

    async def waiting(self) -> int:
        return len(self._due)

    def _drop(self, name: str) -> None:
        job = self._jobs.pop(name, None)
        self._bytes -= len(job.data) if job else 0
        self._due.pop(name, None)
        self._dead.pop(name, None)
