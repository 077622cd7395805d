"""A text's syntax as words: what is kept of it, what isn't, and where it stood."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content.syntax import spell


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ann 17 0x3a", "name numb numbhex"),
        ("select sleep(5)", "sqlwselect funcsleep paro numb parc"),
        ("a OR b || c && d", "name logior name logipipes name logiamps name"),
        ("@x @@version", "varz varzserver"),
        ("information_schema.tables dbms_made_up(1)", "syswname dot sqlwtables syswcall paro numb parc"),
        ("<img src=x></p>", "tagzimg attrsrc cmprequal name cmprmore tendtagzp cmprmore"),
        ("<my-own></my-own>", "tagzname cmprmore tendname cmprmore"),
        ("onerror = alert(1)", "evntonerror cmprequal funcalert paro numb parc"),
        ("document go(", "jscrdocument callname paro"),
        ("javascript:x data:y javascript: the book", "schmscript name schmdata name schmloose name name"),
        ("-- # /* */", "cmntdashes cmnthash cmntopen cmntclose"),
    ],
)
def test_words_of_a_language_are_kept_and_others_are_names(text: str, words: str) -> None:
    assert spell(text).words == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("'a'", "quotsewo name quotswec"),
        ("a' b", "name quotswsx name"),
        ("a 'b", "name quotsswo name"),
        ('("b")', "paro quotdpwo name quotdwpc parc"),
        ("d'angelo don't", "name quotswwx name name"),
    ],
)
def test_a_quote_opens_or_closes_or_closes_what_nothing_opened(text: str, words: str) -> None:
    assert spell(text).words == words


def test_words_are_found_again_in_the_text() -> None:
    text = "my name is ' or 1=1"
    spelling = spell(text)
    start = spelling.words.index("quot")
    begin, end = spelling.place(start, len(spelling.words))
    assert text[begin:end] == "' or 1=1"


def test_a_text_without_syntax_has_no_place() -> None:
    assert spell("… 你好").words == ""
    assert spell("… 你好").place(0, 0) == (0, 0)


@given(st.text(st.sampled_from("ab1'\"`<>/=-#*(;:@$_ \nécß\u2019𝒜İ"), max_size=60))
@settings(deadline=None)
def test_every_word_stands_somewhere_and_behind_the_one_before(text: str) -> None:
    spelling = spell(text)
    assert len(spelling.places) == len(spelling.words.split())
    ends = [0, *(end for _, end in spelling.places)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spelling.places, strict=False))
    assert ends[-1] <= len(text)
