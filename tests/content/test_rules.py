"""Every rule keeps its word: its examples match it, and what it is to let pass it lets pass."""

from __future__ import annotations

import re

import pytest

from proxy.content.detect import CATEGORIES, Detector, Rule, packs

DETECTOR = Detector()
RULES = pytest.mark.parametrize("rule", packs(), ids=lambda rule: rule.id)


def hit(text: str) -> set[str]:
    return {hit.rule for hit in DETECTOR.judge(text).hits}


@RULES
def test_a_rule_finds_its_examples(rule: Rule) -> None:
    assert [text for text in rule.matches if rule.id not in hit(text)] == []


@RULES
def test_a_rule_leaves_its_counterexamples_alone(rule: Rule) -> None:
    assert [text for text in rule.passes if rule.id in hit(text)] == []


@RULES
def test_a_rule_says_why_and_where_it_is_from(rule: Rule) -> None:
    assert rule.why.endswith(".")
    assert rule.source


def test_rules_have_names_of_their_own() -> None:
    ids = [rule.id for rule in packs()]
    assert len(ids) == len(set(ids))
    assert {rule.category for rule in packs()} <= set(CATEGORIES)


def test_every_piece_that_a_rule_names_is_put_in() -> None:
    assert [rule.id for rule in packs() if re.search("<<[a-z]+>>", rule.pattern + rule.anchor)] == []
