"""What several processes count, put together as if one had counted it. Pure.

Counters and histograms are added up, those of processes that ended included, so that no total ever falls. Gauges are
added up over the processes that run, except the ones named in WORST, of which the highest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import orjson
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

# The queue in Redis is everybody's; without Redis there is one process.
WORST = frozenset(
    (
        *("sidegate_breaker_open", "sidegate_store_degraded"),
        *("sidegate_webhook_queue", "sidegate_webhook_queue_bytes"),
    )
)
SEVERITY = ("ok", "degraded", "draining")
CIRCUITS = ("closed", "half_open", "open")
SUMMED = ("sse_connections", "ws_connections", "active_sessions")

Labels = tuple[tuple[str, str], ...]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its samples by name and labels, in the order in which they are shown."""

    name: str
    kind: str
    text: str
    samples: Mapping[tuple[str, Labels], float]


@dataclass(frozen=True, slots=True)
class Report:
    """What one process says of itself; `health` is empty for those that ended."""

    families: tuple[Family, ...] = ()
    health: Mapping[str, object] = field(default_factory=dict)

    def without_gauges(self) -> Report:
        """What stays true when the process has ended."""
        return Report(tuple(family for family in self.families if family.kind != "gauge"))

    def dump(self) -> bytes:
        families = [
            [family.name, family.kind, family.text, [[name, labels, value] for (name, labels), value in _items(family)]]
            for family in self.families
        ]
        return orjson.dumps([families, self.health])


def parse(data: bytes) -> Report:
    """A report as dump() wrote it, by a process of this very version."""
    families, health = orjson.loads(data)
    return Report(
        tuple(
            Family(
                name,
                kind,
                text,
                {
                    (sample, tuple((label, said) for label, said in labels)): float(value)
                    for sample, labels, value in samples
                },
            )
            for name, kind, text, samples in families
        ),
        health,
    )


def collect(registry: Collector) -> tuple[Family, ...]:
    """All that a registry counts. Takes milliseconds: call it off the event loop."""
    return tuple(
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            {(sample.name, tuple(sample.labels.items())): sample.value for sample in metric.samples},
        )
        for metric in registry.collect()
    )


def merged(reports: Iterable[Report]) -> tuple[Family, ...]:
    """The families of all reports, in the order in which they are first met."""
    found: dict[str, Family] = {}
    for report in reports:
        for family in report.families:
            known = found.get(family.name)
            found[family.name] = family if known is None else _both(known, family)
    return tuple(found.values())


def _both(one: Family, other: Family) -> Family:
    samples = dict(one.samples)
    for key, value in other.samples.items():
        known = samples.get(key)
        if known is None:
            samples[key] = value
        elif key[0].endswith("_created"):
            samples[key] = min(known, value)
        elif one.name in WORST:
            samples[key] = max(known, value)
        else:
            samples[key] = known + value
    return Family(one.name, one.kind, one.text, samples)


def totals(families: Iterable[Family]) -> dict[str, float]:
    """Every counter and gauge by name, summed over its labels."""
    found: dict[str, float] = {}
    for family in families:
        for (name, _), value in family.samples.items():
            if family.kind in ("counter", "gauge") and not name.endswith("_created"):
                found[name] = found.get(name, 0) + value
    return found


def render(families: Sequence[Family]) -> bytes:
    """Prometheus text format. Takes milliseconds to tens of milliseconds: call it off the event loop."""
    return generate_latest(_Given(families))


class _Given(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for (name, labels), value in _items(family):
                metric.add_sample(name, dict(labels), value)
            yield metric


def _items(family: Family) -> list[tuple[tuple[str, Labels], float]]:
    return list(family.samples.items())


def health_of(reports: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """One health summary of all: the first one's words, everybody's counts, and the worst state of each part."""
    found = dict(reports[0])
    for name in SUMMED:
        found[name] = sum(_number(report.get(name)) for report in reports)
    found["status"] = _worst(SEVERITY, [str(report["status"]) for report in reports])
    found["replicas"] = max(_number(report.get("replicas")) for report in reports)
    services = [_mapping(report.get("services")) for report in reports]
    circuits: dict[str, list[str]] = {}
    for service in services:
        for name, state in _mapping(service.get("breaker")).items():
            circuits.setdefault(name, []).append(str(state))
    breaker = {name: _worst(CIRCUITS, states) for name, states in circuits.items()}
    redis = [service.get("redis") for service in services]
    found["services"] = dict(services[0]) | {
        "redis": next((said for said in redis if said not in ("ok", "off")), redis[0]),
        "upstreams": {name: "unavailable" if state == "open" else "ok" for name, state in breaker.items()},
        "breaker": breaker,
    }
    found["workers"] = len(reports)
    return found


def _worst(order: Sequence[str], said: Iterable[str]) -> str:
    return max(said, key=order.index)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
