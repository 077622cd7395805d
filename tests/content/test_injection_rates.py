"""How much prompt injection the shipped model and the rules find in labelled texts: a rate that falls by more than a
point fails here.

The model learnt from most of these rows. `scripts/train-injection --cross-validate` measures what is found of rows that
it didn't learn from; docs/detection.md has those figures, tests/content/test_rates.py those of harmless texts under all
rules together.
"""

from __future__ import annotations

import functools

import pytest

from proxy.content.detect import THRESHOLD, shipped
from scripts.training import corpus
from scripts.training.validate import GROUPS, Group
from tests.corpora import FOLDER

DETECTOR = shipped()
# Per cent found of attacks, or taken for one of harmless texts.
RATES = {
    "jailbreaks in the wild": 98.8,
    "PyRIT": 100.0,
    "in the wild, in PyRIT": 100.0,
    "garak": 100.0,
    "theft of the system prompt": 100.0,
    "13 languages and mixtures": 100.0,
    "obfuscated, 16 ways": 98.5,
    "inside a customer's question": 100.0,
    "other collections": 98.5,
    "customer support (banking77)": 0.0,
    "chat and questions in 18 languages": 0.1,
    "SMS": 0.0,
    "Stack Overflow titles": 0.0,
    "IRC": 0.0,
    "IRC, shell words and paths": 0.2,
    "requests for code": 0.2,
    "security talk": 1.1,
    "trigger words (NotInject)": 0.6,
    "adversarial-looking (WildGuard)": 0.9,
}


@functools.cache
def outcomes(name: str) -> tuple[tuple[corpus.Row, bool], ...]:
    """The rows of a set, and whether the category's score is a detection."""
    if not (corpus.folder() / f"{name}.jsonl").exists():
        pytest.fail(f"No {name} in {FOLDER}: put the sets there, or set SIDEGATE_CORPORA to the folder that has them.")
    return tuple(
        (row, DETECTOR.judge(row.text).scores.get("prompt_injection", 0) >= THRESHOLD)
        for row in corpus.rows(name)
        if row.label in ("block", "allow")
    )


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.title)
def test_so_much_is_found_and_so_little_taken_for_it(group: Group) -> None:
    hits = [is_hit for name in group.sets for row, is_hit in outcomes(name) if group.has(row)]
    percent, expected = 100 * sum(hits) / len(hits), RATES[group.title]
    assert percent >= expected - 1 if group.label == "block" else percent <= expected
