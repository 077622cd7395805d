"""What nobody sees goes, and what scripts and emoji are spelled with stays."""

from __future__ import annotations

import pytest

from proxy.filters.invisible import Invisible

GONE = {
    "a\x1b[31mred\x1b[0m": "ared",
    "a\x9b31mred": "ared",
    "a\x1b]0;title\x07b\x1b]8;;http://x.example\x1b\\c": "abc",
    "a\x1bP+q544e\x1b\\b": "ab",
    "a\x1b(Bb\x1bcd": "abd",
    "a\x1b[31\nb": "a[31\nb",
    "a\x1b]" + "x" * 600: "a]" + "x" * 600,
    "a\x08\x00\x7fb": "ab",
    "z\u200be\u2060r\ufeffo": "zero",
    "\u202egpj.exe\u202c": "gpj.exe",
    "a\U000e0069\U000e0067b": "ab",
    "x\u200dy\u200cz\ufe0f": "xyz",
    "a\u2800b": "ab",
    "👍\ufe0f\ufe0f\ufe0f": "👍\ufe0f",
}
STAYS = [
    "tab\tand\r\nlines",
    "👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937",
    "⠓⠑⠇⠇⠕⠀⠺",
    r"\x1b[31m as text",
]


@pytest.mark.parametrize(("text", "left"), GONE.items(), ids=map(ascii, GONE))
def test_what_nobody_sees_goes(text: str, left: str) -> None:
    rule = Invisible()
    assert "".join(map(rule.feed, text)) + rule.flush() == left
    assert rule.hits["invisible"] > 0


@pytest.mark.parametrize("text", STAYS)
def test_what_words_and_pictures_are_made_of_stays(text: str) -> None:
    rule = Invisible()
    assert "".join(map(rule.feed, text)) + rule.flush() == text
    assert not rule.hits


def test_a_sequence_that_never_ends_is_no_sequence() -> None:
    rule = Invisible()
    assert rule.feed("a\x1b[31") == "a"
    assert rule.held == 4
    assert rule.flush() == "[31"
