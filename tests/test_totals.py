"""Several processes' counts are shown as if one had counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry import Metrics
from proxy.totals import WORST, Report, collect, health_of, merged, parse, render, totals

EVENTS = st.lists(st.sampled_from(["request", "denied", "fast", "slow"]), max_size=8)
DO: dict[str, Callable[[Metrics], None]] = {
    "request": lambda metrics: metrics.requests.labels("/health", "200").inc(),
    "denied": lambda metrics: metrics.denied.labels("origin", "origin_denied", "enforce").inc(),
    "fast": lambda metrics: metrics.first_piece.labels("support").observe(0.25),
    "slow": lambda metrics: metrics.first_piece.labels("support").observe(100),
}


def counted(events: list[str]) -> Report:
    metrics = Metrics()
    for event in events:
        DO[event](metrics)
    return Report(collect(metrics.registry))


def shown(*reports: Report) -> list[str]:
    """Without the times at which counters were made."""
    lines = render(merged(reports)).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_many_processes_show_what_one_would(processes: list[list[str]]) -> None:
    together = [event for events in processes for event in events]
    assert shown(*map(counted, processes)) == shown(counted(together))


@given(EVENTS)
def test_a_report_arrives_as_it_was_sent(events: list[str]) -> None:
    report = counted(events)
    assert parse(Report(report.families, {"status": "ok"}).dump()) == Report(report.families, {"status": "ok"})


def test_of_ended_processes_the_counts_stay_and_the_states_go() -> None:
    metrics = Metrics()
    metrics.sse_connections.set(3)
    metrics.sessions_opened.labels("shop").inc(5)
    past = Report(collect(metrics.registry)).without_gauges()
    found = totals(merged([counted([]), past]))
    assert (found["sidegate_sse_connections"], found["sidegate_sessions_opened_total"]) == (0, 5)


def test_of_states_the_worst_counts_and_of_connections_the_sum() -> None:
    reports = []
    for state in (0, 1, 0.5):
        metrics = Metrics()
        metrics.breaker_open.labels("support").set(state)
        metrics.store_degraded.set(state)
        metrics.sse_connections.set(2)
        reports.append(Report(collect(metrics.registry)))
    found = totals(merged(reports))
    assert found["sidegate_breaker_open"] == found["sidegate_store_degraded"] == 1
    assert found["sidegate_sse_connections"] == 6


def test_the_states_that_are_not_added_up_exist() -> None:
    assert {family.name for family in collect(Metrics().registry)} >= WORST


def health(status: str = "ok", redis: str = "ok", circuit: str = "closed", sessions: int = 1) -> dict[str, object]:
    return {
        "status": status,
        "services": {"redis": redis, "upstreams": {"a": "?"}, "breaker": {"a": circuit}},
        "replicas": 2,
        "sse_connections": 1,
        "ws_connections": 2,
        "active_sessions": sessions,
    }


@pytest.mark.parametrize("turn", [1, -1])
def test_health_of_all_is_the_worst_of_each_and_the_sum_of_counts(turn: int) -> None:
    reports = [health(), health("degraded", "redis is away", "open", sessions=4)][::turn]
    assert health_of(reports) == {
        "status": "degraded",
        "services": {"redis": "redis is away", "upstreams": {"a": "unavailable"}, "breaker": {"a": "open"}},
        "replicas": 2,
        "sse_connections": 2,
        "ws_connections": 4,
        "active_sessions": 5,
        "workers": 2,
    }
    assert health_of([health()])["services"] == {"redis": "ok", "upstreams": {"a": "ok"}, "breaker": {"a": "closed"}}
