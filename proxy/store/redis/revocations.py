"""The log of revocations that replicas share: a stream, and a name that tells one log from the next. See RevocationLog.

What it doesn't stop: a Redis without `appendonly yes` loses the log with its memory. guard/revocation.py notices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.store import Mark, Marks, StoreDown
from proxy.store.redis.link import MICRO, Link

LOG = "sidegate:{revoked}:log"
NAME = "sidegate:{revoked}:name"
MAX_MARKS = 100_000  # about 15 MB in Redis, and 40 MB in each replica
PAGE = 1_000


class RedisRevocations:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._revoke = link.script("revoke")
        self._revoked = link.script("revoked")

    async def begin(self, name: str, since: int) -> None:
        await self._link.ask(lambda: self._link.redis.set(NAME, f"{name} {since}", nx=True))

    async def revoke(self, marks: Sequence[Mark], keep: float) -> None:
        args: list[str | int] = [round(keep * MICRO), MAX_MARKS]
        args += [f"{mark.subject} {mark.at} {mark.until}" for mark in marks]
        if not await self._link.ask(lambda: self._revoke([LOG], args)):
            raise StoreDown(f"{MAX_MARKS} revocations are kept already")

    async def revoked(self, after: int) -> Marks:
        # Any: as redis-py parses it
        answer: Any = await self._link.ask(lambda: self._revoked([LOG, NAME], [after, PAGE]))
        head, newest, entries = answer
        name, since = (None, 0) if head is None else head.decode().split(" ")
        return Marks(
            name,
            int(since),
            _number(newest),
            _number(entries[-1][0]) if entries else after,
            [_mark(fields[1]) for _, fields in entries],
        )


def _mark(text: bytes) -> Mark:
    subject, at, until = text.decode().split(" ")
    return Mark(subject, int(at), int(until))


def _number(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])
