"""Where Markdown's code begins and ends, also where the text arrives in pieces."""

from __future__ import annotations

import pytest

from proxy.filters.fences import Fences

INSIDE = [
    "`a",
    "``a`b",
    "```\na",
    "```py\na\n\nb",
    "~~~~\n~~~\na",
    "- ```\na",
    "> ```\na",
    "\\\\ `a\\` `b",
    "``` `` \na",
]
OUTSIDE = [
    "a",
    "`a`",
    "``a`b``",
    "```\na\n```\nb",
    "~~~\na\n~~~~\nb",
    "`a\n\nb",
    "\\`a",
    "a ```b```",
    "~~a~~",
    "``` a\n```",
    "x" * 200 + "\\`a",
]


@pytest.mark.parametrize("text", INSIDE)
def test_inside_of_code(text: str) -> None:
    assert inside(text) is inside(*text) is True


@pytest.mark.parametrize("text", OUTSIDE)
def test_outside_of_code(text: str) -> None:
    assert inside(text) is inside(*text) is False


def inside(*pieces: str) -> bool:
    fences = Fences()
    for piece in pieces:
        fences.feed(piece)
    return fences.inside


def test_what_may_stand_in_front_of_a_block_starts_a_line() -> None:
    fences = Fences()
    assert fences.starts_line
    fences.feed("> 1. ")
    assert fences.starts_line
    fences.feed("a")
    assert not fences.starts_line
    fences.feed("\n")
    assert fences.starts_line
    assert fences.paragraph == 0
    fences.feed("\n")
    assert fences.paragraph == 1
