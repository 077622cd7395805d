"""An answer has an end: at most so many characters, then the rest is withheld."""

from __future__ import annotations

from proxy.errors import OutputBlocked


class Length:
    """Lets exactly `max_chars` characters (code points) out. One more raises OutputBlocked."""

    def __init__(self, max_chars: int) -> None:
        self._left = max_chars

    def feed(self, text: str) -> str:
        if len(text) > self._left:
            raise OutputBlocked("length: the answer is over filters.max_chars", allowed=text[: self._left])
        self._left -= len(text)
        return text

    def flush(self) -> str:
        return ""
