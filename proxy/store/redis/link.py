"""One connection pool to Redis or Valkey, with deadlines: how every operation asks, and what its keys look like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from math import ceil
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from proxy.store import StoreDown
from proxy.store.patience import patience
from proxy.store.url import StoreUrl

MICRO = 1_000_000
# OSError includes TimeoutError. RuntimeError is uvloop's for a connection that closes while it is written to.
BROKEN = (RedisError, OSError, RuntimeError)
T = TypeVar("T")
Calls = Sequence[tuple[Sequence[str], Sequence[str | int | bytes]]]  # keys and arguments of one script's calls


class Link:
    """No operation takes longer than `deadline` seconds and a quarter of it; the rest of the 300 ms that a decision may
    take is for deciding without Redis."""

    def __init__(self, url: StoreUrl, *, deadline: float = 0.2, max_connections: int = 50) -> None:
        self.deadline = deadline
        # redis-py's defaults retry for seconds, and raise when all connections are in use instead of waiting for one.
        self.redis = Redis.from_pool(
            BlockingConnectionPool(
                max_connections=max_connections,
                timeout=deadline,
                retry=Retry(NoBackoff(), 0),
                # ask() has the one timeout. This one would be a task more for every command, a sixth of its cost.
                socket_timeout=None,
                socket_connect_timeout=deadline,
                # Anything else is one more round trip for every new connection.
                protocol=2,
                driver_info=None,
                **_address(url),
            )
        )

    def script(self, name: str) -> AsyncScript:
        """One of lua/. Script objects load themselves again into a Redis that was restarted."""
        return self.redis.register_script(
            resources.files("proxy.store").joinpath("lua", f"{name}.lua").read_text("utf-8")
        )

    async def ask(self, call: Callable[[], Awaitable[T]], deadline: float | None = None) -> T:
        """What the call returns. Raises StoreDown."""
        try:
            async with patience(self.deadline if deadline is None else deadline):
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
        for keys, args in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, *args)
        answers: list[bytes | Exception] = await pipeline.execute(raise_on_error=False)
        return answers

    async def close(self) -> None:
        await self.redis.aclose()


def _address(url: StoreUrl) -> dict[str, Any]:  # Any: the pool takes what its connections take, untyped
    """How redis-py is told where Redis is."""
    login = {"username": url.username, "password": url.password.reveal() if url.password else None, "db": url.db}
    if url.kind == "unix":
        return login | {"connection_class": UnixDomainSocketConnection, "path": url.path}
    ((host, port),) = url.hosts
    return login | {"connection_class": SSLConnection if url.tls else Connection, "host": host, "port": port}


def key(name: str, kind: str) -> str:
    """The braces are Redis Cluster's hash tag: what belongs to one key lies in one slot."""
    return f"sidegate:{{{name}}}:{kind}"


def milliseconds(seconds: float) -> int:
    return max(1, ceil(seconds * 1000))
