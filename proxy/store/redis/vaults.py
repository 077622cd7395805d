"""What is kept sealed for sessions. See Vaults."""

from __future__ import annotations

from proxy.store import Versioned
from proxy.store.redis.link import Link, key, milliseconds


class RedisVaults:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._vault = link.script("vault")

    async def read(self, name: str, ttl: float) -> Versioned | None:
        kept = await self._link.ask(lambda: self._vault([key(name, "vault")], [milliseconds(ttl)]))
        return None if kept is None else Versioned(int(kept[0]), kept[1])

    async def write(self, name: str, version: int, data: bytes, ttl: float) -> bool:
        args: list[int | bytes] = [milliseconds(ttl), version, data]
        return bool(await self._link.ask(lambda: self._vault([key(name, "vault")], args)))

    async def delete(self, name: str) -> None:
        await self._link.ask(lambda: self._link.redis.delete(key(name, "vault")))
