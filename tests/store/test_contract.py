"""What every store promises, on each of them. The model below reads the rule literally, with all hits kept for ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.store import Hit, Tier
from tests.store.conftest import Backend

MICRO = 1_000_000
# The fixture is a connection; what an example counts lies under keys of its own. How long it takes says nothing.
many = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class Model:
    """At most `limit` hits in any window; tokens of a bucket are counted by replaying every hit. Microseconds."""

    now: int = 0
    hits: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        waits = [self.wait(tier) for tier in tiers]
        if not any(waits):
            for tier in tiers:
                self.hits[tier.key].append(self.now)
        return [self.state(tier, wait) for tier, wait in zip(tiers, waits, strict=True)]

    def counted(self, tier: Tier, at: int) -> list[int]:
        return [hit for hit in self.hits[tier.key] if at - hit < round(tier.window * MICRO)]

    def tokens(self, tier: Tier, at: int) -> Fraction:
        """What is in the bucket. Without one it never runs out."""
        if tier.burst == 0:
            return Fraction(tier.limit)
        interval = max(1, round(tier.window * MICRO) // tier.limit)
        level, last = Fraction(tier.burst), 0
        for hit in self.hits[tier.key]:
            level, last = min(Fraction(tier.burst), level + Fraction(hit - last, interval)) - 1, hit
        return min(Fraction(tier.burst), level + Fraction(at - last, interval))

    def passes(self, tier: Tier, at: int) -> bool:
        return len(self.counted(tier, at)) < tier.limit and self.tokens(tier, at) >= 1

    def wait(self, tier: Tier) -> int:
        """The least time after which a hit would pass, found by trying: the answer only changes from no to yes."""
        if self.passes(tier, self.now):
            return 0
        low, high = self.now, self.now + round(tier.window * MICRO)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.passes(tier, middle) else (middle, high)
        return high - self.now

    def state(self, tier: Tier, wait: int) -> Hit:
        counted = self.counted(tier, self.now)
        remaining = min(max(0, tier.limit - len(counted)), max(0, floor(self.tokens(tier, self.now))))
        reset = counted[0] + round(tier.window * MICRO) - self.now if counted else 0
        return Hit(remaining, reset / MICRO, wait / MICRO)


# Small numbers, so that the edges are met; whole milliseconds often, so that they are met exactly.
spans = st.one_of(st.integers(1, 40), st.integers(1, 40).map(lambda n: n * 1000), st.integers(1, 3_000_000))


@st.composite
def some_tiers(draw: st.DrawFn) -> list[Tier]:
    return [
        Tier(
            key=f"k{index}",
            limit=draw(st.integers(1, 6)),
            window=draw(spans) / MICRO,
            burst=draw(st.one_of(st.just(0), st.integers(1, 7))),
        )
        for index in range(draw(st.integers(1, 3)))
    ]


# None hits; "wait" lets the longest retry_after pass, "almost" one microsecond less; a number lets so many pass.
moves = st.lists(st.one_of(st.none(), st.none(), st.sampled_from(["wait", "almost"]), spans), max_size=40)


@many
@given(tiers=some_tiers(), moves=moves)
async def test_every_answer_is_the_one_that_the_rule_gives(
    backend: Backend, tiers: list[Tier], moves: list[str | int | None]
) -> None:
    prefix, model, wait = backend.prefix(), Model(), 0
    tiers = [replace(tier, key=f"{prefix}:{tier.key}") for tier in tiers]
    for move in moves:
        if move is None:
            hits = await backend.store.hit(tiers)
            assert hits == model.hit(tiers)
            wait = round(max(hit.retry_after for hit in hits) * MICRO)
            continue
        span = {"wait": wait, "almost": max(0, wait - 1)}[move] if isinstance(move, str) else move
        backend.advance(span / MICRO)
        model.now += span


@many
@given(limit=st.integers(1, 5), window=spans, steps=st.lists(st.one_of(st.just(0), spans), max_size=40))
async def test_no_window_of_any_position_holds_more_than_the_limit(
    backend: Backend, limit: int, window: int, steps: list[int]
) -> None:
    tier = Tier(backend.prefix(), limit, window / MICRO)
    now, passed = 0, []
    for step in steps:
        backend.advance(step / MICRO)
        now += step
        if (await backend.store.hit([tier]))[0].retry_after == 0:
            passed.append(now)
    for first, after_limit in zip(passed, passed[limit:], strict=False):
        assert after_limit - first >= window


@many
@given(
    limit=st.integers(1, 5), window=spans, burst=st.integers(0, 6), steps=st.lists(st.integers(0, 3000), max_size=12)
)
async def test_waiting_for_retry_after_is_enough_and_no_less_is(
    backend: Backend, limit: int, window: int, burst: int, steps: list[int]
) -> None:
    tier = Tier(backend.prefix(), limit, window / MICRO, burst)
    for step in [*steps, *[0] * limit]:
        backend.advance(step / MICRO)
        await backend.store.hit([tier])
    (refused,) = await backend.store.hit([tier])
    assert refused.retry_after > 0
    assert refused.remaining == 0
    backend.advance(refused.retry_after - 1 / MICRO)
    assert (await backend.store.hit([tier]))[0].retry_after == pytest.approx(1 / MICRO)
    backend.advance(1 / MICRO)
    assert (await backend.store.hit([tier]))[0].retry_after == 0


@many
@given(limits=st.lists(st.integers(1, 4), min_size=2, max_size=4), hits=st.integers(1, 12))
async def test_a_hit_counts_against_all_tiers_or_against_none(backend: Backend, limits: list[int], hits: int) -> None:
    prefix = backend.prefix()
    tiers = [Tier(f"{prefix}:{index}", limit, 60) for index, limit in enumerate(limits)]
    for _ in range(hits):
        await backend.store.hit(tiers)
    passed = min(hits, *limits)
    # A tier alone tells how much it has left, once this hit is counted.
    for tier in tiers:
        (alone,) = await backend.store.hit([tier])
        assert alone.remaining == max(0, tier.limit - passed - 1)


async def test_an_unused_tier_is_whole_and_resets_with_its_first_hit(backend: Backend) -> None:
    tier = Tier("a", 3, 10)
    assert await backend.store.hit([tier]) == [Hit(remaining=2, reset=10, retry_after=0)]
    backend.advance(4)
    assert await backend.store.hit([tier]) == [Hit(remaining=1, reset=6, retry_after=0)]


async def test_a_hit_leaves_exactly_when_its_window_is_over(backend: Backend) -> None:
    tier = Tier("a", 2, 10)
    await backend.store.hit([tier])
    backend.advance(5)
    await backend.store.hit([tier])
    backend.advance(4.999999)
    assert await backend.store.hit([tier]) == [Hit(remaining=0, reset=0.000001, retry_after=0.000001)]
    backend.advance(0.000001)
    assert await backend.store.hit([tier]) == [Hit(remaining=0, reset=5, retry_after=0)]


async def test_a_tier_that_would_let_the_hit_pass_is_left_as_it_was(backend: Backend) -> None:
    narrow, wide, unused = Tier("narrow", 1, 10), Tier("wide", 5, 60, burst=3), Tier("unused", 7, 5, burst=2)
    await backend.store.hit([narrow, wide])
    backend.advance(1)
    for _ in range(3):
        refused = await backend.store.hit([wide, narrow, unused])
        assert refused == [Hit(2, 59, 0), Hit(0, 9, 9), Hit(2, 0, 0)]


async def test_each_refusing_tier_tells_its_own_wait(backend: Backend) -> None:
    tiers = [Tier("short", 1, 10), Tier("long", 1, 60)]
    await backend.store.hit(tiers)
    assert [hit.retry_after for hit in await backend.store.hit(tiers)] == [10, 60]


async def test_a_burst_spends_the_bucket_and_the_window_still_holds(backend: Backend) -> None:
    tier = Tier("a", 10, 10, burst=3)
    assert [hit.remaining for _ in range(3) for hit in await backend.store.hit([tier])] == [2, 1, 0]
    assert (await backend.store.hit([tier]))[0].retry_after == 1
    passed = 3
    for _ in range(6):
        backend.advance(1)
        passed += (await backend.store.hit([tier]))[0].retry_after == 0
    backend.advance(0.999999)
    assert (await backend.store.hit([tier]))[0].retry_after == pytest.approx(0.000001)
    backend.advance(0.000001)
    passed += (await backend.store.hit([tier]))[0].retry_after == 0
    assert passed == 10
    backend.advance(1)
    # The bucket has a token, but the window has its ten until the first three leave it.
    assert (await backend.store.hit([tier]))[0].retry_after == 2


async def test_a_lowered_limit_refuses_until_enough_hits_have_left(backend: Backend) -> None:
    for _ in range(5):
        await backend.store.hit([Tier("a", 5, 10)])
        backend.advance(1)
    (hit,) = await backend.store.hit([Tier("a", 2, 10)])
    assert hit == Hit(remaining=0, reset=5, retry_after=8)
    backend.advance(8)
    assert await backend.store.hit([Tier("a", 2, 10)]) == [Hit(remaining=0, reset=1, retry_after=0)]


async def test_a_long_log_forgets_what_left_and_keeps_the_rest(backend: Backend) -> None:
    tier = Tier("a", 300, 100)
    for _ in range(200):
        backend.advance(0.5)
        await backend.store.hit([tier])
    backend.advance(70.25)  # the first 140 have left
    assert await backend.store.hit([tier]) == [Hit(remaining=300 - 61, reset=0.25, retry_after=0)]


async def test_a_window_shorter_than_its_limit_in_microseconds_is_still_exact(backend: Backend) -> None:
    tier = Tier("a", 3, 0.000001, burst=2)
    hits = [(await backend.store.hit([tier]))[0] for _ in range(3)]
    assert [(hit.remaining, hit.retry_after) for hit in hits] == [(1, 0), (0, 0), (0, 0.000001)]


async def test_no_tiers_is_no_limit(backend: Backend) -> None:
    assert await backend.store.hit([]) == []


async def test_only_one_adds_a_key_until_it_is_forgotten(backend: Backend) -> None:
    assert await backend.store.add("a", 5)
    assert not await backend.store.add("a", 50)
    assert await backend.store.has("a")
    backend.advance(4.99)
    assert not await backend.store.add("a", 50)
    backend.advance(0.02)
    assert not await backend.store.has("a")
    assert await backend.store.add("a", 5)


async def test_keys_are_told_apart(backend: Backend) -> None:
    await backend.store.add("a", 5)
    assert not await backend.store.has("b")
    assert await backend.store.add("b", 5)
    for key in ("a", "b", "{a}", "a}b{c"):
        assert (await backend.store.hit([Tier(key, 1, 5)]))[0].retry_after == 0


@many
@given(
    moves=st.lists(
        st.one_of(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), st.integers(1, 9)), min_size=1, max_size=30
    )
)
async def test_once_only_keys_are_first_exactly_when_unknown(
    backend: Backend, moves: list[tuple[str, int] | int]
) -> None:
    prefix, now = backend.prefix(), 0
    known: dict[str, int] = {}
    for move in moves:
        if isinstance(move, int):
            backend.advance(move + 0.002)  # never at the very end, where Redis keeps keys for a millisecond more
            now += 1000 * move + 2
            continue
        key, ttl = move
        is_new = known.get(key, 0) <= now
        assert await backend.store.has(f"{prefix}:{key}") is not is_new
        assert await backend.store.add(f"{prefix}:{key}", ttl) is is_new
        if is_new:
            known[key] = now + 1000 * ttl


async def test_a_key_stands_for_what_was_claimed_first_until_that_is_forgotten(backend: Backend) -> None:
    assert await backend.store.claim("a", b"1", 5) == b"1"
    assert await backend.store.claim("a", b"2", 5) == b"1"
    assert await backend.store.claim("b", b"2", 5) == b"2"
    assert await backend.store.claim("a", b"1", 5) == b"1"  # asked again, as where the answer got lost
    backend.advance(5.01)
    assert await backend.store.claim("a", b"2", 5) == b"2"


async def test_a_claim_is_replaced_by_who_knows_what_it_replaces(backend: Backend) -> None:
    await backend.store.claim("a", b"1", 5)
    assert await backend.store.claim("a", b"3", 5, instead=b"2") == b"1"
    backend.advance(4)
    assert await backend.store.claim("a", b"3", 5, instead=b"1") == b"3"
    assert await backend.store.claim("a", b"4", 5, instead=b"1") == b"3"
    backend.advance(4)  # it is remembered from the replacing on
    assert await backend.store.claim("a", b"4", 5) == b"3"


async def test_a_claim_is_released_by_who_made_it(backend: Backend) -> None:
    await backend.store.claim("a", b"1", 5)
    await backend.store.release("a", b"2")
    await backend.store.release("b", b"1")
    assert await backend.store.claim("a", b"2", 5) == b"1"
    await backend.store.release("a", b"1")
    assert await backend.store.claim("a", b"2", 5) == b"2"


@many
@given(
    moves=st.lists(
        st.one_of(
            st.integers(1, 9),
            st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 9), st.sampled_from(["", *"xyz"])),
            st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")),
        ),
        min_size=1,
        max_size=30,
    )
)
async def test_claims_are_as_a_table_of_them_says(
    backend: Backend, moves: list[int | tuple[str, str, int, str] | tuple[str, str]]
) -> None:
    prefix, now = backend.prefix(), 0
    table: dict[str, tuple[str, int]] = {}
    for move in moves:
        table = {key: (value, end) for key, (value, end) in table.items() if end > now}
        match move:
            case int(seconds):
                backend.advance(seconds + 0.002)  # never at the very end, where Redis keeps keys for a millisecond more
                now += 1000 * seconds + 2
            case (key, value, ttl, instead):
                if table.get(key, (instead, 0))[0] == instead:
                    table[key] = value, now + 1000 * ttl
                held = await backend.store.claim(f"{prefix}:{key}", value.encode(), ttl, instead.encode())
                assert held.decode() == table[key][0]
            case (key, value):
                if table.get(key, ("", 0))[0] == value:
                    del table[key]
                await backend.store.release(f"{prefix}:{key}", value.encode())


async def test_a_store_on_its_own_is_never_degraded(backend: Backend) -> None:
    assert backend.store.degraded() is None
