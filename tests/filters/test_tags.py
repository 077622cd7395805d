"""Tags go, with what scripts and styles hold; text that only looks like a tag stays."""

from __future__ import annotations

import pytest

from proxy.filters.markup import Markup
from proxy.filters.tags import MAX_TAG, Strip

STRIPPED = {
    "a <b>c</b>": "a c",
    "a<br>b<p>c</p>d": "a\nbc\nd",
    "x<a href='>'>y": "xy",
    'x<a b = ">" c>y': "xy",
    "x<a b=c>y": "xy",
    "x<script>a<b>c</script >y": "xy",
    "x<STYLE>*{}</style>y": "xy",
    "x<!-- > -->y<!-->z<!doctype a><?php b?></><//>": "xyz",
    "x<script>y": "x",
    "x<script>y</script": "x",
    "2 < 3 <": "2 < 3 <",
    "`<b>` <i>x": "`<b>` x",
}


@pytest.mark.parametrize(("text", "left"), STRIPPED.items())
def test_tags_go(text: str, left: str) -> None:
    rule = Strip()
    assert "".join(map(rule.feed, text)) + rule.flush() == left
    assert rule.hits["tag"] == rule.stripped


@pytest.mark.parametrize("text", ["<<b>script>alert(1)<</b>/script>", "<b x='>", "<scr<script></script>ipt>"])
def test_what_is_left_opens_no_tag(text: str) -> None:
    rule = Markup(strip=True)
    left = "".join(map(rule.feed, text)) + rule.flush()
    assert "<" not in left.replace("<<", "")


def test_a_tag_that_does_not_end_is_text_and_bounded() -> None:
    rule = Strip()
    text = "<b " + "x" * 2 * MAX_TAG
    out = ""
    for piece in text:
        out += rule.feed(piece)
        assert rule.held <= MAX_TAG
    assert out + rule.flush() == text
