"""Points and blocks, in the process and in Redis: they fade, they grow, they are known to all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from proxy.store import StoreDown
from proxy.store.redis.link import Link
from proxy.store.redis.reputation import RedisReputations
from proxy.store.reputation import MAX_SUBJECTS, Block, MemoryReputations, Repute, Rule
from proxy.store.url import parse_url
from tests.servers import RedisServer, free_port
from tests.store.conftest import Clock

RULE = Rule(half_life=100, block_after=8, block_for=60, longest=150)
ANN = "ip:192.0.2.7"


@dataclass
class Backend:
    note: Callable[[str, float], Awaitable[Repute]]
    block: Callable[[str, float], Awaitable[None]]
    unblock: Callable[[str], Awaitable[None]]
    blocks: Callable[[], Awaitable[list[Block]]]
    advance: Callable[[float], None]


@pytest.fixture(params=["memory", "redis"])
async def backend(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Backend]:
    if request.param == "memory":
        memory = MemoryReputations(clock)

        async def note(subject: str, points: float) -> Repute:
            return memory.note(subject, points, RULE)

        async def block(subject: str, seconds: float) -> None:
            memory.block(subject, seconds)

        async def unblock(subject: str) -> None:
            memory.unblock(subject)

        async def blocks() -> list[Block]:
            return memory.blocks()

        yield Backend(note, block, unblock, blocks, clock.advance)
        return
    server: RedisServer = request.getfixturevalue("still_redis")
    server.call("FLUSHALL")
    link = Link(parse_url(server.url), deadline=30)
    redis = RedisReputations(link)

    async def note_there(subject: str, points: float) -> Repute:
        return (await redis.note({subject: points, "other": 0.5}, RULE))[subject]

    async def blocks_there() -> list[Block]:
        found = await redis.blocks(-1)
        assert found is not None
        return list(found[1])

    yield Backend(note_there, redis.block, redis.unblock, blocks_there, server.advance)
    await link.close()


async def blocked(backend: Backend) -> list[tuple[str, float, bool]]:
    return [(block.subject, round(block.left, 2), block.by_hand) for block in await backend.blocks()]


async def test_points_add_up_and_halve_themselves(backend: Backend) -> None:
    await backend.note(ANN, 4)
    backend.advance(100)
    assert (await backend.note(ANN, 1)).score == pytest.approx(3, abs=0.01)


async def test_at_the_threshold_it_is_blocked_and_each_time_for_longer(backend: Backend) -> None:
    assert (await backend.note(ANN, 7.4)).blocked == 0
    assert await backend.note(ANN, 0.2) == Repute(4, 60)
    assert [(block.subject, round(block.left, 2), block.by_hand) for block in await backend.blocks()] == [
        (ANN, 60, False)
    ]
    assert (await backend.note(ANN, 9)).blocked == 60  # no longer for what comes meanwhile
    backend.advance(60)
    assert await backend.blocks() == []
    assert (await backend.note(ANN, 8)).blocked == 120
    backend.advance(120)
    assert (await backend.note(ANN, 8)).blocked == 150  # the longest
    backend.advance(150 + 151)
    assert (await backend.note(ANN, 8)).blocked == 60  # a long time went well


async def test_by_hand_it_is_blocked_and_forgiven(backend: Backend) -> None:
    await backend.block(ANN, 30)
    assert [(block.subject, round(block.left, 2), block.by_hand) for block in await backend.blocks()] == [
        (ANN, 30, True)
    ]
    await backend.note(ANN, 7)
    await backend.unblock(ANN)
    assert await backend.blocks() == []
    assert await backend.note(ANN, 1) == Repute(1, 0)


def test_the_last_noted_are_kept(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    assert MAX_SUBJECTS == 50_000
    monkeypatch.setattr("proxy.store.reputation.MAX_SUBJECTS", 2)
    memory = MemoryReputations(clock)
    for subject in ("a", "b", "a", "c"):
        memory.note(subject, 1, RULE)
    assert [memory.score(subject, 100) for subject in "abc"] == [2, 0, 1]


async def test_whoever_knows_the_state_is_told_nothing(still_redis: RedisServer) -> None:
    still_redis.call("FLUSHALL")
    link = Link(parse_url(still_redis.url), deadline=30)
    redis = RedisReputations(link)
    await redis.block(ANN, 30)
    found = await redis.blocks(-1)
    assert found is not None
    assert await redis.blocks(found[0]) is None
    await redis.note({ANN: 1}, RULE)  # a point is no change of blocks
    assert await redis.blocks(found[0]) is None
    await redis.unblock(ANN)
    assert await redis.blocks(found[0]) == (found[0] + 1, [])
    keys = [
        key for key in ("blocked", "state") if still_redis.call("EXISTS", f"sidegate:{{reputation}}:{key}") == b":1"
    ]
    assert all(int(still_redis.call("TTL", f"sidegate:{{reputation}}:{key}")[1:]) > 0 for key in keys)
    await link.close()


async def test_without_redis_and_with_a_strange_one_every_operation_says_so(still_redis: RedisServer) -> None:
    link = Link(parse_url(f"redis://127.0.0.1:{free_port()}/0"))
    redis = RedisReputations(link)
    for asking in (redis.note({ANN: 1}, RULE), redis.block(ANN, 1), redis.unblock(ANN), redis.blocks(-1)):
        with pytest.raises(StoreDown):
            await asking
    await link.close()
    still_redis.call("SET", f"sidegate:{{reputation}}:of:{ANN}", "text")
    link = Link(parse_url(still_redis.url), deadline=30)
    with pytest.raises(StoreDown, match="ResponseError"):
        await RedisReputations(link).note({ANN: 1}, RULE)
    still_redis.call("FLUSHALL")
    await link.close()
