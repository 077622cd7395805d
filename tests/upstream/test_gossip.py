"""What opens in one replica is open in all, the probes are so many in total, and without the store each is alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from proxy.errors import UpstreamError, UpstreamUnavailable
from proxy.store.redis.circuits import RedisCircuits
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from proxy.upstream import gossip
from proxy.upstream.breaker import Breaker, BreakerSettings
from proxy.upstream.gossip import Gossip
from tests.clients import Clock
from tests.servers import RedisServer
from tests.until import until
from tests.upstream.test_breaker import enter, fail, leave


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _only_what_is_said_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found out by looking now and then."""
    monkeypatch.setattr(gossip, "_LOOK", 1000.0)
    monkeypatch.setattr(gossip, "_AGAIN", 0.02)


@asynccontextmanager
async def replicas(redis: RedisServer, number: int, *, probes: int = 1) -> AsyncIterator[list[Breaker]]:
    """Breakers on one clock, that open after one failure for as long as Redis takes to believe that it is over."""
    clock = Clock()
    async with AsyncExitStack() as stack:
        breakers = []
        for _ in range(number):
            breaker = Breaker("support", BreakerSettings(failures=1, cooldown=0.05, probes=probes), clock)
            link = Link(parse_url(redis.url))
            stack.push_async_callback(link.close)
            talk = Gossip(RedisCircuits(link), {"support": (breaker, 60)})
            talk.start()
            stack.push_async_callback(talk.close)
            breakers.append(breaker)
        await until(lambda: subscribers(redis) == number)
        yield breakers


def subscribers(redis: RedisServer) -> int:
    """How many hear a message that means nothing."""
    return int(redis.call("PUBLISH", "sidegate:circuits", "nobody 1 1")[1:])


async def half_open(breakers: list[Breaker], clock: Clock) -> None:
    await until(lambda: all(breaker.state != "closed" for breaker in breakers))
    clock.advance(1)
    assert {breaker.state for breaker in breakers} == {"half_open"}


def clock_of(breaker: Breaker) -> Clock:
    clock = breaker._clock
    assert isinstance(clock, Clock)
    return clock


async def test_a_trip_in_one_is_a_trip_in_all(redis: RedisServer) -> None:
    redis.call("FLUSHALL")
    async with replicas(redis, 3) as breakers:
        fail(breakers[0])
        await until(lambda: all(breaker.state == "open" for breaker in breakers))


@pytest.mark.parametrize("probes", [1, 2, 3])
async def test_the_probes_are_so_many_in_total_and_when_all_are_good_all_close(redis: RedisServer, probes: int) -> None:
    redis.call("FLUSHALL")
    async with replicas(redis, 3, probes=probes) as breakers:
        fail(breakers[0])
        await half_open(breakers, clock_of(breakers[0]))
        leases = []
        for breaker in breakers * 2:
            try:
                lease = await breaker.lease()
            except UpstreamUnavailable:
                continue
            leases.append((breaker, lease))
        assert len(leases) == probes
        attempts = []
        for breaker, lease in leases:
            assert lease
            attempts.append(breaker.attempt(lease).__enter__())
        for attempt in attempts:
            attempt.ok()
            leave(attempt)
        await until(lambda: all(breaker.state == "closed" for breaker in breakers))


async def test_a_bad_probe_opens_all_again(redis: RedisServer) -> None:
    redis.call("FLUSHALL")
    async with replicas(redis, 2) as breakers:
        first, second = breakers
        fail(first)
        await half_open(breakers, clock_of(first))
        with pytest.raises(UpstreamError), second.attempt(await second.lease()):
            raise UpstreamError("still broken")
        await until(lambda: first.state == "open")


async def test_a_probe_that_says_nothing_gives_its_place_to_any_other(redis: RedisServer) -> None:
    redis.call("FLUSHALL")
    async with replicas(redis, 2) as breakers:
        first, second = breakers
        fail(first)
        await half_open(breakers, clock_of(first))
        attempt = first.attempt(await first.lease()).__enter__()
        with pytest.raises(UpstreamUnavailable):
            await second.lease()
        leave(attempt, asyncio.CancelledError())

        async def place() -> str:
            while True:
                try:
                    return await second.lease()
                except UpstreamUnavailable:
                    await asyncio.sleep(0.01)

        async with asyncio.timeout(10):
            assert await place()


async def test_who_comes_later_learns_what_is_open(redis: RedisServer) -> None:
    redis.call("FLUSHALL")
    link = Link(parse_url(redis.url))
    await RedisCircuits(link).trip("support", 600)
    await link.close()
    async with replicas(redis, 1) as (breaker,):
        await until(lambda: breaker.state == "open")
        assert breaker.retry_after > 500


async def test_without_redis_each_decides_alone_and_with_it_they_are_together_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    with RedisServer() as redis:
        async with replicas(redis, 2) as breakers:
            first, second = breakers
            redis.kill()
            fail(first)
            clock_of(first).advance(1)
            assert (first.state, second.state) == ("half_open", "closed")
            assert await first.lease() == ""
            attempt = enter(first)
            attempt.ok()
            leave(attempt)
            assert (first.state, second.state) == ("closed", "closed")
            await until(lambda: "were not told" in caplog.text)
            redis.start()
            await until(lambda: subscribers(redis) == 2)
            fail(first)
            await until(lambda: second.state == "open")


async def test_in_a_closed_circuit_nobody_is_asked_for_leave() -> None:
    with RedisServer() as redis:
        async with replicas(redis, 1) as (breaker,):
            redis.pause()
            for _ in range(10):
                with breaker.attempt(await breaker.lease()) as attempt:
                    attempt.ok()
            assert breaker.state == "closed"
            redis.resume()
