"""The whole answer at once, for rules that no part of it can be judged by.

The visitor waits for all of it, which the answer's headers say. A rule that takes too long blocks the answer.
"""

from __future__ import annotations

from collections import Counter

import regex

from proxy.errors import OutputBlocked

TIMEOUT = 0.5  # seconds of the event loop that one rule may take for one answer


class WholePattern:
    """Any regular expression of the `regex` module. Raises ValueError."""

    def __init__(self, source: str) -> None:
        try:
            self.subn = regex.compile(source).subn
        except regex.error as error:
            raise ValueError(f"not a regular expression: {error}") from error


class Collect:
    """Keeps everything back until the end, at most `max_chars` characters; more block the answer."""

    def __init__(self, pattern: WholePattern, replacement: str, max_chars: int) -> None:
        self._pattern = pattern
        self._replacement = replacement
        self._max_chars = max_chars
        self._pieces: list[str] = []
        self.held = 0
        self.hits: Counter[str] = Counter()

    def feed(self, text: str) -> str:
        self.held += len(text)
        self._pieces.append(text)
        if self.held > self._max_chars:
            detail = "redact: the answer is over filters.max_chars before it could be judged"
            raise OutputBlocked(detail, finish="length")
        return ""

    def flush(self) -> str:
        try:
            text, count = self._pattern.subn(lambda _: self._replacement, "".join(self._pieces), timeout=TIMEOUT)
        except TimeoutError as error:
            raise OutputBlocked(f"redact: a pattern took more than {TIMEOUT} s") from error
        self.held = 0
        self.hits["redact"] += count
        return text
