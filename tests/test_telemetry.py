"""Logs are one JSON object a line, and a log that nobody reads stops nobody."""

from __future__ import annotations

import logging
import os
import queue

import orjson
import pytest

from proxy.telemetry import AuditSettings, JsonFormatter, Logs, Metrics, TelemetrySettings, _BoundedQueue, audit
from proxy.totals import collect, render, totals


@pytest.fixture
def untouched() -> object:
    """Give the root and audit loggers back as they were."""
    loggers = [logging.getLogger(), logging.getLogger("sidegate.audit")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield None
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.mark.usefixtures("untouched")
def test_requests_and_audit_events_go_their_own_ways(capfd: pytest.CaptureFixture[str]) -> None:
    logs = Logs(TelemetrySettings(log_level="warning"), AuditSettings(), Metrics())
    logging.getLogger("x").info("not at this level")
    logging.getLogger("x").warning("hello %s", "there", extra={"fields": {"request_id": "r1"}})
    audit("DENIED", stage="origin", ip="192.0.2.1")
    logs.stop()
    out, err = capfd.readouterr()
    (line,) = map(orjson.loads, err.splitlines())
    assert line.items() >= {"message": "hello there", "level": "WARNING", "request_id": "r1"}.items()
    (event,) = map(orjson.loads, out.splitlines())
    assert event.items() >= {"message": "DENIED", "stage": "origin", "ip": "192.0.2.1"}.items()


@pytest.mark.usefixtures("untouched")
def test_audit_events_can_go_to_stderr_and_be_switched_off(capfd: pytest.CaptureFixture[str]) -> None:
    logs = Logs(TelemetrySettings(), AuditSettings(to="stderr", level="ERROR"), Metrics())
    audit("DENIED")
    logging.getLogger("sidegate.audit").error("X")
    logs.stop()
    out, err = capfd.readouterr()
    assert out == ""
    assert "DENIED" not in err
    assert '"X"' in err


@pytest.mark.usefixtures("untouched")
def test_a_log_that_nobody_reads_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.telemetry.STOP_SECONDS", 0.1)
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w") as unread:
        monkeypatch.setattr("sys.stderr", unread)
        logs = Logs(TelemetrySettings(), AuditSettings(), Metrics())
        for _ in range(2000):
            logging.getLogger("x").warning("x" * 200)
        assert logs.stop() is False
        os.read(ours, 1_000_000)  # now somebody reads, and the thread can end
        while logs.stop() is False:
            os.read(ours, 1_000_000)
    os.close(ours)


def test_a_full_queue_drops_lines_and_counts_them() -> None:
    metrics = Metrics()
    handler = _BoundedQueue(queue.Queue(1), metrics)
    for _ in range(3):
        handler.handle(logging.makeLogRecord({"msg": "x"}))
    assert totals(collect(metrics.registry))["sidegate_log_lines_dropped_total"] == 2


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise KeyError("boom")
    except KeyError as error:
        record = logging.makeLogRecord({"msg": "crashed", "exc_info": (KeyError, error, error.__traceback__)})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "KeyError" in orjson.loads(line)["traceback"]


def test_metrics_render_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.denied.labels("origin", "origin_denied", "enforce").inc()
    text = render(collect(metrics.registry))
    assert b'sidegate_denied_total{code="origin_denied",mode="enforce",stage="origin"} 1.0' in text
