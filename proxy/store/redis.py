"""State shared by replicas, in Redis. Each operation is one atomic decision there, in one round trip, or StoreDown.

What it doesn't stop: a Redis that loses its memory (a restart, a failover to a replica that lags) forgets the hits and
the once-only keys it lost, and their limits start anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from math import ceil
from typing import Any, TypeVar
from uuid import uuid4

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from proxy.store import Hit, StoreDown, Tier
from proxy.store.url import StoreUrl

MICRO = 1_000_000
SILENCE = 10  # seconds after which a replica that says nothing is no longer counted
REPLICAS = "sidegate:replicas"
T = TypeVar("T")


class RedisStore:
    """One standalone Redis or Valkey. Time is the server's, so replicas need not agree on it.

    No operation takes longer than `deadline` seconds; the rest of the 300 ms that a decision may take is for deciding
    without Redis.
    """

    def __init__(self, url: StoreUrl, *, deadline: float = 0.25, max_connections: int = 50) -> None:
        self._deadline = deadline
        # redis-py's defaults retry for seconds, and raise when all connections are in use instead of waiting for one.
        self._redis = Redis.from_pool(
            BlockingConnectionPool(
                max_connections=max_connections,
                timeout=deadline,
                retry=Retry(NoBackoff(), 0),
                # _ask has the one timeout. This one would be a task more for every command, a sixth of its cost.
                socket_timeout=None,
                socket_connect_timeout=deadline,
                # Anything else is one more round trip for every new connection.
                protocol=2,
                driver_info=None,
                **_address(url),
            )
        )
        # Script objects load themselves again into a Redis that was restarted.
        self._hit = self._redis.register_script(_lua("hit"))
        self._beat = self._redis.register_script(_lua("beat"))

    async def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        keys: list[str] = []
        args: list[str] = []
        for tier in tiers:
            keys.append(_key(tier.key, "hits"))
            # A bucket as large as the limit never refuses what the log lets pass.
            has_bucket = 0 < tier.burst < tier.limit
            if has_bucket:
                keys.append(_key(tier.key, "bucket"))
            args.append(f"{tier.limit} {round(tier.window * MICRO)} {tier.burst if has_bucket else 0}")
        answer: bytes = await self._ask(lambda: self._hit(keys, args))
        numbers = list(map(int, answer.split()))
        return [Hit(numbers[i], numbers[i + 1] / MICRO, numbers[i + 2] / MICRO) for i in range(0, len(numbers), 3)]

    async def add(self, key: str, ttl: float) -> bool:
        """Remember the key for `ttl` seconds. True only for the one caller who was first."""
        name, mark, life = _key(key, "once"), uuid4().hex, max(1, ceil(ttl * 1000))

        async def be_first() -> bool:
            if await self._redis.set(name, mark, nx=True, px=life):
                return True
            # A second look, where somebody was first: it may have been us, and the answer got lost with its connection.
            return bool(await self._redis.get(name) == mark.encode())

        return await self._ask(be_first)

    async def has(self, key: str) -> bool:
        return bool(await self._ask(lambda: self._redis.exists(_key(key, "once"))))

    async def beat(self, replica: str) -> int:
        """Say that this replica is alive; return how many are."""
        alive: int = await self._ask(lambda: self._beat([REPLICAS], [replica, SILENCE]))
        return alive

    async def leave(self, replica: str) -> None:
        """Say that this replica ends."""
        await self._ask(lambda: self._redis.zrem(REPLICAS, replica))

    def degraded(self) -> str | None:
        return None

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._deadline):
                try:
                    return await call()
                except RedisConnectionError:
                    # A pooled connection that broke says nothing about Redis, which may have been restarted since. If
                    # the first attempt did arrive, a hit counts twice: that errs on the safe side.
                    return await call()
        # OSError includes TimeoutError. RuntimeError is uvloop's for a connection that closes while it is written to.
        except (RedisError, OSError, RuntimeError) as error:
            raise StoreDown(type(error).__name__) from error


def _address(url: StoreUrl) -> dict[str, Any]:  # Any: the pool takes what its connections take, untyped
    """How redis-py is told where Redis is."""
    login = {"username": url.username, "password": url.password.reveal() if url.password else None, "db": url.db}
    if url.kind == "unix":
        return login | {"connection_class": UnixDomainSocketConnection, "path": url.path}
    ((host, port),) = url.hosts
    return login | {"connection_class": SSLConnection if url.tls else Connection, "host": host, "port": port}


def _key(key: str, kind: str) -> str:
    """The braces are Redis Cluster's hash tag: what belongs to one key lies in one slot."""
    return f"sidegate:{{{key}}}:{kind}"


def _lua(name: str) -> str:
    return resources.files("proxy.store").joinpath("lua", f"{name}.lua").read_text("utf-8")
