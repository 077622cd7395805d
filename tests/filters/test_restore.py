"""Placeholders become what they stand for, for the one session that has them; nothing else waits for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content.vault import restored
from proxy.filters.restore import MAX_WIDTH, Restore
from tests.filters.test_split import cut

VALUES = {"[EMAIL_1]": "ann@shop.org", "[CARD_1]": "4556", "[CARD_2]": "4557", "[LITERAL_1]": "[EMAIL_1]"} | {
    f"[PHONE_{number}]": f"+{number}" for number in range(1, 13)
}


def run(values: dict[str, str], *pieces: str) -> str:
    rule = Restore(values)
    return "".join([*map(rule.feed, pieces), rule.flush()])


def test_a_placeholder_becomes_its_value_also_when_it_arrives_in_pieces() -> None:
    assert run(VALUES, "write to [EMAIL_1], ", "or ca", "ll [PHO", "NE_1", "2", "] or [PHONE_1]") == (
        "write to ann@shop.org, or call +12 or +1"
    )


@pytest.mark.parametrize("spelling", ["[EMAIL_1]", r"\[EMAIL_1\]", r"[EMAIL\_1]", r"\[EMAIL\_1\]", r"[EMAIL_1\]"])
def test_backslashes_that_markdown_wants_are_no_obstacle(spelling: str) -> None:
    assert run(VALUES, f"a {spelling} b") == "a ann@shop.org b"
    assert run(VALUES, *f"a {spelling} b") == "a ann@shop.org b"


@pytest.mark.parametrize(
    "text",
    ["[EMAIL_2]", "[IBAN_1]", "[EMAIL_0]", "[EMAIL_01]", "[email_2]", "[ema1l_1]", "[EMAIL]", "EMAIL_1", "[EMAIL_1"],
)
def test_what_stands_for_nothing_stays(text: str) -> None:
    assert run(VALUES, f"a {text}") == f"a {text}"
    assert run(VALUES, *f"a {text}") == f"a {text}"


def test_a_backslash_in_front_alone_stays() -> None:
    assert run(VALUES, r"a \[EMAIL_1] b") == run(VALUES, *r"a \[EMAIL_1] b") == r"a \ann@shop.org b"


@pytest.mark.parametrize("spelling", ["[email_1]", "[Email_1]", r"\[Email\_1\]", r"[email_1\]"])
def test_capitals_make_no_difference(spelling: str) -> None:
    assert run(VALUES, f"a {spelling} b") == "a ann@shop.org b"
    assert run(VALUES, *f"a {spelling} b") == "a ann@shop.org b"


def test_a_value_that_looks_like_a_placeholder_is_not_read_again() -> None:
    assert run(VALUES, "you wrote [LITERAL_1]") == "you wrote [EMAIL_1]"


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("hello", "hello"), ("see [", "see "), ("see [E", "see "), ("see [EMAIL_", "see "), ("see [CARD_2", "see "),
        ("see [link", "see [link"), ("see [X", "see [X"), ("see [CARD_3", "see [CARD_3"),
        ("see [EMAIL_1x", "see [EMAIL_1x"),
        ("see [_", "see [_"), ("see [\\", "see ["), ("a\\", "a"), ("see [IBAN\\", "see [IBAN"),
        ("see [EMAIL\\", "see "),
        ("see [EMAIL_\\", "see [EMAIL_"), ("see [EMAIL_0", "see [EMAIL_0"), ("see [EMAIL_1\\", "see "),
        ("see [ema", "see "), ("see [Card_", "see "), ("see [ema1", "see [ema1"),
        ("see \\[EMAIL_1\\", "see "),
        ("see [EMAIL-", "see [EMAIL-"),
        ("[[[[EMAIL_1", "[[["),
    ],
)  # fmt: skip
def test_only_what_may_still_become_a_placeholder_is_held_back(text: str, out: str) -> None:
    assert Restore(VALUES).feed(text) == out


def test_a_session_without_values_holds_nothing_back() -> None:
    assert Restore({}).feed("see [EMAIL") == "see [EMAIL"


TEXT = st.lists(
    st.one_of(
        st.sampled_from([*VALUES, "[EMAIL_", "\\", "[", "]", "_", "1", "2", "CARD", "[email", "Card"]),
        st.text("aE[]\\_12", max_size=4),
    )
)


@given(
    text=TEXT.map("".join),
    cuts=st.lists(st.integers(0, 200), max_size=20),
    values=st.sets(st.sampled_from(["[EMAIL_1]", "[CARD_1]"])),
)
@settings(max_examples=500, deadline=None)
def test_every_cutting_gives_what_the_whole_text_gives(text: str, cuts: list[int], values: set[str]) -> None:
    own = {placeholder: VALUES[placeholder] for placeholder in values}
    assert run(own, *cut(text, cuts)) == restored(text, own)


@given(text=TEXT.map("".join))
@settings(max_examples=200, deadline=None)
def test_less_than_a_placeholder_is_held_back(text: str) -> None:
    rule = Restore({key: key for key in VALUES})
    assert len(text) - len(rule.feed(text)) - text.count("\\") < MAX_WIDTH
