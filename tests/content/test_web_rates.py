"""What the models for web attacks find by themselves in rows that they never learnt from: a sixth of each set.

A rate that falls by more than a point fails here. docs/detection.md has the figures; with the rules: test_rates.py.
"""

from __future__ import annotations

import pytest

from proxy.content import webattacks
from proxy.content.detect import THRESHOLD
from proxy.content.normalise import normalise
from proxy.content.webattacks import Kind
from scripts.training import attacks, code, corpus
from tests.corpora import FOLDER


def is_found(kind: Kind, text: str) -> bool:
    return any(found.kind == kind and found.score >= THRESHOLD for found in webattacks.find(normalise(text)))


def percent(kind: Kind, texts: list[str]) -> float:
    return 100 * sum(is_found(kind, text) for text in texts) / len(texts)


@pytest.mark.parametrize(
    ("kind", "name", "category", "least"),
    [
        ("sql_injection", "sqli_libinjection", "sqli", 92.0),
        ("sql_injection", "sqli_patt", "sqli", 91.6),
        ("xss", "xss_libinjection", "xss", 96.6),
        ("xss", "xss_patt", "xss", 96.0),
        ("command_injection", "rce_patt", "rce", 81.8),
    ],
)
def test_so_many_rows_kept_aside_are_found(kind: Kind, name: str, category: str, least: float) -> None:
    if not (corpus.folder() / f"{name}.jsonl").exists():
        pytest.fail(f"No {name} in {FOLDER}: put the sets there, or set SIDEGATE_CORPORA to the folder that has them.")
    rows = [row for row in corpus.rows(name) if row.is_held_out and row.label == "block" and row.category == category]
    assert percent(kind, [row.text for row in rows]) >= least - 1


@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [("sql_injection", "sql", 87.0), ("xss", "markup", 89.6), ("command_injection", "shell", 89.0)],
)
def test_so_many_attacks_made_anew_are_found(kind: Kind, name: str, least: float) -> None:
    made = [text for text, is_attack in attacks.made(name, 6, seed=99) if is_attack]
    assert percent(kind, made) >= least - 1


@pytest.mark.parametrize("kind", ["sql_injection", "xss", "command_injection"])
def test_harmless_texts_made_anew_are_left_alone(kind: Kind) -> None:
    made = [
        text
        for name in ("sql", "markup", "code", "shell")
        for text, is_attack in attacks.made(name, 6, seed=98)
        if not is_attack
    ]
    assert percent(kind, made) <= 1.0


@pytest.mark.parametrize("kind", ["sql_injection", "xss", "command_injection"])
def test_code_of_files_that_were_never_learnt_is_left_alone(kind: Kind) -> None:
    assert percent(kind, list(code.snippets(600, seed=97, is_learnt=False))) <= 2.0
