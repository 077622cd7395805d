"""Limits as clients meet them: who is counted with whom, what is told, what waiting helps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import RateLimited
from proxy.guard.limits import Limits, LimitSettings, Openings, headers
from proxy.model import Mode, Session, Site
from proxy.store.memory import MemoryStore
from tests.clients import SHOP, Clock, client, request

BLOG = Site("blog", SHOP.origins, "support")


def limits(*rules: LimitSettings, clock: Clock, mode: Mode = "enforce") -> Limits:
    return Limits({"shop": rules}, MemoryStore(clock=clock), mode)


async def test_the_limit_passes_and_one_more_does_not() -> None:
    clock = Clock()
    stage = limits(LimitSettings(per="ip", limit=3, window=60), clock=clock)
    assert [(await stage.check(request())).counts[0].remaining for _ in range(3)] == [2, 1, 0]
    with pytest.raises(RateLimited) as refused:
        await stage.check(request())
    assert refused.value.retry_after == 60
    assert refused.value.headers["X-RateLimit-Remaining"] == "0"
    clock.advance(60)
    await stage.check(request())


async def test_a_refusal_by_one_tier_uses_up_no_other() -> None:
    clock = Clock()
    stage = limits(
        LimitSettings(per="ip", limit=1, window=10), LimitSettings(per="site", limit=2, window=100), clock=clock
    )
    await stage.check(request())
    for _ in range(5):
        with pytest.raises(RateLimited):
            await stage.check(request())
    await stage.check(request(ip="198.51.100.1"))


async def test_each_is_counted_by_its_own() -> None:
    clock = Clock()
    stage = limits(LimitSettings(per="session", limit=1, window=10), clock=clock)
    await stage.check(request())
    await stage.check(request(session=Session("s2", "shop", "", 2e9)))
    with pytest.raises(RateLimited):
        await stage.check(request(ip="198.51.100.1"))


async def test_a_site_without_limits_is_not_counted() -> None:
    stage = limits(LimitSettings(per="ip", limit=1, window=10), clock=Clock())
    for _ in range(3):
        assert (await stage.check(request(site=BLOG))).counts == ()


async def test_observed_limits_count_apart_from_enforced_ones() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    rules = (LimitSettings(per="ip", limit=2, window=10), LimitSettings(per="ip", limit=1, window=5, mode="observe"))
    enforced, observed = Limits({"shop": rules}, store, "enforce"), Limits({"shop": rules}, store, "observe")
    for stage in (enforced, observed, enforced):
        await stage.check(request())
    with pytest.raises(RateLimited):
        await observed.check(request())


async def test_opening_sessions_is_limited_by_address_and_messages_are_not_counted_with_it() -> None:
    store = MemoryStore(clock=Clock())
    rules = [LimitSettings(per="ip", limit=2, window=10), LimitSettings(per="session", limit=1, window=10)]
    openings = Openings(rules, store)
    for _ in range(3):
        await openings.check(client(route="messages"))
    for _ in range(2):
        await openings.check(client(route="session"))
    with pytest.raises(RateLimited):
        await openings.check(client(route="session"))
    await openings.check(client(route="session", ip="198.51.100.1"))
    await Openings([], store).check(client(route="session"))


async def test_the_headers_name_every_policy_and_the_tightest_state() -> None:
    stage = limits(
        LimitSettings(per="ip", limit=60, window=60), LimitSettings(per="session", limit=30, window=60), clock=Clock()
    )
    shown = headers((await stage.check(request())).counts)
    assert shown["X-RateLimit-Limit"] == "30"
    assert shown["X-RateLimit-Remaining"] == "29"
    assert shown["X-RateLimit-Reset"] == "60"
    assert shown["RateLimit-Policy"] == '"ip-60s";q=60;w=60, "session-60s";q=30;w=60'
    assert shown["RateLimit"] == '"session-60s";r=29;t=60'
    assert headers(()) == {}


@given(
    limit=st.integers(1, 5),
    burst=st.integers(0, 4),
    gaps=st.lists(st.floats(0, 8, allow_nan=False).map(lambda gap: round(gap, 3)), max_size=40),
)
@settings(max_examples=200, deadline=None)
async def test_no_window_ever_lets_more_than_the_limit_through_and_waiting_as_told_helps(
    limit: int, burst: int, gaps: list[float]
) -> None:
    clock, passed = Clock(0.0), list[float]()
    stage = limits(LimitSettings(per="ip", limit=limit, window=10, burst=burst), clock=clock)
    for gap in gaps:
        clock.advance(gap)
        wait = 0.0
        try:
            await stage.check(request())
        except RateLimited as refused:
            wait = refused.retry_after or -1
        if wait:
            clock.advance(wait)
            await stage.check(request())
        passed.append(clock.now)
    for start in passed:
        assert sum(start <= moment < start + 10 - 1e-6 for moment in passed) <= limit
