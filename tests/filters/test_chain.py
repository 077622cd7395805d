"""What a chain owes the client when one of its filters blocks."""

from __future__ import annotations

import pytest

from proxy.errors import OutputBlocked
from proxy.filters.chain import Chain
from proxy.filters.length import Length
from proxy.filters.redact import Pattern, Redact


def test_what_was_allowed_before_a_block_still_passes_the_later_filters() -> None:
    chain = Chain([Length(5), Redact(Pattern("cd?"), "#")])
    with pytest.raises(OutputBlocked) as blocked:
        chain.feed("abcdefgh")
    assert blocked.value.allowed == "ab#e"


def test_flushing_an_early_filter_passes_the_later_ones() -> None:
    chain = Chain([Redact(Pattern("ab"), "x"), Redact(Pattern("a"), "#")])
    assert chain.feed("-a") == "-"
    assert chain.flush() == "#"


def test_a_block_while_flushing_keeps_what_was_allowed() -> None:
    chain = Chain([Redact(Pattern("ab"), "x"), Length(2)])
    assert chain.feed("zz") == "zz"
    assert chain.feed("a") == ""
    with pytest.raises(OutputBlocked) as blocked:
        chain.flush()
    assert blocked.value.allowed == ""


def test_what_was_held_back_and_hit_is_told_once_at_the_end() -> None:
    times = iter([10.0, 12.5, 20.0, 21.0, 30.0, 30.0])
    chain = Chain([Redact(Pattern("abc"), "#"), Redact(Pattern("abd"), "!", "other")], clock=lambda: next(times))
    assert chain.feed("xab") == "x"
    assert chain.feed("c.") == "#."
    assert chain.feed("a") == ""
    assert chain.feed("bd.") == "!."
    assert chain.report() == (2, 2.5, {"redact": 1, "other": 1})


def test_what_is_still_held_back_at_the_end_counts_to_the_end() -> None:
    times = iter([1.0, 4.0])
    chain = Chain([Redact(Pattern("abc"), "#")], clock=lambda: next(times))
    chain.feed("ab")
    assert chain.report() == (2, 3.0, {})
