"""Redis behind Sentinel and as a Cluster: every kind of operation, and a server that dies while messages come in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from proxy.store import Batch, Listed, Mark, Tier, Versioned
from proxy.store.failover import FailoverStore
from proxy.store.ledger import Account, Spent
from proxy.store.opening import open_store
from proxy.store.redis.counts import RedisStore
from proxy.store.redis.link import Link, key
from proxy.store.url import parse_url
from tests.servers import RedisServer
from tests.topologies import Topology, cluster, sentinel


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def topology(request: pytest.FixtureRequest) -> Iterator[Topology]:
    with sentinel() if request.param == "sentinel" else cluster() as running:
        yield running


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[FailoverStore]:
    store = open_store(url)
    assert isinstance(store, FailoverStore)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def test_sessions_are_ended_and_listed(topology: Topology) -> None:
    async with opened(topology.url) as store, opened(topology.url) as other:
        assert store.revocations
        assert other.revocations
        await store.revocations.begin("first", 5)
        mark = Mark("s1", 10, 20)
        await store.revocations.revoke([mark], 60)
        found = await other.revocations.revoked(-1)
        assert (found.name, found.since, list(found.marks)) == ("first", 5, [mark])
        assert store.sessions
        assert other.sessions
        for name in ("s1", "s2", "s3"):
            assert await store.sessions.enter("shop", Listed(name, "ann", b"facts"), 10, 3, 60) == []
        assert await store.sessions.enter("shop", Listed("s4", "ann", b"facts"), 10, 3, 60) == ["s1"]
        await other.sessions.leave("shop", Listed("s2", "ann", b""))
        await other.sessions.seen("shop", [Listed("s3", "ann", b"facts")], 60)
        assert [known.name for known in await other.sessions.listed("shop", "ann", 0, 10, 60)] == ["s3", "s4"]


async def test_every_operation_is_possible(topology: Topology) -> None:
    await use_all_of_it(topology.url)


async def use_all_of_it(url: str) -> None:
    """By two replicas."""
    async with opened(url) as store, opened(url) as other:
        tiers = [Tier(f"shop/t{at}", 3, 60, burst=2) for at in range(9)]
        passed = [hits[0].retry_after == 0 for hits in [await each.hit(tiers) for each in (store, other, store)]]
        assert passed == [True, True, False]
        assert [await each.add("ticket", 60) for each in (store, other)] == [True, False]
        assert await other.has("ticket")
        assert store.circuits
        assert other.circuits
        opening = await store.circuits.trip("support", 60)
        assert (await other.circuits.state("support")).generation == opening.generation
        assert store.posts
        assert other.posts
        number = await store.posts.post("box", "push", b"hello", 60)
        assert [post.data for post in await other.posts.posts("box", -1, 60)] == [b"hello"]
        assert (await other.posts.boxes(number - 1))[1] == {"box"}
        assert store.vaults
        assert other.vaults
        assert await store.vaults.write("session", 0, b"sealed", 60)
        assert await other.vaults.read("session", 60) == Versioned(1, b"sealed")
        assert store.journals
        assert other.journals
        batches = [Batch(f"answer{at}", 0, b"begin", 60) for at in range(20)]  # in several slots of a cluster
        assert [kept.length for kept in await store.journals.keep(batches)] == [1] * 20
        look = await other.journals.look("answer7", 0, listens=True)
        assert look is not None
        assert look.batches == [b"begin"]
        changes = other.circuits.changes()
        assert await anext(changes) is None
        await store.circuits.trip("told", 60)
        assert await anext(changes) is not None
        await changes.aclose()
        assert await store.claim("key", b"mine", 60) == b"mine"
        assert await other.claim("key", b"theirs", 60) == b"mine"
        await store.release("key", b"mine")
        assert store.ledger
        assert other.ledger
        (held,) = await store.ledger.hold("name", [Account("shop/door", 1, window=60)], 60)
        assert held.retry_after == 0
        await other.ledger.renew([("name", [Account("shop/door", 1, window=60)])], 60)
        await other.ledger.settle([("name", [Spent("shop/door", 1, 1, 60)])])
        assert store.reputations
        assert other.reputations
        await store.reputations.block("ip:192.0.2.7", 60)
        blocks = await other.reputations.blocks(-1)
        assert blocks is not None
        assert [block.subject for block in blocks[1]] == ["ip:192.0.2.7"]
        await store.reputations.unblock("ip:192.0.2.7")
        assert store.revocations
        assert other.revocations
        await store.revocations.begin("log", 0)
        await store.revocations.revoke([Mark("subject", 1, 4_000_000_000)], 60)
        assert "subject" in [mark.subject for mark in (await other.revocations.revoked(-1)).marks]
        assert (store.degraded(), other.degraded()) == (None, None)


async def test_a_thousand_at_once_are_counted_one_by_one(topology: Topology) -> None:
    async with opened(topology.url) as store, opened(topology.url) as other:
        tiers = [Tier("flood/ip", 100, 600), Tier("flood/site", 60, 600)]
        hits = await asyncio.gather(*[(store, other)[at % 2].hit(tiers) for at in range(1000)])
        assert sum(each[0].retry_after == 0 and each[1].retry_after == 0 for each in hits) == 60
        assert (store.degraded(), other.degraded()) == (None, None)


async def test_changes_of_circuits_are_heard(topology: Topology) -> None:
    async with opened(topology.url) as store, opened(topology.url) as other, asyncio.timeout(10):
        assert store.circuits
        assert other.circuits
        changes = other.circuits.changes()
        assert await anext(changes) is None
        await store.circuits.trip("model", 60)
        change = await anext(changes)
        assert change is not None
        assert change[0] == "model"
        await changes.aclose()


def test_keys_of_one_message_lie_in_one_slot_and_sites_in_several() -> None:
    assert key("shop/limit:ip-60s:192.0.2.1", "hits") == "sidegate:{shop}/limit:ip-60s:192.0.2.1:hits"
    assert key("ticket:1", "once") == "sidegate:{ticket:1}:once"


async def test_a_script_that_one_server_forgot_is_taught_again(topology: Topology) -> None:
    store = RedisStore(Link(parse_url(topology.url), deadline=30))
    await store.hit([Tier("forgot/a", 9, 60)])
    for server in topology.servers:
        server.call("SCRIPT", "FLUSH")
    assert [hit.remaining for hit in await store.hit([Tier("forgot/a", 9, 60)])] == [7]
    await store.close()


LIMIT = 200


@contextmanager
def alone() -> Iterator[Topology]:
    with RedisServer() as server:
        yield Topology(server.url, [server])


OUTAGES = {"sentinel": sentinel, "cluster": cluster, "killed": alone, "hung": alone}


@pytest.mark.parametrize("kind", OUTAGES)
async def test_a_primary_that_dies_or_hangs_under_load_opens_no_limit_and_locks_nobody_out(kind: str) -> None:
    """Two replicas of Sidegate; what passes before, during and after stays within the limit and one replica's share."""
    with OUTAGES[kind]() as topology:
        async with opened(topology.url) as one, opened(topology.url) as two:
            for store in (one, two):
                await store._look()
            assert (one.replicas, two.replicas) == (2, 2)
            load = _Load()
            for _ in range(LIMIT // 4):
                await load.hit(one)
            primary = owner(topology, "sidegate:{outage}/site:hits")
            primary.pause() if kind == "hung" else primary.kill()
            await load.hit(one)
            assert one.degraded()
            during = load.passed
            for _ in range(20):
                await load.hit(one, two)
            if kind in ("killed", "hung"):  # the others have somebody to take over
                primary.resume() if kind == "hung" else primary.start()
            async with asyncio.timeout(30):
                while one.degraded() or two.degraded():
                    await load.hit(one, two)
                    await asyncio.sleep(0.01)
            assert load.passed > during  # nobody was locked out
            for _ in range(LIMIT):
                await load.hit(one, two)
            # What each had sent to a server that hung is taken up by it, and counts although nobody passed.
            assert LIMIT - (2 if kind == "hung" else 0) <= load.passed <= LIMIT + LIMIT // 2
            assert load.slow == 0
            assert (one.degraded(), two.degraded()) == (None, None)


class _Load:
    """Hits at several replicas at once; how many passed, and how many took far longer than the outage may cost."""

    def __init__(self) -> None:
        self.passed = 0
        self.slow = 0

    async def hit(self, *stores: FailoverStore) -> None:
        await asyncio.gather(*map(self._hit, stores))

    async def _hit(self, store: FailoverStore) -> None:
        start = time.perf_counter()
        (count,) = await store.hit([Tier("outage/site", LIMIT, 3600)])
        self.passed += count.retry_after == 0
        self.slow += time.perf_counter() - start > 1


def owner(topology: Topology, name: str) -> RedisServer:
    """The primary that holds it."""
    return next(
        server
        for server in topology.servers
        if "role:master" in server.ask("INFO", "replication") and server.call("LLEN", name).startswith(b":")
        and server.call("LLEN", name) != b":0"
    )  # fmt: skip
