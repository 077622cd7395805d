"""HTML becomes text, in prose as entities, in code so that it can still be read; what is no tag stays as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.filters.markup import LOUD, Markup

PROSE = {
    "<b>bold</b>": "&lt;b>bold&lt;/b>",
    "a<b and b>a": "a&lt;b and b>a",
    "<script>alert(1)</script>": "&lt;script>alert(1)&lt;/script>",
    "<!-- x --> <?php": "&lt;!-- x --> &lt;?php",
    "<<b>": "<&lt;b>",
}
UNCHANGED = [
    "2 < 3, i <3 u, x<1, <- and <=, ends with <",
    "&lt;b> is how to write <",
    "**bold** [label] | a | b |\n|---|---|\n> quoted",
    "```\n#include <stdio.h>\nList<String> l; <div>x</div>\n<!DOCTYPE html>\n```",
    "`<b>` and `a < b`",
]
IN_CODE = {
    "`<img src=x>`": "`< img src=x>`",
    "```\n<p class='a'>\n</p>\n```": "```\n< p class='a'>\n</p>\n```",
    "```\nif (i<n\n": "```\nif (i< n\n",
    "`<b": "`< b",
    "`<" + "b" * 60 + ">`": "`< " + "b" * 60 + ">`",
    "`<!-- x -->`": "`< !-- x -->`",
}


def run(text: str, *, strip: bool = False) -> str:
    rule = Markup(strip=strip)
    return "".join(map(rule.feed, text)) + rule.flush()


@pytest.mark.parametrize(("text", "left"), [*PROSE.items(), *IN_CODE.items()])
def test_what_would_open_a_tag_is_shown_instead(text: str, left: str) -> None:
    assert run(text) == left


@pytest.mark.parametrize("text", UNCHANGED)
def test_markdown_code_and_comparisons_stay_as_they_are(text: str) -> None:
    assert run(text) == text


@pytest.mark.parametrize("name", LOUD)
@pytest.mark.parametrize("form", ["<{}>", "</{}>", "<{} a>", "<{}/>"])
def test_what_changes_how_a_browser_reads_on_or_sends_never_stays_even_in_code(name: str, form: str) -> None:
    tag = form.format(name)
    assert run(f"`{tag}`") == f"`< {tag[1:]}`"


PARTS = ["<", ">", "=", "a", "img", "/", "!", "`", "```", "\n", " ", "'", '"', "on", "\x00"]


@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join))
def test_nothing_that_opens_a_tag_has_an_attribute_with_a_value(text: str) -> None:
    for tag in re.finditer(r"<[a-zA-Z/!?][^>]*>?", run(text)):
        assert "=" not in tag[0]
        assert tag[0].endswith(">")


def test_a_piece_that_can_be_judged_is_not_held_back() -> None:
    rule = Markup()
    assert rule.feed("a <") == "a "
    assert rule.held == 1
    assert rule.feed("b> `<i") == "&lt;b> `"
    assert rule.held == 2
    assert rule.feed("> x") == "<i> x"
    assert rule.held == 0
    assert rule.hits == {"tag": 1}


def test_strip_holds_and_counts_too() -> None:
    rule = Markup(strip=True)
    assert rule.feed("a<b cl") == "a"
    assert rule.held == 5
    assert rule.feed("ass='x'>b") == "b"
    assert rule.hits == {"tag": 1}
