"""What a run found, as rows: two figures in the same unit, and the ratio of the second to the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is the median of the rounds' own ratios, between `low` and `high`."""

    name: str
    unit: str
    plain: float
    sidegate: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the guard, measured alone. `relays`: in messages of the plain relay. `budget`: what it may cost."""

    name: str
    micros: float
    relays: float
    budget: float | None = None


def row(name: str, unit: str, plain: Sequence[float], sidegate: Sequence[float]) -> Row:
    """From one figure of each for every round. A round's two figures were taken close to each other.

    A figure of the plain relay that is not above zero (memory, on a very small run) has no ratio.
    """
    ratios = [theirs / ours if ours > 0 else math.nan for ours, theirs in zip(plain, sidegate, strict=True)]
    return Row(name, unit, median(plain), median(sidegate), median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True, slots=True)
class Report:
    facts: Mapping[str, str]
    rows: Sequence[Row]
    guard: Sequence[Share]
    notes: Sequence[str]

    def document(self) -> dict[str, object]:
        return {
            "facts": dict(self.facts),
            "rows": [asdict(row) for row in self.rows],
            "guard": [asdict(share) for share in self.guard],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        lines = [f"{name:<14}{value}" for name, value in self.facts.items()]
        lines += ["", f"{'':<38}{'':>10}{'plain':>11}{'sidegate':>11}{'ratio':>8}   lowest to highest"]
        for row in self.rows:
            spread = f"{row.low:.2f} to {row.high:.2f}"
            figures = f"{_figure(row.plain):>11}{_figure(row.sidegate):>11}{row.ratio:>8.2f}"
            lines.append(f"{row.name:<38}{row.unit:>10}{figures}   {spread}")
        lines += ["", f"{'in a loop, without network':<38}{'':>10}{'':>11}{'sidegate':>11}{'ratio':>8}   budget"]
        for share in self.guard:
            budget = "" if share.budget is None else f"{share.budget:g} us"
            figures = f"{_figure(share.micros):>11}{share.relays:>8.2f}"
            lines.append(f"{share.name:<38}{'us':>10}{'':>11}{figures}   {budget}".rstrip())
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
