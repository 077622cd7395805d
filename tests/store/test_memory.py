"""The bounds of the memory store, which only it has."""

from __future__ import annotations

from proxy.store import Hit, Tier
from proxy.store.memory import SWEEP_ONCE, MemoryStore
from tests.store.conftest import Clock


def kept(store: MemoryStore) -> list[str]:
    return [key for group in store._groups.values() for key in group]


async def refused(store: MemoryStore, tier: Tier) -> bool:
    return (await store.hit([tier]))[0].retry_after > 0


async def test_no_more_keys_are_kept_than_allowed(clock: Clock) -> None:
    store = MemoryStore(clock, max_keys=10)
    for number in range(100):
        await store.hit([Tier(f"ip:{number}", 5, 60), Tier(f"session:{number}", 5, 3600)])
        assert len(kept(store)) <= 10


async def test_the_key_counted_longest_ago_is_forgotten_first(clock: Clock) -> None:
    store = MemoryStore(clock, max_keys=3)
    used, old, other = Tier("used", 2, 60), Tier("old", 1, 60), Tier("other", 1, 600)
    for tier in (used, old, other, used, Tier("new", 1, 60)):
        clock.advance(1)
        await store.hit([tier])
    assert await refused(store, used)
    assert await refused(store, other)
    assert not await refused(store, old)  # the limit of the bound: forgotten, it starts anew


async def test_an_expired_key_is_forgotten_before_any_that_counts(clock: Clock) -> None:
    store = MemoryStore(clock, max_keys=2)
    await store.hit([Tier("long", 1, 600)])
    clock.advance(1)
    await store.hit([Tier("short", 1, 5)])
    clock.advance(5)
    await store.hit([Tier("new", 1, 600)])
    assert kept(store) == ["long", "new"]


async def test_expired_keys_go_away_while_others_are_counted(clock: Clock) -> None:
    store = MemoryStore(clock)
    for number in range(20):
        await store.hit([Tier(f"gone:{number}", 5, 60)])
    clock.advance(60)
    for _ in range(10):
        await store.hit([Tier("here", 50, 60)])
    assert kept(store) == ["here"]


async def test_a_refused_hit_keeps_nothing(clock: Clock) -> None:
    store = MemoryStore(clock)
    await store.hit([Tier("full", 1, 60)])
    for number in range(10):
        await store.hit([Tier("full", 1, 60), Tier(f"other:{number}", 5, 60)])
    assert kept(store) == ["full"]


async def test_a_log_that_ran_empty_and_was_refused_is_dropped_like_an_expired_one(clock: Clock) -> None:
    store = MemoryStore(clock)
    await store.hit([Tier("empty", 1, 10)])
    clock.advance(9)
    await store.hit([Tier("full", 1, 10)])
    clock.advance(1)
    assert await store.hit([Tier("empty", 1, 10), Tier("full", 1, 10)]) == [Hit(1, 0, 0), Hit(0, 9, 9)]
    await store.hit([Tier("here", 1, 10)])
    assert kept(store) == ["full", "here"]


async def test_a_hit_of_more_tiers_than_fit_is_still_counted_whole(clock: Clock) -> None:
    store = MemoryStore(clock, max_keys=1)
    tiers = [Tier("a", 1, 10), Tier("b", 1, 20), Tier("c", 1, 10)]
    assert [hit.remaining for hit in await store.hit(tiers)] == [0, 0, 0]
    assert len(kept(store)) == 1


async def test_a_full_store_adds_no_once_only_key_until_one_has_ended(clock: Clock) -> None:
    store = MemoryStore(clock, max_keys=2)
    assert await store.add("a", 5)
    assert await store.add("b", 9)
    assert not await store.add("c", 5)
    assert not await store.has("c")
    clock.advance(5)
    assert await store.add("c", 5)
    assert await store.has("b")


async def test_a_key_added_again_after_its_end_lives_its_new_time(clock: Clock) -> None:
    store = MemoryStore(clock)
    # More of them end at once than one call clears away, and "z" is the last of them.
    for number in range(SWEEP_ONCE + 1):
        await store.add(f"a{number}", 5)
    await store.add("z", 6)
    clock.advance(6)
    assert await store.add("z", 60)
    await store.add("sweep the rest", 1)
    clock.advance(50)
    assert await store.has("z")


async def test_ended_keys_take_no_room_for_good(clock: Clock) -> None:
    store = MemoryStore(clock, max_keys=1000)
    for round_ in range(5):
        for number in range(1000):
            assert await store.add(f"{round_}:{number}", 5)
        clock.advance(5)
    assert len(store._once) == len(store._ends) == 1000


async def test_it_starts_and_closes_without_a_server() -> None:
    store = MemoryStore()
    await store.start()
    await store.close()
    assert store.degraded() is None


async def test_of_too_many_claims_the_one_made_longest_ago_is_forgotten(clock: Clock) -> None:
    store = MemoryStore(clock, max_keys=2)
    for key in ("a", "b", "c"):
        assert await store.claim(key, b"1", 60) == b"1"
    assert await store.claim("b", b"2", 60) == b"1"
    assert await store.claim("a", b"2", 60) == b"2"


async def test_claims_that_are_over_leave_as_others_come(clock: Clock) -> None:
    store = MemoryStore(clock, max_keys=1000)
    for number in range(1000):
        await store.claim(f"a{number}", b"1", 5)
    clock.advance(6)
    for number in range(500):
        await store.claim(f"b{number}", b"1", 5)
    assert len(store._claims) == 500
