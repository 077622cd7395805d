"""However the answer is cut into pieces, the client gets the same text. Every filter joins this suite."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import OutputBlocked
from proxy.filters import FilterSettings, RedactSettings, chain_maker
from proxy.filters.chain import Chain
from proxy.filters.length import Length
from proxy.filters.redact import Pattern, Redact
from proxy.model import Filter

TEXT = st.text(alphabet="01-ab cdé😀", max_size=60)
CUTS = st.lists(st.integers(0, 60), max_size=12)
PATTERNS = [
    r"\b\d{2}-\d{2}\b",
    r"\d{2,6}",
    r"abcd|b",
    r"a(bcd)?",
    r"a-?b",
    r"\bab?\b",
    r"ab{1,3}?c?",
    r"[a-c]{2,4}\d",
    r"(?:ab|a)(?:bc|c)",
    r"\B0",
    r"(?i)AB",
]


def _redact(source: str) -> Filter:
    return Redact(Pattern(source), "#")


FILTERS: dict[str, Callable[[], Filter]] = {
    **{f"redact {source}": partial(_redact, source) for source in PATTERNS},
    "length 0": lambda: Length(0),
    "length 7": lambda: Length(7),
}
CHAINS: dict[str, Callable[[], Chain]] = {
    "redact then length": chain_maker(FilterSettings(redact=(RedactSettings(pattern=r"\d{2,6}"),), max_chars=15)),
    "redact what the first one wrote": lambda: Chain(
        [Redact(Pattern(r"\d{2,6}"), "ab"), Redact(Pattern("a-?b"), "#"), Length(9)]
    ),
    "two blocks, the later one stricter": lambda: Chain([Length(12), Redact(Pattern("a-?b"), "#"), Length(5)]),
    "two blocks, the earlier one stricter": lambda: Chain([Length(5), Redact(Pattern("a-?b"), "#"), Length(12)]),
    "growing past the later limit while flushing": lambda: Chain(
        [Length(6), Redact(Pattern("ab?"), "####"), Length(4)]
    ),
    "empty": lambda: Chain([]),
}


def cut(text: str, cuts: list[int]) -> list[str]:
    at = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(at)]


def run(rule: Filter | Chain, pieces: list[str]) -> tuple[str, bool]:
    """What went out, and whether it ended in a block."""
    out = ""
    try:
        for piece in pieces:
            out += rule.feed(piece)
        out += rule.flush()
    except OutputBlocked as blocked:
        return out + blocked.allowed, True
    return out, False


@pytest.mark.parametrize("make", FILTERS.values(), ids=FILTERS.keys())
@given(text=TEXT, cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_a_filter_gives_the_same_text_for_any_cutting(make: Callable[[], Filter], text: str, cuts: list[int]) -> None:
    assert run(make(), cut(text, cuts)) == run(make(), [text])


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
@given(text=TEXT, cuts=CUTS)
@settings(max_examples=400, deadline=None)
def test_a_chain_gives_the_same_text_for_any_cutting(make: Callable[[], Chain], text: str, cuts: list[int]) -> None:
    assert run(make(), cut(text, cuts)) == run(make(), [text])


@pytest.mark.parametrize("source", PATTERNS)
@given(text=TEXT, cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_redact_replaces_exactly_what_the_pattern_finds_in_the_whole_text(
    source: str, text: str, cuts: list[int]
) -> None:
    assert run(Redact(Pattern(source), "#"), cut(text, cuts)) == (re.sub(source, "#", text), False)


@given(text=TEXT, cuts=CUTS, most=st.integers(0, 40))
@settings(max_examples=400, deadline=None)
def test_length_lets_exactly_the_allowed_characters_out(text: str, cuts: list[int], most: int) -> None:
    assert run(Length(most), cut(text, cuts)) == (text[:most], len(text) > most)


@given(text=st.text(alphabet="xyz. ", max_size=60), cuts=CUTS)
def test_text_that_no_rule_could_match_is_never_held_back(text: str, cuts: list[int]) -> None:
    chain = chain_maker(FilterSettings(redact=(RedactSettings(pattern=r"\b\d{2}-\d{2}\b"),)))()
    for piece in cut(text, cuts):
        assert chain.feed(piece) == piece
