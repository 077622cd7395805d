"""Answers that replicas read of one another. See Journals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from proxy.store import ALIVE, Batch, Kept, Look, StoreDown
from proxy.store.redis.link import Link, key, milliseconds

LOOK_AT = 16  # batches in one round trip
DEADLINE = 1.0  # nobody waits for it, and a round trip may carry a megabyte


class RedisJournals:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._keep = link.script("keep")
        self._look = link.script("look")
        self._bury = link.script("bury")
        self._stop = link.script("stop")

    async def keep(self, batches: Sequence[Batch]) -> list[Kept]:
        calls = [
            (_journal(batch.name), (batch.number, milliseconds(batch.ttl), milliseconds(ALIVE), batch.data))
            for batch in batches
        ]
        kept = []
        for answer in await self._link.ask(partial(self._link.evaluate, self._keep, calls), DEADLINE):
            if not isinstance(answer, bytes):
                raise StoreDown(type(answer).__name__)  # such as OOM: Redis is full
            length, is_stopped, is_heard = map(int, answer.split())
            kept.append(Kept(length, bool(is_stopped), bool(is_heard), is_buried=length < 0))
        return kept

    async def look(self, name: str, number: int, *, listens: bool) -> Look | None:
        args = [number, LOOK_AT, milliseconds(ALIVE), int(listens)]
        found = await self._link.ask(lambda: self._look(_journal(name), args), DEADLINE)
        return None if found is None else Look(bool(found[0]), int(found[1]), found[2])

    async def bury(self, name: str, number: int, data: bytes) -> bool:
        args: list[int | bytes] = [number, milliseconds(ALIVE), data]
        return bool(await self._link.ask(lambda: self._bury(_journal(name), args)))

    async def stop(self, name: str) -> None:
        await self._link.ask(lambda: self._stop(_journal(name)[1:]))


def _journal(name: str) -> list[str]:
    return [key(name, "batches"), key(name, "marks")]
