"""Which patterns redact takes, and what it holds back."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from proxy.filters import RedactSettings
from proxy.filters.redact import Pattern, Redact

REFUSED = {
    "a*": "nothing at all",
    "a+": "longer than",
    ".{1,2000}": "longer than",
    "^a": r"\^ or \$",
    "a$": r"\^ or \$",
    "b|(?=a)b": "lookahead",
    "(?<!x)a": "lookbehind",
    r"(a)\1": "back reference",
    "(a)?(?(1)b|c)": "back reference",
    "(": "not a regular expression",
    "[[:bad:]": "not a regular expression",
}


@pytest.mark.parametrize(("source", "reason"), REFUSED.items())
def test_a_pattern_whose_hold_back_cannot_be_known_is_refused(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Pattern(source)


def test_the_configuration_says_what_is_wrong_with_a_pattern() -> None:
    with pytest.raises(ValidationError, match="bound it"):
        RedactSettings(pattern="a+")


def test_only_what_could_still_match_is_held_back() -> None:
    rule = Redact(Pattern(r"\d{2}-\d{2}"), "#")
    assert rule.feed("at 12") == "at "
    assert rule.feed("-") == ""
    assert rule.feed("x, 34-5") == "12-x, "
    assert rule.feed("6.") == "#."
    assert rule.flush() == ""


def test_a_word_boundary_sees_the_character_before_the_piece() -> None:
    rule = Redact(Pattern(r"\bcat\b"), "#")
    assert rule.feed("con") + rule.feed("cat ") + rule.feed("cat") + rule.flush() == "concat #"


@pytest.mark.parametrize("times", range(1, 12))
def test_the_bounds_of_a_repeat_are_not_mistaken_for_something_refused(times: int) -> None:
    assert Pattern(f"a{{{times}}}").longest == times
