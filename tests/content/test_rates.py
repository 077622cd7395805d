"""What the content rules find in the labelled sets, and what they take for an attack: a rate that falls by more than a
point fails here. docs/detection.md has the figures; `scripts/detection` makes it.
"""

from __future__ import annotations

import functools

import pytest

from proxy.content.detect import packs
from proxy.guard.content import ContentSettings
from proxy.rates import Rate, rates, rows
from proxy.scan import Scanner
from tests.corpora import FOLDER


@functools.cache
def measured() -> dict[tuple[str, str], Rate]:
    if not any(FOLDER.glob("*.jsonl")):
        pytest.fail(f"No sets in {FOLDER}: put them there, or set SIDEGATE_CORPORA to the folder that holds them.")
    return {(rate.set, rate.category): rate for rate in rates(FOLDER, Scanner(ContentSettings()).judge)}


def test_no_example_of_a_rule_is_a_row_of_a_set() -> None:
    texts = {str(row.get("text")).strip().lower() for path in FOLDER.glob("*.jsonl") for row in rows(path)}
    examples = [example for rule in packs() for example in (*rule.matches, *rule.passes)]
    assert [example for example in examples if example.strip().lower() in texts] == []


@pytest.mark.parametrize(
    ("name", "category", "least"),
    [
        ("sqli_libinjection", "sqli", 99.6),
        ("sqli_patt", "sqli", 99.3),
        ("nosqli_patt", "nosqli", 100),
        ("xss_libinjection", "xss", 100),
        ("xss_patt", "xss", 100),
        ("rce_patt", "rce", 100),
        ("lfi_patt", "lfi", 99.7),
        ("ssti_patt", "ssti", 100),
        ("attacks_embedded", "sqli", 98.3),
        ("attacks_embedded", "xss", 100),
        ("attacks_embedded", "rce", 100),
        ("attacks_embedded", "lfi", 100),
        ("crs_attacks", "sqli", 93.9),
        ("crs_attacks", "rce", 95.3),
        ("spam_sms", "spam", 77.8),
        ("bot_ua", "bot_ua", 100),
    ],
)
def test_so_many_attacks_are_found(name: str, category: str, least: float) -> None:
    assert measured()[name, category].percent >= least - 1


@pytest.mark.parametrize(
    ("name", "category", "most"),
    [
        ("benign_support_banking77", "normal", 0.3),
        ("benign_multilingual", "normal", 0.3),
        ("spam_sms_ham", "normal", 0.3),
        ("benign_tech_irc", "normal", 0.3),
        ("benign_tech_so", "normal", 0.3),
        ("benign_tech_codealpaca", "normal", 0.3),
        ("benign_tech_irc", "hard", 3),
        ("benign_tech_codealpaca", "hard", 3),
        ("benign_hard_security", "hard", 3),
        ("benign_notinject", "hard", 3),
        ("benign_wildguard", "hard", 3),
        ("bot_ua", "browser_ua", 0.5),
    ],
)
def test_harmless_texts_are_left_alone(name: str, category: str, most: float) -> None:
    assert measured()[name, category].percent <= most


def test_every_harmless_text_that_passes_goes_through_as_it_came() -> None:
    scanner = Scanner(ContentSettings())
    changed = []
    for path in sorted(FOLDER.glob("benign_*.jsonl")):
        for row in rows(path):
            scanned = scanner.scan(row["text"])
            if row["label"] == "allow" and scanned.finding.action != "block" and not scanned.masked:
                changed += [row["id"]] if scanned.text != row["text"] else []
    assert changed == []
