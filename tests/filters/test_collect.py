"""Rules without a bound judge the whole answer, which is kept back for them, up to a size and a time."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from proxy.errors import OutputBlocked
from proxy.filters import FilterSettings, RedactSettings, chain_maker
from proxy.filters.collect import Collect, WholePattern

WHOLE = RedactSettings(pattern=r"(?<=secret: ).*", replacement="#", whole=True)


def test_an_unbounded_pattern_is_taken_where_the_answer_is_collected() -> None:
    chain = chain_maker(FilterSettings(redact=(WHOLE,)))()
    assert chain.feed("the secret: a b") == chain.feed(" c\nend") == ""
    assert chain.flush() == "the secret: #\nend"
    assert chain.report()[2] == {"redact": 1}
    assert FilterSettings(redact=(WHOLE,)).is_whole
    assert not FilterSettings().is_whole


def test_it_is_refused_otherwise_and_what_is_no_pattern_always() -> None:
    with pytest.raises(ValidationError, match="bound it"):
        RedactSettings(pattern=r"a+")
    with pytest.raises(ValidationError, match="not a regular expression"):
        RedactSettings(pattern="(", whole=True)


def test_more_than_may_be_collected_is_a_block_and_nothing_of_it_leaves() -> None:
    rule = Collect(WholePattern("a"), "#", 5)
    assert rule.feed("12345") == ""
    with pytest.raises(OutputBlocked) as blocked:
        rule.feed("6")
    assert blocked.value.allowed == ""


def test_a_pattern_that_takes_too_long_is_a_block() -> None:
    rule = Collect(WholePattern(r"(?:x|xx)+[yz]"), "#", 100_000)
    rule.feed("x" * 3000)
    with pytest.raises(OutputBlocked, match="took more than"):
        rule.flush()
