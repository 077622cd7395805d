"""A folded text is searched; what is found is cut out of the original."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content import folding
from proxy.content.folding import fold


def test_plain_text_is_itself() -> None:
    assert fold("abc 12").text == "abc 12"


def test_digits_spaces_dashes_and_wide_letters_become_ascii() -> None:
    assert fold("４５ ٤\u00a0–−Ａ＠é中").text == "45 4 --A@é中"


def test_what_shows_nothing_is_left_out_and_places_stay_known() -> None:
    folded = fold("a\u200b１\u20602c")
    assert folded.text == "a12c"
    assert folded.original(1, 3) == (2, 5)
    assert folded.original(0, 4) == (0, 6)


@settings(deadline=None)
@given(st.text(), st.data())
def test_a_stretch_of_the_folded_text_is_the_folded_stretch(text: str, data: st.DataObject) -> None:
    folded = fold(text)
    if folded.text:
        start = data.draw(st.integers(0, len(folded.text) - 1))
        end = data.draw(st.integers(start + 1, len(folded.text)))
        first, last = folded.original(start, end)
        assert fold(text[first:last]).text == folded.text[start:end]


def test_more_characters_than_are_remembered_are_folded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MAX_REMEMBERED", 0)
    assert fold("\u0c68中\u0c68").text == "2中2"
