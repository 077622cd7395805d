"""Boxes of posts that replicas share. See Posts."""

from __future__ import annotations

from typing import Any

from proxy.store import Post
from proxy.store.redis.link import MICRO, Link, milliseconds

POSTS = "sidegate:{posts}"  # one slot of a cluster, since one script forgets posts of any box
MAX_IN_BOX = {"push": 100, "start": 20}
MAX_POSTS = {"push": 5_000, "start": 20_000}  # of each kind; a push has 64 KiB at most
MAX_NEWS = 1_000  # posts looked at in one round trip
TAKEN_SECONDS = 10


class RedisPosts:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._post = link.script("post")
        self._posts = link.script("posts")

    async def post(self, box: str, kind: str, data: bytes, ttl: float) -> int:
        keys = [_box(kind, box), f"{POSTS}:all:{kind}", f"{POSTS}:last"]
        args: list[str | bytes | int] = [box, data, milliseconds(ttl), MAX_IN_BOX[kind], MAX_POSTS[kind]]
        return int(await self._link.ask(lambda: self._post(keys, args)))

    async def posts(self, box: str, after: int, ttl: float) -> list[Post]:
        keys = [_box(kind, box) for kind in MAX_IN_BOX]
        start = f"{after + 1}-0" if after >= 0 else "-"
        # As one script, since a cluster's TIME may be another server's.
        now, *lists = await self._link.ask(lambda: self._posts(keys, [start]))
        found = [
            Post(_number(entry), kind, data)
            for kind, entries in zip(MAX_IN_BOX, lists, strict=True)
            for entry, (_, data) in entries
        ]
        since = int(now) - round(ttl * MICRO)
        return sorted((post for post in found if post.number > since), key=lambda post: post.number)

    async def boxes(self, after: int | None) -> tuple[int, set[str]]:
        if after is None:
            return int(await self._link.ask(lambda: self._link.redis.get(f"{POSTS}:last")) or 0), set()
        streams: dict[Any, Any] = {f"{POSTS}:all:{kind}": f"{after}-0" for kind in MAX_POSTS}  # Any: redis-py's names
        answer: Any = await self._link.ask(lambda: self._link.redis.xread(streams, count=MAX_NEWS))
        lists = [entries for _, entries in answer or []]
        # Where one list was cut short, the other waits for it: the place in both is one number.
        cut = [_number(entries[-1][0]) for entries in lists if len(entries) == MAX_NEWS]
        found = {_number(entry): fields[b"n"].decode() for entries in lists for entry, fields in entries}
        place = min(cut) if cut else max(found, default=after)
        return place, {box for number, box in found.items() if number <= place}

    async def take(self, number: int) -> None:
        await self._link.ask(lambda: self._link.redis.set(f"{POSTS}:taken:{number}", 1, ex=TAKEN_SECONDS))

    async def is_taken(self, number: int) -> bool:
        return bool(await self._link.ask(lambda: self._link.redis.exists(f"{POSTS}:taken:{number}")))


def _box(kind: str, box: str) -> str:
    return f"{POSTS}:{kind}:{box}"


def _number(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])
