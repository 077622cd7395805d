"""However the answer is cut into pieces, the client gets the same text. Every filter joins this suite.

SIDEGATE_FUZZ is how many cases the filters, and how many the chains, get together: 2,000 unless it's set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import pairwise
from pkgutil import iter_modules

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import filters
from proxy.content.pii import KINDS
from proxy.errors import OutputBlocked
from proxy.filters import FilterSettings, LinkSettings, PhraseSettings, RedactSettings, chain_maker
from proxy.filters.addresses import Addresses
from proxy.filters.chain import Chain
from proxy.filters.collect import Collect, WholePattern
from proxy.filters.invisible import Invisible
from proxy.filters.length import Length
from proxy.filters.links import Links
from proxy.filters.markup import Markup
from proxy.filters.mask import Known, Mask
from proxy.filters.phrases import canaries, phrases
from proxy.filters.redact import Pattern, Redact
from proxy.filters.restore import Restore
from proxy.filters.tags import Strip
from proxy.filters.words import every, ordinary
from proxy.model import Filter

CASES = int(os.environ.get("SIDEGATE_FUZZ", "2000"))
PLAIN = st.text(alphabet="01-ab cdé😀", max_size=60)
# What Markdown, HTML, addresses and invisible text are made of, so that rules meet in the middle of each other.
PARTS = (
    "< > = \" ' / ! - [ ] ( ) : \\ ` ``` ~~~ # & . , @ ? % * | a b m s h ht f ft w 1 12-34 ab abc é 😀 \n \n\n "
    "<b> </b> <script> </script> <style> <!-- --> <img src= onerror= href= https:// http:// ftp:// www. "
    "shop.example evil.example ]( ]: ![ [a]: javascript: // title "
    "4111 1111 john doe @acme .example DE89 3704 0044 0532 0130 00 +49 30 415-555-2671 password: hunter2 mail sk-proj- "
    "Abcdefghijklmnop1234567890 -----BEGIN ----- PRIVATE KEY END [EMAIL_1] [CARD_ 1] AKIA IOSFODNN7EXAMPLK _ = + "
    "bob information the.boss o'neil a/b '@ (at) [dot] &#64; &commat; %40 ; "
    "\x1b \x1b[31m \x1b]8;; \x07 \x9b \u200b \u200d \ufe0f \u202e \u2800"
)
RICH = st.lists(st.sampled_from([*PARTS.split(" "), " ", "<a href='https://shop.example/'>"]), max_size=40).map("".join)
TEXT = PLAIN | RICH
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


SHOP = Addresses(["shop.example"])
FILTERS: dict[str, Callable[[], Filter]] = {
    "invisible": Invisible,
    "strip": Strip,
    "markup safe": Markup,
    "markup strip": lambda: Markup(strip=True),
    "links to nowhere": lambda: Links(Addresses([])),
    "links to a list": lambda: Links(SHOP),
    "links in markup": lambda: Links(SHOP, html=True),
    "restore": lambda: Restore({"[EMAIL_1]": "a@b", "[CARD_1]": "[EMAIL_1]"}),
    **{f"redact {source}": partial(_redact, source) for source in PATTERNS},
    "mask": lambda: Mask(KINDS, Known(()), ordinary()),
    "mask, no letter before": lambda: Mask(KINDS, Known(()), every),
    "mask but for the site's own": lambda: Mask(
        KINDS, Known(["@acme.example", "+49 30 1234567"], "4111 1111 1111 1111"), ordinary()
    ),
    "restore tags": lambda: Restore({"[EMAIL_1]": "jane@doe.example", "[CARD_1]": "4111", "[EMAIL_2]": "<b>"}),
    "block": lambda: Redact(phrases(["ab c", "1-", "é"]), None),
    "canary": lambda: Redact(canaries(["abcd-ab-ab"]), None),
    "collect": lambda: Collect(WholePattern("(?<=a)b+"), "#", 40),
    "length 0": lambda: Length(0),
    "length 7": lambda: Length(7),
}
LISTED = LinkSettings(allow=("shop.example",))
RESTORED = chain_maker(FilterSettings())
CHAINS: dict[str, Callable[[], Chain]] = {
    "as it comes": chain_maker(FilterSettings()),
    "restored": partial(RESTORED, values={"[EMAIL_1]": "<img src=x>", "[CARD_1]": "4111 1111 1111 1111"}),
    "told again": partial(RESTORED, said="john.smith@acme.example"),
    "every word held": chain_maker(FilterSettings(hold_words=True)),
    "strict": chain_maker(FilterSettings(markup="strip", max_chars=50)),
    "blocking": chain_maker(
        FilterSettings(phrases=PhraseSettings(block=("evil", "ab"), canaries=("1212341212341234",)))
    ),
    "whole": chain_maker(FilterSettings(redact=(RedactSettings(pattern="(?s)<.*>", whole=True),), max_chars=60)),
    "with a list": chain_maker(FilterSettings(links=LISTED)),
    "with values": partial(chain_maker(FilterSettings()), {"[EMAIL_1]": "<b>a@b"}),
    "markup off": chain_maker(FilterSettings(markup="off", links=LISTED)),
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


def test_every_filter_is_in_this_suite() -> None:
    modules = [import_module(f"{filters.__name__}.{found.name}") for found in iter_modules(filters.__path__)]
    classes = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
        and kind.__module__ == module.__name__
        and hasattr(kind, "feed")
        and hasattr(kind, "flush")
    }
    assert classes - {Chain} <= {type(make()) for make in FILTERS.values()}


@pytest.mark.parametrize("make", FILTERS.values(), ids=FILTERS.keys())
@given(text=TEXT, cuts=CUTS)
@settings(max_examples=CASES // len(FILTERS), deadline=None)
def test_a_filter_gives_the_same_text_for_any_cutting(make: Callable[[], Filter], text: str, cuts: list[int]) -> None:
    assert run(make(), cut(text, cuts)) == run(make(), [text])


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
@given(text=TEXT, cuts=CUTS)
@settings(max_examples=CASES // len(CHAINS), deadline=None)
def test_a_chain_gives_the_same_text_for_any_cutting(make: Callable[[], Chain], text: str, cuts: list[int]) -> None:
    assert run(make(), cut(text, cuts)) == run(make(), [text])


@pytest.mark.parametrize("source", PATTERNS)
@given(text=PLAIN, cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_redact_replaces_exactly_what_the_pattern_finds_in_the_whole_text(
    source: str, text: str, cuts: list[int]
) -> None:
    assert run(Redact(Pattern(source), "#"), cut(text, cuts)) == (re.sub(source, "#", text), False)


@given(text=TEXT, cuts=CUTS, most=st.integers(0, 40))
@settings(max_examples=400, deadline=None)
def test_length_lets_exactly_the_allowed_characters_out(text: str, cuts: list[int], most: int) -> None:
    assert run(Length(most), cut(text, cuts)) == (text[:most], len(text) > most)


@given(text=st.text(alphabet="é語?! ", max_size=60), cuts=CUTS)
def test_text_that_no_rule_could_match_is_never_held_back(text: str, cuts: list[int]) -> None:
    chain = chain_maker(FilterSettings(redact=(RedactSettings(pattern=r"\b\d{2}-\d{2}\b"),)))()
    for piece in cut(text, cuts):
        assert chain.feed(piece) == piece
