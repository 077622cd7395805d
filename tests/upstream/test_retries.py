"""Retries stay a fraction of the requests, whatever goes wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.retries import RetryBudget


@given(st.lists(st.booleans(), max_size=400), st.integers(0, 400), st.integers(0, 400))
def test_of_any_requests_in_a_row_a_fifth_and_ten_are_tried_again(fails: list[bool], start: int, end: int) -> None:
    budget = RetryBudget()
    retried = []
    for has_failed in fails:
        budget.earn()
        retried.append(has_failed and budget.spend())
    part = retried[start:end]
    assert sum(part) <= len(part) / 5 + 10


def test_an_upstream_that_is_well_again_earns_new_retries() -> None:
    budget = RetryBudget()
    assert sum(budget.spend() for _ in range(50)) == 10
    for _ in range(5):
        assert not budget.spend()
        budget.earn()
    assert budget.spend()


def test_not_everybody_comes_back_at_the_same_time() -> None:
    pauses = {RetryBudget.pause() for _ in range(100)}
    assert len(pauses) > 90
    assert 0.1 <= min(pauses) < max(pauses) <= 0.3
