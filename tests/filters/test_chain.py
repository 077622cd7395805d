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
