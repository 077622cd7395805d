"""Each upstream gets its weight's share of the sessions, and a session stays where it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Site
from proxy.upstream.route import order
from tests.clients import SHOP

NAMES = st.text("abcdefgh", min_size=1, max_size=3)
WEIGHTS = st.dictionaries(NAMES, st.integers(1, 1000), min_size=2, max_size=5)


def site(**weights: int) -> Site:
    return replace(SHOP, upstream=next(iter(weights)), weights=weights)


def test_the_only_upstream_answers_everybody() -> None:
    assert order(SHOP, "s1") == ("support",)
    assert list(order(site(a=1), "s1")) == ["a"]


def test_sessions_are_shared_out_by_weight() -> None:
    found = Counter(order(site(a=9, b=1), f"session {number}")[0] for number in range(10_000))
    assert 880 < found["b"] < 1120  # a thousand, give or take four standard deviations


def test_who_loses_its_upstream_is_shared_out_by_weight_too() -> None:
    second = Counter(
        found[1] for number in range(20_000) if (found := order(site(a=2, b=3, c=1), f"session {number}"))[0] == "a"
    )
    assert 0.7 < second["b"] / second.total() < 0.8


@given(WEIGHTS, st.text(max_size=40))
def test_every_upstream_is_in_the_order_once_and_the_order_is_always_the_same(
    weights: dict[str, int], session: str
) -> None:
    found = order(site(**weights), session)
    assert sorted(found) == sorted(weights)
    assert order(site(**dict(reversed(weights.items()))), session) == found


@given(WEIGHTS, st.text(max_size=40), st.data())
def test_an_upstream_that_is_removed_moves_its_own_sessions_only(
    weights: dict[str, int], session: str, data: st.DataObject
) -> None:
    removed = data.draw(st.sampled_from(sorted(weights)))
    rest = {name: weight for name, weight in weights.items() if name != removed}
    before = [name for name in order(site(**weights), session) if name != removed]
    assert list(order(site(**rest), session)) == before
