"""The way to Redis or Valkey (one server, the primary that Sentinel names, or a Cluster), with deadlines: how every
operation asks, and what its keys look like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from math import ceil
from typing import Any, TypeVar

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from proxy.store import StoreDown
from proxy.store.patience import patience
from proxy.store.url import StoreUrl

MICRO = 1_000_000
# OSError includes TimeoutError. RuntimeError is uvloop's for a connection that closes while it is written to.
BROKEN = (RedisError, RedisClusterException, OSError, RuntimeError)
SPARE = 10  # connections for those who listen; they ask nothing
T = TypeVar("T")
Calls = Sequence[tuple[Sequence[str], Sequence[str | int | bytes]]]  # keys and arguments of one script's calls


class Link:
    """No operation takes longer than `deadline` seconds and a quarter of it; the rest of the 300 ms that a decision may
    take is for deciding without Redis."""

    def __init__(self, url: StoreUrl, *, deadline: float = 0.2, max_connections: int = 50) -> None:
        self.deadline = deadline
        self.redis = _client(url, deadline, max_connections + SPARE)
        self._room = asyncio.Semaphore(max_connections)  # redis-py's own pools raise where there is none

    def script(self, name: str) -> AsyncScript:
        """One of lua/. Script objects load themselves again into a Redis that was restarted."""
        return self.redis.register_script(
            resources.files("proxy.store").joinpath("lua", f"{name}.lua").read_text("utf-8")
        )

    async def ask(self, call: Callable[[], Awaitable[T]], deadline: float | None = None) -> T:
        """What the call returns. Raises StoreDown."""
        try:
            async with patience(self.deadline if deadline is None else deadline), self._room:
                try:
                    return await call()
                except RedisConnectionError:
                    # A pooled connection that broke says nothing about Redis, which may have been restarted since. If
                    # the first attempt did arrive, a hit counts twice: that errs on the safe side.
                    return await call()
        except BROKEN as error:
            raise StoreDown(type(error).__name__) from error

    async def evaluate(self, script: AsyncScript, calls: Calls) -> list[bytes | Exception]:
        """The script's calls in one round trip, each with an answer of its own. To be asked."""
        answers = await self._pipeline(script, calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):  # Redis was restarted; none of them counted
            await self.redis.script_load(script.script)
            answers = await self._pipeline(script, calls)
        return answers

    async def _pipeline(self, script: AsyncScript, calls: Calls) -> list[bytes | Exception]:
        pipeline = self.redis.pipeline(transaction=False)
        for keys, args in calls:  # not by its method, which redis-py closes off for a cluster
            pipeline.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
        answers: list[bytes | Exception] = await pipeline.execute(raise_on_error=False)
        return answers

    async def look(self) -> None:
        """Every server that decides something answers: in a cluster, any primary may be the next to be asked."""
        cluster = self.redis
        if not isinstance(cluster, RedisCluster):
            return
        try:
            await self.ask(lambda: cluster.ping(target_nodes=RedisCluster.PRIMARIES))
        except StoreDown:
            await cluster.aclose()  # whoever asks next learns anew which they are
            raise

    async def close(self) -> None:
        if isinstance(self.redis, Redis) and isinstance(pool := self.redis.connection_pool, SentinelConnectionPool):
            for sentinel in pool.sentinel_manager.sentinels:
                await sentinel.aclose()
        await self.redis.aclose()


def _client(url: StoreUrl, deadline: float, max_connections: int) -> Redis | RedisCluster:
    """redis-py's client for this address. Its defaults retry for seconds."""
    once: dict[str, Any] = {  # Any: connections take keywords of any type
        "retry": Retry(NoBackoff(), 0),
        # ask() has the one timeout. This one would be a task more for every command, a sixth of its cost.
        "socket_timeout": None,
        "socket_connect_timeout": deadline,
        # Anything else is one more round trip for every new connection.
        "protocol": 2,
        "driver_info": None,
        "username": url.username,
        "password": url.password.reveal() if url.password else None,
    }
    if url.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.hosts]
        return RedisCluster(startup_nodes=nodes, max_connections=max_connections, **once)
    once |= {"db": url.db, "max_connections": max_connections}
    if url.kind == "sentinel":
        # Three that hang, one after the other, still leave time for the fourth.
        brief = {"socket_timeout": deadline / 4, "socket_connect_timeout": deadline / 4}
        brief |= {"retry": once["retry"], "protocol": 2}
        sentinel = Sentinel(list(url.hosts), sentinel_kwargs=brief)  # type: ignore[no-untyped-call]  # redis-py's
        return Redis.from_pool(SentinelConnectionPool(url.master, sentinel, **once))  # type: ignore[no-untyped-call]
    if url.kind == "unix":
        return Redis.from_pool(ConnectionPool(UnixDomainSocketConnection, path=url.path, **once))
    ((host, port),) = url.hosts
    return Redis.from_pool(ConnectionPool(SSLConnection if url.tls else Connection, host=host, port=port, **once))


def key(name: str, kind: str) -> str:
    """The braces are Redis Cluster's hash tag: what belongs to one key lies in one slot, and so do all keys whose names
    are the same up to the first slash."""
    group, slash, rest = name.partition("/")
    return f"sidegate:{{{group}}}{slash}{rest}:{kind}"


def milliseconds(seconds: float) -> int:
    return max(1, ceil(seconds * 1000))
