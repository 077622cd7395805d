"""Channels of two replicas on one real Redis: found by all, once by each, sealed; and what happens while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from proxy.errors import Draining, UpstreamUnavailable
from proxy.store.redis.link import Link
from proxy.store.redis.posts import MAX_IN_BOX, RedisPosts
from proxy.store.url import parse_url
from proxy.streams.event import Event
from proxy.streams.push import Address
from proxy.streams.seal import Sealer
from proxy.streams.shared import SharedChannels
from tests.servers import RedisServer

HERE, THERE = Address("shop", "a" * 64), Address("shop", "b" * 64)
TTL = 600.0
SECRET = b"a secret of all replicas"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as redis:
        yield redis


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    server.call("FLUSHALL")
    return server


@asynccontextmanager
async def replica(redis: RedisServer, secret: bytes = SECRET, ttl: float = TTL) -> AsyncIterator[SharedChannels]:
    link = Link(parse_url(redis.url))
    channels = SharedChannels(RedisPosts(link), Sealer(secret), {"shop": ttl})
    channels.start()
    try:
        yield channels
    finally:
        await channels.end()
        await link.close()


async def take(events: AsyncGenerator[Sequence[Event], None], number: int) -> list[Event]:
    taken: list[Event] = []
    async with asyncio.timeout(10):
        while len(taken) < number:
            taken += await anext(events)
    return taken


async def look(channels: SharedChannels, address: Address, after: int = -1) -> list[Event]:
    """What a listener that comes now is given first."""
    listener = channels.follow(address, after)
    found = await take(listener, 1)
    await listener.aclose()
    return found


def texts(events: Sequence[Event]) -> list[object]:
    return [event.fields.get("text", event.fields.get("answer_id")) for event in events]


async def test_a_push_reaches_listeners_of_every_replica(redis: RedisServer) -> None:
    async with replica(redis) as one, replica(redis) as two, asyncio.TaskGroup() as tasks:
        listeners = [channels.follow(HERE) for channels in (one, two, two)]
        waiting = [tasks.create_task(take(listener, 1)) for listener in listeners]
        sent = await one.send(HERE, {"text": "one"}, TTL)
        assert sent.delivered
        for task in waiting:
            (event,) = await task
            assert f"push:{event.number}" == sent.id
            assert event.fields == {"id": sent.id, "text": "one"}
        for listener in listeners:
            await listener.aclose()


async def test_only_another_replica_has_a_listener_and_the_sender_knows(redis: RedisServer) -> None:
    async with replica(redis) as one, replica(redis) as two, asyncio.TaskGroup() as tasks:
        listener = two.follow(HERE)
        waiting = tasks.create_task(take(listener, 1))
        assert (await one.send(HERE, {"text": "one"}, TTL)).delivered
        assert texts(await waiting) == ["one"]
        await listener.aclose()
        assert not (await one.send(HERE, {"text": "two"}, TTL)).delivered


async def test_what_is_kept_is_replayed_by_any_replica_behind_what_was_seen(redis: RedisServer) -> None:
    async with replica(redis) as one, replica(redis) as two:
        for number in range(3):
            await one._post(HERE, "push", {"text": f"{number}"}, TTL)
        two.announce(HERE, "answer", TTL)
        async with asyncio.timeout(10):
            while len(found := await look(one, HERE)) < 4:  # noqa: ASYNC110 - the other replica writes it
                await asyncio.sleep(0.01)
        assert texts(found) == ["0", "1", "2", "answer"]
        assert [event.number for event in found] == sorted({event.number for event in found})
        for at, event in enumerate(found[:-1]):
            assert texts(await look(two, HERE, event.number)) == texts(found[at + 1 :])


async def test_another_session_sees_nothing(redis: RedisServer) -> None:
    async with replica(redis) as one:
        await one._post(HERE, "push", {"text": "theirs"}, TTL)
        listener = one.follow(THERE)
        await one._post(THERE, "push", {"text": "ours"}, TTL)
        assert texts(await take(listener, 1)) == ["ours"]
        await listener.aclose()


async def test_the_store_sees_neither_texts_nor_sessions(redis: RedisServer) -> None:
    async with replica(redis) as one:
        await one.send(HERE, {"text": "very private"}, TTL)
        redis.call("SAVE")
    dump = b"".join(file.read_bytes() for file in redis.directory.glob("*.rdb"))
    assert b"sidegate:{posts}" in dump
    assert b"private" not in dump
    assert b"a" * 20 not in dump


async def test_what_was_sealed_with_another_secret_is_passed_over(redis: RedisServer) -> None:
    async with replica(redis) as one, replica(redis, b"another secret") as two:
        await two._store.post(one._box(HERE).name, "push", b"forged", TTL)
        box = two._box(HERE)
        await two._store.post(one._box(HERE).name, "push", box.seal(0, [], "", has_opened=False), TTL)
        await one._post(HERE, "push", {"text": "real"}, TTL)
        assert texts(await look(one, HERE)) == ["real"]


async def test_pushes_are_kept_for_their_time_and_no_longer() -> None:
    with RedisServer(fake_clock=True) as redis:
        async with replica(redis) as one:
            name = one._box(HERE).name
            await one._post(HERE, "push", {"text": "first"}, TTL)
            redis.advance(1)
            await one._post(HERE, "push", {"text": "second"}, TTL)
            redis.advance(TTL - 1.001)
            assert texts(await look(one, HERE)) == ["first", "second"]
            redis.advance(0.001)
            assert texts(await look(one, HERE)) == ["second"]
            redis.advance(1)
            assert await one._store.posts(name, -1, TTL) == []
            redis.advance(0.001)
            assert redis.call("EXISTS", f"sidegate:{{posts}}:push:{name}") == b":0"
            redis.advance(86_400)
            assert redis.call("KEYS", "*") == b"*1"  # the last number outlives the posts


async def test_numbers_grow_though_the_clock_stands_still() -> None:
    with RedisServer(fake_clock=True) as redis:
        async with replica(redis) as one:
            numbers = [await one._post(HERE, "push", {"text": "x"}, TTL) for _ in range(5)]
            assert numbers == list(range(numbers[0], numbers[0] + 5))
            assert texts(await look(one, HERE, numbers[2])) == ["x", "x"]


async def test_of_one_session_a_hundred_are_kept_and_answers_push_none_out(redis: RedisServer) -> None:
    async with replica(redis) as one:
        for number in range(MAX_IN_BOX["push"] + 10):
            await one._post(HERE, "push", {"text": f"push {number}"}, TTL)
        for number in range(MAX_IN_BOX["start"] + 10):
            await one._post(HERE, "start", {"answer_id": f"answer {number}"}, TTL)
        found = texts(await look(one, HERE))
        assert found == [f"push {n}" for n in range(10, 110)] + [f"answer {n}" for n in range(10, 30)]


async def test_of_all_sessions_the_oldest_go_first(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.store.redis.posts.MAX_POSTS", {"push": 3, "start": 3})
    async with replica(redis) as one:
        for number in range(5):
            await one._post(Address("shop", f"{number}"), "push", {"text": f"{number}"}, TTL)
        left = []
        for number in range(5):
            left += await one._store.posts(one._box(Address("shop", f"{number}")).name, -1, TTL)
        assert len(left) == 3
        assert texts(await look(one, Address("shop", "2"))) == ["2"]


async def test_more_news_than_fit_one_look_are_looked_at_in_turn(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.redis.posts.MAX_NEWS", 3)
    async with replica(redis) as one:
        place, _ = await one._store.boxes(None)
        names = []
        for number in range(20):
            address = Address("shop", f"{number}")
            kind = "start" if number % 3 else "push"
            await one._post(address, kind, {"text": "x", "answer_id": "y"}, TTL)
            names.append(one._box(address).name)
        found: list[str] = []
        async with asyncio.timeout(10):
            while len(found) < 20:
                place, boxes = await one._store.boxes(place)
                assert not boxes & set(found)
                found += boxes
        assert sorted(found) == sorted(names)


async def test_while_redis_is_away_a_push_is_refused_and_afterwards_listeners_go_on() -> None:
    with RedisServer() as redis:
        async with replica(redis) as one, asyncio.TaskGroup() as tasks:
            listener = one.follow(HERE)
            waiting = tasks.create_task(take(listener, 1))
            assert (await one.send(HERE, {"text": "before"}, TTL)).delivered
            assert texts(await waiting) == ["before"]
            waiting = tasks.create_task(take(listener, 1))
            redis.kill()
            with pytest.raises(UpstreamUnavailable):
                await one.send(HERE, {"text": "lost"}, TTL)
            redis.start()
            async with asyncio.timeout(10):
                while True:
                    try:
                        assert (await one.send(HERE, {"text": "after"}, TTL)).delivered
                        break
                    except UpstreamUnavailable:
                        await asyncio.sleep(0.05)
            assert texts(await waiting) == ["after"]
            await listener.aclose()


async def test_closed_listeners_are_told_and_nothing_more_is_taken(redis: RedisServer) -> None:
    async with replica(redis) as one:
        listener = one.follow(HERE)

        async def told() -> bool:
            try:
                await anext(listener)
            except Draining:
                return True
            return False

        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(told())
            await asyncio.sleep(0)
            one.close()
        assert waiting.result()
        with pytest.raises(Draining):
            await one.send(HERE, {"text": "x"}, TTL)
        one.announce(HERE, "answer", TTL)
        assert not one._waiting
