"""HTML in an answer becomes text. Markdown stays, and code stays readable.

`safe`: what would open a tag is written so that no browser takes it for one. `strip`: tags and the contents of scripts
and styles go; what is left is then made safe. Both rely on invisible.py: what it takes out could part a tag.
What it stops: script, requests and layout by HTML, SVG, MathML and CSS, also in a client that puts the answer into
innerHTML. What it doesn't: Markdown's own images and links, which are links.py's.
"""

from __future__ import annotations

import re
from collections import Counter

from proxy.filters.fences import Fences
from proxy.filters.tags import Strip

# https://html.spec.whatwg.org/multipage/parsing.html#tag-open-state: whatever else follows `<`, it's a character.
_OPENS = re.compile(r"<(?=[a-zA-Z/!?])")
# A tag without `=` has no attribute with a value: no handler, no address, no style. It may stay in code, where
# `#include <stdio.h>` and `List<String>` must, unless it changes how a browser reads what comes after it, or makes a
# form, which a click would send.
LOUD = (
    "button", "form", "frameset", "iframe", "input", "listing", "math", "noembed", "noframes", "noscript", "plaintext",
    "script", "select", "style", "svg", "template", "textarea", "title", "xmp",
)  # fmt: skip
_QUIET = re.compile(rf"<(?!/?(?:{'|'.join(LOUD)})[\s/>])(?:/?[a-zA-Z]|!doctype\s)[^=<>\n]*>", re.IGNORECASE)
_QUIET_SO_FAR = re.compile(r"<[^=<>\n]{0,40}")
_MAX_QUIET = 42


class Markup:
    """One of `safe` and `strip`."""

    def __init__(self, *, strip: bool = False) -> None:
        self._strip = Strip() if strip else None
        self._fences = Fences()
        self._text = ""
        self._tags = 0

    @property
    def held(self) -> int:
        return (self._strip.held if self._strip else 0) + len(self._text)

    @property
    def hits(self) -> Counter[str]:
        return Counter(tag=self._tags + (self._strip.stripped if self._strip else 0))

    def feed(self, text: str) -> str:
        if self._strip:
            text = self._strip.feed(text)
        if not self._text and "<" not in text:
            self._fences.feed(text)
            return text
        return self._escape(self._text + text, final=False)

    def flush(self) -> str:
        text = self._strip.flush() if self._strip else ""
        return self._escape(self._text + text, final=True)

    def _escape(self, text: str, *, final: bool) -> str:
        kept: list[str] = []
        at = 0
        until = len(text) if final or not text.endswith("<") else len(text) - 1
        for opening in _OPENS.finditer(text):
            start = opening.start()
            self._fences.feed(text[at:start])
            kept.append(text[at:start])
            at = start + 1
            if not self._fences.inside:
                kept.append("&lt;")
            elif (quiet := is_quiet(text, start, final=final)) is None:
                at = until = start
                break
            else:
                kept.append("<" if quiet else "< ")
            self._tags += kept[-1] != "<"
            self._fences.feed("<")
        self._fences.feed(text[at:until])
        kept.append(text[at:until])
        self._text = text[until:]
        return "".join(kept)


def is_quiet(text: str, start: int, *, final: bool) -> bool | None:
    """Is this tag one that may stay? None while that can't be known."""
    so_far = _QUIET_SO_FAR.match(text, start)
    if so_far is not None and so_far.end() == len(text) and not final:
        return None
    return _QUIET.match(text, start, start + _MAX_QUIET) is not None
