"""Markup in a message made harmless: every tag, comment and declaration is shown as text instead of meant.

What is no markup stays as it was, byte for byte: `x<y`, `a & b`, entities, code without tags. What it doesn't do:
decide whether a message is an attack (detect.py), or make links safe.
"""

from __future__ import annotations

import html
import re

import bleach

MAX_TAG_CHARS = 1000  # a longer one is escaped without being parsed: bleach takes milliseconds for it
MAX_TAGS = 50  # of more, every sign is escaped

# A tag, comment or declaration as HTML begins one (WHATWG HTML 13.2.5.6, tag open state). A `<` and a letter are text
# as long as neither a `>` nor an attribute follows: `x<y`.
_MARKUP = re.compile(r"<(?:[a-zA-Z][^<>]*>|[a-zA-Z][^<>=]*=[^<>]*|/[a-zA-Z][^<>]*>?|/[^<>]*>|[!?][^<>]*>?)")
_NOT_SEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def sanitize(text: str) -> str:
    """The text with its markup shown instead of meant. Cleaning twice gives the same."""
    if "<" not in text:
        return text
    # Characters that aren't seen could keep a `<` and its letter apart, until somebody removes them.
    seen = _NOT_SEEN.sub("", text)
    if not _MARKUP.search(seen):
        return text
    if seen.count("<") > MAX_TAGS:
        return seen.replace("<", "&lt;").replace(">", "&gt;")
    while _MARKUP.search(seen):  # a `<` that becomes text lets the one before it reach further: `<b<?=`
        seen = _MARKUP.sub(_shown, seen)
    return seen


def _shown(found: re.Match[str]) -> str:
    tag = found[0]
    if tag[1].isalpha() and len(tag) <= MAX_TAG_CHARS:
        shown = str(bleach.clean(tag, tags=set(), attributes={}, strip=False))
        if shown.startswith("&lt;"):
            return shown
    return _escaped(found)  # bleach would leave it out, or take long


def _escaped(found: re.Match[str]) -> str:
    return html.escape(found[0], quote=False)
