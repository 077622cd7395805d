"""What the replicas know of a circuit, in a real Redis: one opening at a time, and so many probes in total."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from proxy.store import Circuit, StoreDown
from proxy.store.redis.circuits import RedisCircuits
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from tests.servers import RedisServer, free_port


@pytest.fixture
async def circuits(still_redis: RedisServer) -> AsyncIterator[RedisCircuits]:
    still_redis.call("FLUSHALL")
    link = Link(parse_url(still_redis.url), deadline=30)
    yield RedisCircuits(link)
    await link.close()


async def test_a_circuit_that_nobody_spoke_of_is_closed(circuits: RedisCircuits) -> None:
    assert await circuits.state("a") == Circuit(0, None)


async def test_a_trip_is_known_with_the_rest_of_its_cooldown(circuits: RedisCircuits, still_redis: RedisServer) -> None:
    opened = await circuits.trip("a", 30)
    assert opened.rest == 30
    still_redis.advance(10)
    assert await circuits.state("a") == Circuit(opened.generation, 20)
    still_redis.advance(30)
    assert await circuits.state("a") == Circuit(opened.generation, 0)
    assert (await circuits.state("b")).rest is None


async def test_who_trips_a_moment_later_joins_the_same_opening(
    circuits: RedisCircuits, still_redis: RedisServer
) -> None:
    first = await circuits.trip("a", 30)
    still_redis.advance(1)
    assert await circuits.trip("a", 30) == Circuit(first.generation, 29)


async def test_a_bad_probe_is_a_new_opening_also_for_who_thinks_that_it_is_early(circuits: RedisCircuits) -> None:
    first = await circuits.trip("a", 30)
    second = await circuits.trip("a", 30, first.generation)
    assert second.generation > first.generation


async def test_so_many_probes_are_let_through_and_no_more(circuits: RedisCircuits, still_redis: RedisServer) -> None:
    opened = await circuits.trip("a", 30)
    still_redis.advance(30)
    asked = [circuits.probe("a", opened.generation, 3, 60, f"l{number}") for number in range(10)]
    assert sum(await asyncio.gather(*asked)) == 3


async def test_a_probe_that_says_nothing_makes_room_and_one_that_was_good_does_not(
    circuits: RedisCircuits, still_redis: RedisServer
) -> None:
    opened = await circuits.trip("a", 30)
    still_redis.advance(30)
    assert await circuits.probe("a", opened.generation, 2, 60, "l1")
    assert await circuits.probe("a", opened.generation, 2, 60, "l2")
    await circuits.good("a", opened.generation, 2, "l1")
    assert not await circuits.probe("a", opened.generation, 2, 60, "l3")
    await circuits.release("a", "l2")
    assert await circuits.probe("a", opened.generation, 2, 60, "l4")
    assert (await circuits.state("a")).rest == 0
    await circuits.good("a", opened.generation, 2, "l4")
    assert await circuits.state("a") == Circuit(opened.generation, None)


async def test_the_probe_of_a_replica_that_died_is_given_up(circuits: RedisCircuits, still_redis: RedisServer) -> None:
    opened = await circuits.trip("a", 30)
    still_redis.advance(30)
    assert await circuits.probe("a", opened.generation, 1, 60, "l1")
    still_redis.advance(59)
    assert not await circuits.probe("a", opened.generation, 1, 60, "l2")
    still_redis.advance(2)
    assert await circuits.probe("a", opened.generation, 1, 60, "l3")


async def test_what_belongs_to_an_earlier_opening_changes_nothing(
    circuits: RedisCircuits, still_redis: RedisServer
) -> None:
    first = await circuits.trip("a", 30)
    still_redis.advance(30)
    assert await circuits.probe("a", first.generation, 1, 60, "l1")
    second = await circuits.trip("a", 30)
    assert second.generation > first.generation
    await circuits.good("a", first.generation, 1, "l1")
    assert await circuits.state("a") == second
    assert not await circuits.probe("a", first.generation, 1, 60, "l2")


async def test_everybody_is_told_once_of_each_change(circuits: RedisCircuits, still_redis: RedisServer) -> None:
    async with asyncio.timeout(10), aclosing(circuits.changes()) as changes:
        assert await anext(changes) is None
        opened = await circuits.trip("a", 30)
        await circuits.trip("a", 30)
        still_redis.advance(30)
        assert await circuits.probe("a", opened.generation, 1, 60, "l1")
        await circuits.good("a", opened.generation, 1, "l1")
        await circuits.trip("b", 1)
        found = [await anext(changes) for _ in range(3)]
    names = [(change[0], change[1].rest) for change in found if change is not None]
    assert names == [("a", 30), ("a", None), ("b", 1)]


async def test_without_redis_every_operation_says_so() -> None:
    link = Link(parse_url(f"redis://127.0.0.1:{free_port()}/0"))
    circuits = RedisCircuits(link)
    for asking in (
        circuits.trip("a", 1),
        circuits.probe("a", 1, 1, 1, "l"),
        circuits.release("a", "l"),
        circuits.good("a", 1, 1, "l"),
        circuits.state("a"),
        anext(circuits.changes()),
    ):
        with pytest.raises(StoreDown):
            await asking
    await link.close()
