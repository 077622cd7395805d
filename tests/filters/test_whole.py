"""Texts in an object pass the filters one by one; what isn't text passes as it is, unless it reads as if it were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import OutputBlocked
from proxy.filters import FilterSettings, RedactSettings, chain_maker
from proxy.filters.whole import filtered, filtered_text

REDACT = chain_maker(FilterSettings(redact=(RedactSettings(pattern="[0-9]{4}", replacement="#"),)))
SHORT = chain_maker(FilterSettings(max_chars=3))
PLAIN = chain_maker(FilterSettings(pii=False, secrets=False, max_chars=100))
TEXTS = st.text(alphabet="ab cé😀.?!\n", max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9999, 9999) | st.floats(-999, 999) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def test_names_and_texts_are_filtered_however_deep() -> None:
    value = {"a 1234": [{"b": "x 1234 y 5678"}, "1234"], "c": "fine"}
    assert filtered(value, REDACT) == {"a #": [{"b": "x # y #"}, "#"], "c": "fine"}


def test_a_number_that_a_filter_changes_becomes_a_text_and_others_stay_numbers() -> None:
    assert filtered({"n": 1234, "m": -51234.5, "k": 123, "f": 1.5}, REDACT) == {
        "n": "#",
        "m": "-#4.5",
        "k": 123,
        "f": 1.5,
    }


def test_truth_and_nothing_are_no_texts() -> None:
    assert filtered([True, False, None], SHORT) == [True, False, None]


def test_one_text_that_is_blocked_blocks_all() -> None:
    with pytest.raises(OutputBlocked):
        filtered({"a": "abc", "b": ["abcd"]}, SHORT)


def test_each_text_has_a_chain_of_its_own() -> None:
    assert filtered(["abc", "abc", {"abc": "abc"}], SHORT) == ["abc", "abc", {"abc": "abc"}]


def test_what_a_filter_keeps_back_until_the_end_is_part_of_the_text() -> None:
    assert filtered_text("ends in 123", REDACT()) == "ends in 123"


@given(VALUES)
def test_filters_that_have_nothing_to_say_change_nothing(value: object) -> None:
    assert filtered(value, PLAIN) == value
