"""Put back what placeholders stand for: `[EMAIL_1]` is the visitor's own address again, for that visitor alone.

Holds back only what may still become a placeholder that this session has: nothing at all, where it has none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from proxy.content.vault import PLACEHOLDER, restored

MAX_WIDTH = 24
# What a placeholder, with the backslashes that it may have, looks like before it is complete.
_OPEN = re.compile(r"\\?\[([A-Za-z]*)(\\?)(?:(_)([0-9]{0,4})(\\?))?\Z|\\\Z")


class Restore:
    """`values` by placeholder, such as "[EMAIL_1]"; each kind's numbers go up from 1."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._most = Counter(match[2] for match in map(PLACEHOLDER.fullmatch, values) if match)
        self._text = ""
        self.hits: Counter[str] = Counter()

    @property
    def held(self) -> int:
        return len(self._text)

    def feed(self, text: str) -> str:
        if not self._text and "[" not in text and "\\" not in text:
            return text  # most of what is ever said
        text = self._text + text
        until = self._open_from(text)
        self._text = text[until:]
        return restored(text[:until], self._values)

    def flush(self) -> str:
        text, self._text = self._text, ""
        return restored(text, self._values)

    def _open_from(self, text: str) -> int:
        """Where the end of the text begins that may still become a placeholder."""
        match = _OPEN.search(text, max(0, len(text) - MAX_WIDTH))
        while match is not None and not self._may_become(match):
            match = _OPEN.search(text, match.start() + 1)
        return len(text) if match is None else match.start()

    def _may_become(self, match: re.Match[str]) -> bool:
        kind, escape, underscore, number, end = match.groups()
        if not kind:
            return not escape and underscore is None
        kind = kind.upper()
        if underscore is None and not escape:
            return any(known.startswith(kind) for known in self._most)
        if not number:
            return kind in self._most and not end
        return number[0] != "0" and int(number) <= self._most[kind]
