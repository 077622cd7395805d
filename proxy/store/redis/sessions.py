"""Sessions that were seen of late, listed by site. See SessionList."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.store import Listed
from proxy.store.redis.link import Link, key

AT_ONCE = 500  # in one round trip: about a millisecond of Redis


class RedisSessions:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._enrol = link.script("enrol")
        self._listed = link.script("listed")

    async def enter(self, site: str, session: Listed, most: int, most_of_owner: int, keep: int) -> list[str] | None:
        args = [keep, most, most_of_owner, *_words(session)]
        # Any: as redis-py parses it
        gone: Any = await self._link.ask(lambda: self._enrol(_keys(site), args))
        return None if gone is None else [name.decode() for name in gone]

    async def seen(self, site: str, sessions: Sequence[Listed], keep: int) -> None:
        for first in range(0, len(sessions), AT_ONCE):
            words = [word for session in sessions[first : first + AT_ONCE] for word in _words(session)]
            args = [keep, 0, 0, *words]
            await self._link.ask(lambda args=args: self._enrol(_keys(site), args))  # type: ignore[misc]  # bound at once

    async def leave(self, site: str, session: Listed) -> None:
        async def drop() -> None:
            seen, facts = _keys(site)
            await self._link.redis.zrem(seen, session.name)
            await self._link.redis.hdel(facts, session.name)
            if session.owner:
                await self._link.redis.zrem(f"{seen}:{session.owner}", session.name)

        await self._link.ask(drop)

    async def listed(self, site: str, owner: str, first: int, number: int, keep: int) -> list[Listed]:
        seen, facts = _keys(site)
        keys = [f"{seen}:{owner}" if owner else seen, facts]
        found: Any = await self._link.ask(lambda: self._listed(keys, [keep, first, number]))  # Any: as redis-py parses
        return [Listed(name.decode(), owner, data, float(when)) for name, when, data in found]


def _keys(site: str) -> list[str]:
    return [key(f"sessions:{site}", "seen"), key(f"sessions:{site}", "facts")]


def _words(session: Listed) -> list[str | bytes]:
    return [session.name, session.owner, session.facts]
