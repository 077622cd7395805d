"""Stores to test, each with its own way to let time pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from proxy.store import Store, Vaults
from proxy.store.memory import MemoryStore
from proxy.store.redis.counts import RedisStore
from proxy.store.redis.link import Link
from proxy.store.redis.vaults import RedisVaults
from proxy.store.url import parse_url
from proxy.store.vaults import MemoryVaults
from tests.servers import RedisServer


class Clock:
    """Stands still until advance(). Whole microseconds inside, so that many small steps add up exactly."""

    def __init__(self) -> None:
        self._now = 1_000_000_000

    def __call__(self) -> float:
        return self._now / 1_000_000

    def advance(self, seconds: float) -> None:
        self._now += round(seconds * 1_000_000)


@dataclass
class Backend:
    """A store whose time stands still until advance(). prefix() gives keys that nobody used before."""

    store: Store
    vaults: Vaults
    advance: Callable[[float], None]
    _number: Iterator[int]

    def prefix(self) -> str:
        return f"t{next(self._number)}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def still_redis() -> Iterator[RedisServer]:
    """A real Redis whose clock stands still until advance()."""
    with RedisServer(fake_clock=True) as server:
        yield server


@pytest.fixture(scope="session")
def real_redis() -> Iterator[RedisServer]:
    """A real Redis on the real clock."""
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def backend(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Backend]:
    if request.param == "memory":
        yield Backend(MemoryStore(clock), MemoryVaults(clock), clock.advance, count())
        return
    server: RedisServer = request.getfixturevalue("still_redis")
    server.call("FLUSHALL")
    # What is counted is tested here, not how long that takes on a busy machine: test_failover.py does that.
    link = Link(parse_url(server.url), deadline=30)
    store = RedisStore(link)
    yield Backend(store, RedisVaults(link), server.advance, count())
    await store.close()
