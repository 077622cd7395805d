"""What Sidegate tells its owner: metrics, log lines, audit events.

Log lines are JSON objects on one line each, written by a queue's thread: a full pipe never stops the event loop; when
the queue is full, lines are dropped and counted. No secret, no message text, no answer text is ever logged.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Annotated, Literal

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import BeforeValidator

from proxy.config import Section
from proxy.errors import Denied

Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]

QUEUE_LINES = 10_000
STOP_SECONDS = 2.0


class AuditSettings(Section):
    """Security events: denials and changes of state."""

    to: Literal["stdout", "stderr"] = "stdout"
    level: Level = "INFO"


class TelemetrySettings(Section):
    log_level: Level = "INFO"


class Metrics:
    """All metrics of one process, in one registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("sidegate_requests", "HTTP answers given", ["route", "status"], registry=registry)
        self.denied = Counter(
            "sidegate_denied",
            "Refusals by the guard, enforced or only observed",
            ["stage", "code", "mode"],
            registry=registry,
        )
        self.answers = Counter("sidegate_answers", "Answers by how they ended", ["site", "outcome"], registry=registry)
        self.first_piece = Histogram(
            "sidegate_first_piece_seconds",
            "Time from the message's admission to the answer's first text",
            ["upstream"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=registry,
        )
        self.answer_seconds = Histogram(
            "sidegate_answer_seconds",
            "Time from the message's admission to the answer's end",
            ["upstream"],
            buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900),
            registry=registry,
        )
        self.held_characters = Histogram(
            "sidegate_held_characters",
            "Most characters that the filters kept back at once, by answer",
            ["site"],
            buckets=(0, 8, 24, 64, 256, 1024, 4096),
            registry=registry,
        )
        self.hold_seconds = Histogram(
            "sidegate_hold_seconds",
            "Longest time for which the filters kept text back, by answer",
            ["site"],
            buckets=(0, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
            registry=registry,
        )
        self.filter_hits = Counter("sidegate_filter_hits", "What filters acted on", ["site", "rule"], registry=registry)
        self.sse_connections = Gauge("sidegate_sse_connections", "Open SSE responses", registry=registry)
        self.ws_connections = Gauge("sidegate_ws_connections", "Open WebSockets", registry=registry)
        self.sessions_opened = Counter("sidegate_sessions_opened", "Sessions issued", ["site"], registry=registry)
        self.sessions_ended = Counter(
            "sidegate_sessions_ended",
            "Sessions ended before their time, by why",
            ["site", "reason"],
            registry=registry,
        )
        self.auth_failures = Counter(
            "sidegate_auth_failures",
            "Credentials that were refused, by what they were",
            ["kind", "code"],
            registry=registry,
        )
        self.key_sets = Counter(
            "sidegate_key_sets_read",
            "Readings of the identity provider's key set: ok or error",
            ["outcome"],
            registry=registry,
        )
        self.uploads = Counter(
            "sidegate_uploads",
            "Files that came with messages: accepted, unscanned, or why they were refused",
            ["site", "outcome"],
            registry=registry,
        )
        self.upload_bytes = Gauge(
            "sidegate_upload_spool_bytes", "Bytes of files that wait in the temporary directory", registry=registry
        )
        self.risk_steps = Counter(
            "sidegate_risk_steps",
            "Sessions that came to a step of risk",
            ["site", "step", "mode"],
            registry=registry,
        )
        self.pushes = Counter(
            "sidegate_pushes",
            "What was sent to sessions later: delivered, kept, or a code",
            ["site", "outcome"],
            registry=registry,
        )
        self.webhooks = Counter(
            "sidegate_webhooks",
            "Providers' webhooks: done, queued, duplicate, challenge, greeting, cancelled, or a code",
            ["hook", "outcome"],
            registry=registry,
        )
        self.webhook_queue = Gauge(
            "sidegate_webhook_queue", "Queued webhooks: waiting, dead", ["state"], registry=registry
        )
        self.webhook_queue_bytes = Gauge(
            "sidegate_webhook_queue_bytes", "What queued webhooks take up, sealed", ["state"], registry=registry
        )
        self.breaker_open = Gauge(
            "sidegate_breaker_open",
            "1 while the upstream's circuit is open, 0.5 half-open",
            ["upstream"],
            registry=registry,
        )
        self.failovers = Counter(
            "sidegate_failovers", "Messages that another upstream was asked for", ["upstream"], registry=registry
        )
        self.avoided = Counter(
            "sidegate_executions_avoided", "Messages that needed no upstream", ["reason"], registry=registry
        )
        self.challenges = Counter(
            "sidegate_challenges", "Proofs of work: asked for, solved, failed", ["site", "outcome"], registry=registry
        )
        self.upstream_active = Gauge(
            "sidegate_upstream_active", "Answers that the upstream is giving now", ["upstream"], registry=registry
        )
        self.upstream_waiting = Gauge(
            "sidegate_upstream_waiting", "Messages that wait for a slot", ["upstream"], registry=registry
        )
        self.store_degraded = Gauge(
            "sidegate_store_degraded", "1 while limits are counted locally because Redis is away", registry=registry
        )
        self.answers_interrupted = Counter(
            "sidegate_answers_interrupted",
            "Answers of other replicas that were found broken off, and ended",
            registry=registry,
        )
        self.log_dropped = Counter("sidegate_log_lines_dropped", "Log lines lost to a full queue", registry=registry)

    def answered(
        self, upstream: str, seconds: float, site: str, held: int, hold: float, hits: Mapping[str, int]
    ) -> None:
        """How long an answer took and what the filters did to it, told once, at its end."""
        self.answer_seconds.labels(upstream).observe(seconds)
        self.held_characters.labels(site).observe(held)
        self.hold_seconds.labels(site).observe(hold)
        for rule, count in hits.items():
            self.filter_hits.labels(site, rule).inc(count)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (Unix seconds), level, logger, message, and what `extra={"fields": …}` holds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _BoundedQueue(logging.handlers.QueueHandler):
    def __init__(self, lines: queue.Queue[logging.LogRecord], metrics: Metrics) -> None:
        super().__init__(lines)
        self._metrics = metrics

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._metrics.log_dropped.inc()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # stays in this process: nothing needs to be made picklable


class _Listener(logging.handlers.QueueListener):
    def end(self, seconds: float) -> bool:
        """As stop(), but waiting for no longer than this."""
        with suppress(queue.Full):
            self.queue.put_nowait(None)
        thread: threading.Thread | None = self._thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()


class Logs:
    """The process's log output. `stop` writes what is queued and returns."""

    def __init__(self, settings: TelemetrySettings, audit: AuditSettings, metrics: Metrics) -> None:
        self._listeners = [
            self._listen(logging.getLogger(), sys.stderr, settings.log_level, metrics),
            self._listen(
                logging.getLogger("sidegate.audit"),
                sys.stdout if audit.to == "stdout" else sys.stderr,
                audit.level,
                metrics,
            ),
        ]
        logging.getLogger("sidegate.audit").propagate = False

    def _listen(self, logger: logging.Logger, stream: IO[str], level: str, metrics: Metrics) -> _Listener:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter())
        lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_LINES)
        logger.handlers[:] = [_BoundedQueue(lines, metrics)]
        logger.setLevel(level)
        listener = _Listener(lines, handler)
        listener.start()
        return listener

    def stop(self) -> bool:
        """Write what is queued. False when nobody reads it: the interpreter would then wait for its threads at exit."""
        ended = [listener.end(STOP_SECONDS) for listener in self._listeners]
        return all(ended)


_audit = logging.getLogger("sidegate.audit")


def audit(event: str, **fields: object) -> None:
    """A security event: its name in capitals, ids, sizes and rule names. Never a secret or anybody's words."""
    if _audit.isEnabledFor(logging.INFO):
        _audit.info(event, extra={"fields": fields})


def tell_denied(metrics: Metrics, denied: Denied, mode: str, request_id: str, ip: str) -> None:
    """Count and log a refusal, or what `observe` would have refused."""
    metrics.denied.labels(denied.stage, denied.code, mode).inc()
    if denied.avoids and mode == "enforce":
        metrics.avoided.labels(denied.avoids).inc()
    audit(
        "DENIED" if mode == "enforce" else "WOULD_DENY",
        stage=denied.stage, code=denied.code, detail=denied.detail, request_id=request_id, ip=ip,
    )  # fmt: skip


class Stopwatch:
    """Seconds since it was made."""

    __slots__ = ("_start",)

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start
