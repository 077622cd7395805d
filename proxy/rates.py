"""How much of labelled texts is found, and how much of harmless ones is taken for something: rates by set and category.

A set is a file NAME.jsonl of objects with `text`, `label` and `category`. Labels: `block` (an attack), `mask` (with
`spans`: start, end, type), `allow` (has to pass as it is); rows with other labels are left out. A row may be wrapped as
`{"b64": …}`. `accept` says whether neutralising counts as well.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from proxy.content import Span
from proxy.content.bots import agent_score
from proxy.guard.content import Finding

Judge = Callable[[str], tuple[Finding, tuple[Span, ...]]]
Kind = Literal["found", "masked", "false"]

# About other things than messages: requests, tokens, origins, answers, pages.
OTHERS = ("http_", "jwt_", "cors_", "resp_", "html_")
PERSONAL = ("pii_", "secrets_")
TYPES = {
    "CREDIT_CARD": "card", "IBAN": "iban", "EMAIL": "email", "SSN": "ssn", "PHONE": "phone", "BANK_ACCOUNT": "account",
    "INSURANCE_ID": "policy", "SECRET": "secret",
}  # fmt: skip


class NoSets(Exception):
    """There is nothing to measure with."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`found`: attacks refused, neutralised or named. `masked`: spans. `false`: harmless texts that were refused or
    changed, or, in sets about personal data, masked (elsewhere an address that somebody mentions is one).
    """

    set: str
    category: str
    kind: Kind
    hits: int
    total: int

    @property
    def percent(self) -> float:
        return 100 * self.hits / self.total


def rates(folder: Path, judge: Judge) -> list[Rate]:
    """Every rate that the folder's sets have. Raises NoSets."""
    found = [rate for path in sorted(folder.glob("*.jsonl")) for rate in _of_set(path, judge)]
    if not found:
        raise NoSets(f"no labelled sets in {folder}; put NAME.jsonl files there")
    return found


def rows(path: Path) -> Iterator[dict[str, Any]]:  # Any: JSON
    """The rows of a set."""
    for line in path.read_bytes().splitlines():
        row = orjson.loads(line)
        yield orjson.loads(base64.b64decode(row["b64"])) if "b64" in row else row


def _of_set(path: Path, judge: Judge) -> list[Rate]:
    counts: dict[tuple[str, Kind], list[int]] = {}
    is_personal = path.stem.startswith(PERSONAL)
    if not path.stem.startswith(OTHERS):
        for row in rows(path):
            for category, kind, is_hit in _outcomes(row, judge, is_personal):
                count = counts.setdefault((category, kind), [0, 0])
                count[0] += is_hit
                count[1] += 1
    return [Rate(path.stem, category, kind, *count) for (category, kind), count in sorted(counts.items())]


def _outcomes(row: dict[str, Any], judge: Judge, is_personal: bool) -> Iterator[tuple[str, Kind, bool]]:  # Any: JSON
    text, label, category = row["text"], row["label"], str(row.get("category", "text"))
    if category.endswith("_ua"):
        if label in ("block", "allow"):
            yield category, "found" if label == "block" else "false", agent_score(text) >= 1
        return
    if label == "block":
        finding, _ = judge(text)
        is_named = category == "spam" and "spam" in finding.flags
        is_neutral = finding.action == "sanitize" and "neutralise" in row.get("accept", ())
        yield category, "found", finding.action == "block" or is_named or is_neutral
    elif label == "allow":
        finding, masked = judge(text)
        yield str(row.get("subset") or category), "false", finding.action != "allow" or (is_personal and bool(masked))
    elif label == "mask" and row.get("spans"):
        _, masked = judge(text)
        for start, end, name in row["spans"]:
            if kind := TYPES.get(name):
                is_masked = any(span.start <= start and end <= span.end for span in masked)
                yield kind, "masked", is_masked
    elif label == "mask":
        yield category, "masked", bool(judge(text)[1])


def table(measured: Iterable[Rate]) -> Iterator[str]:
    """One line for each rate."""
    yield f"{'set':30} {'category':36} {'':7} {'rows':>6} {'hits':>6} {'%':>6}"
    for rate in measured:
        yield f"{rate.set:30} {rate.category:36} {rate.kind:7} {rate.total:6} {rate.hits:6} {rate.percent:6.1f}"
