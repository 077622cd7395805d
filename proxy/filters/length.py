"""An answer has an end: at most so many characters, then the rest is withheld."""

from __future__ import annotations

from collections import Counter

from proxy.errors import OutputBlocked


class Length:
    """Lets exactly `max_chars` characters (code points) out. One more raises OutputBlocked."""

    held = 0

    def __init__(self, max_chars: int) -> None:
        self._left = max_chars
        self.hits: Counter[str] = Counter()

    def feed(self, text: str) -> str:
        if len(text) > self._left:
            self.hits["length"] += 1
            detail = "length: the answer is over filters.max_chars"
            raise OutputBlocked(detail, allowed=text[: self._left], finish="length")
        self._left -= len(text)
        return text

    def flush(self) -> str:
        return ""
