"""Take HTML's tags out of prose. What this leaves is not yet safe: markup.py escapes what could still open a tag."""

from __future__ import annotations

import re
from collections import Counter

from proxy.filters.fences import Fences

MAX_TAG = 1000
_OPENS = re.compile(r"<(?=[a-zA-Z/!?])")
# A quoted value hides `>`; a quote that is not behind `=` hides nothing. Neither alternative can match a tag whose
# quote is still open, so what matches once matches however much more text comes.
_TAG = re.compile(
    r"</?(?P<name>[a-zA-Z][^\s/>]*)(?:[^=>]|=(?!\s*[\"'])|=\s*\"[^\"]*\"|=\s*'[^']*')*>"
    r"|<!--(?:>|->|[\s\S]*?--!?>)|<(?:!(?!--)|\?|/[^a-zA-Z])[^>]*>|</>"
)
_BREAKS = frozenset({"br", "p", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "pre"})
_DROPPED = ("script", "style")


class Strip:
    """Holds back a tag until its end, at most MAX_TAG characters; what is longer is no tag."""

    def __init__(self) -> None:
        self._text = ""
        self._fences = Fences()
        self._dropping = ""  # inside this element, whose contents go too
        self.stripped = 0

    @property
    def held(self) -> int:
        return len(self._text)

    @property
    def hits(self) -> Counter[str]:
        return Counter(tag=self.stripped)

    def feed(self, text: str) -> str:
        if not self._text and not self._dropping and "<" not in text:
            self._fences.feed(text)
            return text
        return self._release(self._text + text, final=False)

    def flush(self) -> str:
        return self._release(self._text, final=True)

    def _release(self, text: str, *, final: bool) -> str:
        kept: list[str] = []
        self._text = ""
        while text:
            if self._dropping:
                text = self._drop(text)
                if self._dropping:
                    break
            start = _next_tag(text)
            self._keep(text[:start], kept)
            text = text[start:]
            if len(text) < 2 and not final:  # nothing, or a `<` whose next character is not here yet
                self._text = text
                break
            tag = None if self._fences.inside else _TAG.match(text, 0, MAX_TAG)
            if tag is None:
                if not self._fences.inside and not final and len(text) < MAX_TAG:
                    self._text = text
                    break
                self._keep(text[:1], kept)
                text = text[1:]
            else:
                text = text[tag.end() :]
                self._remove(tag, kept)
        return "".join(kept)

    def _keep(self, text: str, kept: list[str]) -> None:
        self._fences.feed(text)
        kept.append(text)

    def _remove(self, tag: re.Match[str], kept: list[str]) -> None:
        self.stripped += 1
        name = (tag["name"] or "").lower()
        if name in _DROPPED and not tag[0].startswith("</"):
            self._dropping = name
        elif name in _BREAKS and (name == "br" or tag[0].startswith("</")):
            self._keep("\n", kept)

    def _drop(self, text: str) -> str:
        """The text from the element's end tag on. While there is none, only what may be its beginning is kept."""
        end = re.search(rf"</{self._dropping}(?=[\s/>])", text, re.IGNORECASE)
        if end is not None:
            self._dropping = ""
            return text[end.start() :]
        last = text.rfind("<")
        self._text = text[last:] if last >= 0 and len(text) - last <= len("</script") else ""
        return ""


def _next_tag(text: str) -> int:
    opening = _OPENS.search(text)
    if opening is not None:
        return opening.start()
    return len(text) - 1 if text.endswith("<") else len(text)
