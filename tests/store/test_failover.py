"""Redis dies, hangs, comes back: nobody waits for longer than 300 ms, and no limit opens or locks."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from statistics import median

import pytest

from proxy.store import Hit, Hits, Store, StoreDown, Tier
from proxy.store.failover import FailoverStore
from proxy.store.memory import MemoryStore
from proxy.store.opening import open_store
from proxy.store.redis.counts import RedisStore
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from tests.servers import RedisServer
from tests.store.conftest import Clock
from tests.until import until

TIER = Tier("a", 10, 3600)
MOST = 0.3  # seconds that a decision may take. This is the promise itself, so here time is measured.


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """One that a test may end."""
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def opened(url: str, interval: float = 0.05) -> AsyncIterator[FailoverStore]:
    store = FailoverStore(RedisStore(Link(parse_url(url))), MemoryStore(), interval=interval)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def passed(store: Store, tier: Tier, hits: int) -> int:
    return sum([(await store.hit([tier]))[0].retry_after == 0 for _ in range(hits)])


async def seconds(call: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await call()
    return time.perf_counter() - start


def decisions(store: FailoverStore) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: store.hit([TIER]),
        lambda: store.add("once", 60),
        lambda: store.has("other"),
        lambda: store.claim("key", b"mine", 60),
        lambda: store.release("key", b"mine"),
    ]


async def unwatched(url: str, number: int) -> list[FailoverStore]:
    """Stores that have reached Redis and don't watch it, so that a decision meets the outage itself."""
    stores = [FailoverStore(RedisStore(Link(parse_url(url))), MemoryStore()) for _ in range(number)]
    for store in stores:
        await store.hit([TIER])
    return stores


@pytest.mark.parametrize("outage", ["kill", "pause"])
@pytest.mark.parametrize("which", range(5), ids=["hit", "add", "has", "claim", "release"])
async def test_the_decision_that_meets_an_outage_takes_less_than_300_ms(
    server: RedisServer, outage: str, which: int
) -> None:
    stores = await unwatched(server.url, 5)
    server.kill() if outage == "kill" else server.pause()
    took = [await seconds(decisions(store)[which]) for store in stores]
    assert all(store.degraded() for store in stores)
    assert median(took) < MOST
    for store in stores:
        await store.close()


async def test_many_decisions_that_meet_a_hang_together_take_less_than_300_ms(server: RedisServer) -> None:
    stores = await unwatched(server.url, 5)
    server.pause()
    slowest = [max(await asyncio.gather(*[seconds(decisions(store)[0]) for _ in range(100)])) for store in stores]
    assert median(slowest) < MOST
    for store in stores:
        await store.close()


async def test_a_hit_that_waited_behind_a_slow_one_before_a_hang_takes_less_than_300_ms() -> None:
    async def slow_then_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        await asyncio.sleep(0.15)  # how slow Redis was before it hung
        answer = b"9 3600000000 0"
        writer.write(b"$%d\r\n%b\r\n" % (len(answer), answer))
        while await reader.read(65536):  # ends when the store closes its connection
            pass
        writer.close()

    async with await asyncio.start_server(slow_then_silent, "127.0.0.1", 0) as hanging:
        url = f"redis://127.0.0.1:{hanging.sockets[0].getsockname()[1]}"
        took = []
        for _ in range(3):
            store = FailoverStore(RedisStore(Link(parse_url(url))), MemoryStore())
            async with asyncio.TaskGroup() as group:
                group.create_task(store.hit([TIER]))
                await asyncio.sleep(0)  # so that the first is under way alone
                await asyncio.sleep(0)
                second = group.create_task(seconds(decisions(store)[0]))
            took.append(second.result())
            assert store.degraded()
            await store.close()
        assert 0.15 < median(took) < MOST


async def test_a_host_that_drops_packets_takes_less_than_300_ms() -> None:
    with socket.socket() as full, socket.socket() as filler, socket.socket() as spare:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # With nobody accepting, the queue is full after one connection; what comes then gets no answer at all.
        for end in (filler, spare):
            end.setblocking(False)
            end.connect_ex(full.getsockname())
        stores = [
            FailoverStore(RedisStore(Link(parse_url(f"redis://127.0.0.1:{full.getsockname()[1]}"))), MemoryStore())
            for _ in range(5)
        ]
        took = [await seconds(decisions(store)[0]) for store in stores]
        assert median(took) < MOST
        for store in stores:
            assert "TimeoutError" in (store.degraded() or "")
            await store.close()


async def test_after_the_first_no_decision_waits(server: RedisServer) -> None:
    (store,) = await unwatched(server.url, 1)
    server.pause()
    await store.hit([TIER])
    took = [await seconds(call) for call in decisions(store) for _ in range(20)]
    assert median(took) < 0.01  # no wait for Redis, which would be 0.25
    await store.close()


async def test_an_idle_store_notices_an_outage(server: RedisServer) -> None:
    async with opened(server.url) as store:
        assert store.degraded() is None
        server.kill()
        await until(lambda: store.degraded() is not None)


@pytest.mark.parametrize("outage", ["kill", "pause"])
async def test_it_counts_in_redis_again_once_redis_is_back(server: RedisServer, outage: str) -> None:
    async with opened(server.url) as store:
        assert await passed(store, TIER, 4) == 4
        server.kill() if outage == "kill" else server.pause()
        await passed(store, TIER, 1)
        assert store.degraded()
        server.start() if outage == "kill" else server.resume()
        await until(lambda: store.degraded() is None)
        await passed(store, Tier("b", 10, 3600), 3)
        assert server.call("LLEN", "sidegate:{b}:hits") == b":3"


async def test_a_store_that_starts_without_redis_finds_it_later(server: RedisServer) -> None:
    server.kill()
    async with opened(server.url) as store:
        assert "ConnectionError" in (store.degraded() or "")
        assert await passed(store, TIER, 20) == 10
        server.start()
        await until(lambda: store.degraded() is None)


async def test_locally_each_replica_counts_its_share(server: RedisServer) -> None:
    async with opened(server.url) as one, opened(server.url) as two, opened(server.url) as three:
        stores = (one, two, three)
        await until(lambda: server.call("ZCARD", "sidegate:{replicas}") == b":3")
        for store in stores:
            await store._look()  # has now heard of the others
            assert store.replicas == 3
        server.kill()
        assert [await passed(store, TIER, 20) for store in stores] == [3, 3, 3]
        for store in stores:
            assert re.fullmatch(
                r"redis is not reachable since \d+ s \(ConnectionError\); counting locally with 1/3 of each limit",
                store.degraded() or "",
            )


async def test_a_limit_below_the_number_of_replicas_is_not_locked(server: RedisServer) -> None:
    async with opened(server.url) as one, opened(server.url) as two:
        await one._look()
        server.kill()
        for store in (one, two):
            assert await passed(store, Tier("a", 1, 3600), 5) == 1
            assert await passed(store, Tier("b", 9, 3600, burst=1), 5) == 1
            assert await passed(store, Tier("c", 9, 3600), 9) >= 4


async def test_what_a_replica_let_pass_before_an_outage_is_a_part_of_its_share(server: RedisServer) -> None:
    async with opened(server.url) as one, opened(server.url) as two:
        await one._look()
        assert await passed(one, TIER, 10) == 10
        server.kill()
        # The limit, and the other replica's share on top.
        assert [await passed(store, TIER, 20) for store in (one, two)] == [0, 5]


@pytest.mark.parametrize("outage", ["kill", "pause"])
async def test_after_an_outage_the_store_knows_of_all_that_passed(server: RedisServer, outage: str) -> None:
    async with opened(server.url) as one, opened(server.url) as two:
        await one._look()
        await two._look()
        assert await passed(one, TIER, 3) == 3
        server.kill() if outage == "kill" else server.pause()
        assert [await passed(store, TIER, 20) for store in (one, two)] == [2, 5]
        server.start() if outage == "kill" else server.resume()
        await until(lambda: one.degraded() is None and two.degraded() is None)
        assert [await passed(store, TIER, 5) for store in (one, two)] == [0, 0]
        kept = int(server.call("LLEN", "sidegate:{a}:hits")[1:])
        # Each once; but the first of each replica had been sent to the server that hung, which took it up again.
        assert kept == (10 if outage == "kill" else 12)


async def test_a_replica_that_ends_leaves_its_share_to_the_others(server: RedisServer) -> None:
    async with opened(server.url) as one:
        async with opened(server.url):
            pass
        await one._look()
        server.kill()
        assert await passed(one, TIER, 20) == 10


async def test_going_down_and_coming_back_is_one_line_each(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "proxy.store")
    async with opened(server.url) as store:
        server.kill()
        for _ in range(20):
            await store.hit([TIER])
        await store._look()
        server.start()
        await until(lambda: store.degraded() is None)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("WARNING", "redis is not reachable (ConnectionError); counting locally with 1/1 of each limit"),
        ("INFO", lines[-1][1]),
    ]
    assert lines[-1][1].startswith("redis is back after ")


async def test_once_only_keys_of_this_replica_stay_known_through_an_outage(server: RedisServer) -> None:
    async with opened(server.url) as store:
        assert await store.add("before", 60)
        server.kill()
        assert not await store.add("before", 60)
        assert await store.has("before")
        assert await store.add("during", 60)
        assert not await store.add("during", 60)
        server.start()
        await until(lambda: store.degraded() is None)
        assert not await store.add("before", 60)  # Redis forgot it, this replica didn't
        assert not await store.add("during", 60)
        assert await store.has("during")
        assert not await store.has("never")


async def test_during_an_outage_each_replica_has_a_first_of_its_own(server: RedisServer) -> None:
    async with opened(server.url) as one, opened(server.url) as two:
        assert await one.add("shared", 60)
        assert not await two.add("shared", 60)
        server.kill()
        assert await one.add("split", 60)
        assert await two.add("split", 60)  # the limit that add() tells of
        assert not await two.add("shared", 60)


async def test_claims_of_this_replica_stay_known_through_an_outage(server: RedisServer) -> None:
    async with opened(server.url) as one, opened(server.url) as two:
        assert await one.claim("before", b"1", 60) == b"1"
        assert await two.claim("before", b"2", 60) == b"1"
        assert await two.claim("before", b"2", 60, instead=b"1") == b"2"
        assert await one.claim("before", b"3", 60, instead=b"1") == b"2"
        server.kill()
        for store in (one, two):
            assert await store.claim("before", b"4", 60) == b"2"
            assert await store.claim("during", b"5", 60) == b"5"
            await store.release("during", b"5")
            assert await store.claim("during", b"6", 60) == b"6"
        server.start()
        await until(lambda: store.degraded() is None)
        assert await one.claim("during", b"7", 60) == b"6"  # Redis doesn't know, this replica does


async def test_closing_while_redis_hangs_or_before_starting_ends(server: RedisServer) -> None:
    async with opened(server.url, interval=60):
        server.pause()
    never_started = open_store(server.url)
    await never_started.close()


class Scripted:
    """A shared store that does as told."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.closed = False

    async def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        return [Hit(tier.limit, 0, 0) for tier in tiers]

    async def add(self, key: str, ttl: float) -> bool:
        return True

    async def has(self, key: str) -> bool:
        return False

    async def claim(self, key: str, value: bytes, ttl: float, instead: bytes = b"") -> bytes:
        return value

    async def release(self, key: str, value: bytes) -> None: ...

    async def beat(self, replica: str) -> tuple[int, str]:
        if self.fault:
            raise self.fault
        return 0, "memory"

    async def restore(self, hits: Sequence[Hits]) -> None: ...

    async def leave(self, replica: str) -> None: ...

    def degraded(self) -> str | None:
        return None

    async def close(self) -> None:
        self.closed = True


async def test_the_reason_tells_for_how_long(clock: Clock) -> None:
    shared = Scripted()
    store = FailoverStore(shared, MemoryStore(), clock=clock)
    shared.fault = StoreDown("TimeoutError")
    await store.start()
    clock.advance(42)
    assert store.degraded() == (
        "redis is not reachable since 42 s (TimeoutError); counting locally with 1/1 of each limit"
    )
    await store.close()


async def test_a_watch_that_crashed_is_told_at_once_and_when_closing(caplog: pytest.LogCaptureFixture) -> None:
    shared = Scripted()
    store = FailoverStore(shared, MemoryStore(), interval=0)
    await store.start()
    shared.fault = ZeroDivisionError()
    await until(lambda: "store watch ended: ZeroDivisionError" in caplog.text)
    with pytest.raises(ZeroDivisionError):
        await store.close()
    assert shared.closed
