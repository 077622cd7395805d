"""Markup becomes text, and text stays text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content.html import MAX_TAG_CHARS, MAX_TAGS, sanitize

MARKUP = st.text(alphabet=st.sampled_from(list("<>/!?-a b='\"&;x\u200b\n#scriptonerror")), max_size=60)


@pytest.mark.parametrize(
    "text",
    ["x<y", "a & b &amp; c", "5 < 6 > 4", "if (a<b) return;", "I <3 you 😀", "<", "a <\u200b b", "1 << 2", "‮text"],
)
def test_what_is_no_markup_stays_as_it_is(text: str) -> None:
    assert sanitize(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>hi</b>", "&lt;b&gt;hi&lt;/b&gt;"),
        ("<img src=x onerror=alert(1)", "&lt;img src=x onerror=alert(1)"),
        ("<!-- x --><?php y ?>", "&lt;!-- x --&gt;&lt;?php y ?&gt;"),
        ("<<!-- -->script>", "<&lt;!-- --&gt;script>"),
        ("<scr\u200bipt>", "&lt;script&gt;"),
        ("<\u200bb>", "&lt;b&gt;"),
        ("</ x>", "&lt;/ x&gt;"),
        ("<a href='>'>", "&lt;a href='&gt;'>"),
    ],
)
def test_markup_is_shown_instead_of_meant(text: str, shown: str) -> None:
    assert sanitize(text) == shown


def test_a_sign_that_becomes_text_lets_none_before_it_become_a_tag() -> None:
    assert sanitize("<b<?=") == "&lt;b&lt;?="


def test_long_and_many_tags_are_shown_too() -> None:
    assert sanitize(f"<{'a' * MAX_TAG_CHARS}>") == f"&lt;{'a' * MAX_TAG_CHARS}&gt;"
    assert sanitize("<b>" * (MAX_TAGS + 1)) == "&lt;b&gt;" * (MAX_TAGS + 1)


@settings(deadline=None)
@given(MARKUP)
def test_nothing_that_a_browser_takes_for_a_tag_is_left(text: str) -> None:
    clean = sanitize(text)
    assert not re.search(r"<[a-zA-Z/!?][^<>]*>", re.sub("[\x00-\x08\u200b]", "", clean))
    assert sanitize(clean) == clean
