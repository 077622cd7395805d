"""Jobs that replicas share. See Jobs."""

from __future__ import annotations

from typing import Any

from proxy.store import MOST_JOBS, Held, Job
from proxy.store.redis.link import Link, key

KEYS = [key("hooks/jobs", kind) for kind in ("due", "data", "tries", "dead", "bytes")]


class RedisJobs:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._script = link.script("jobs")

    async def put(self, name: str, data: bytes, most_bytes: int) -> bool:
        return bool(await self._ask("put", name, data, most_bytes))

    async def take(self, lease: float) -> Job | None:
        found = await self._ask("take", "", f"{lease:.3f}")
        return None if found is None else Job(found[0].decode(), found[1], int(found[2]))

    async def done(self, name: str) -> None:
        await self._ask("done", name)

    async def later(self, name: str, seconds: float, *, is_try: bool = True) -> None:
        await self._ask("later" if is_try else "hold", name, f"{seconds:.3f}")

    async def bury(self, name: str, most_bytes: int) -> None:
        await self._ask("bury", name, "", most_bytes)

    async def again(self, name: str) -> bool:
        return bool(await self._ask("again", name))

    async def dead(self, number: int) -> list[Job]:
        found = await self._ask("dead", "", number)
        return [Job(name.decode(), data, int(tries), float(at)) for name, data, tries, at in found]

    async def held(self) -> Held:
        return Held(*await self._ask("held", ""))

    # Any: as redis-py parses it
    async def _ask(self, what: str, name: str, more: str | bytes | int = "", most_bytes: int = 0) -> Any:
        return await self._link.ask(lambda: self._script(KEYS, [what, MOST_JOBS, most_bytes, name, more]))
