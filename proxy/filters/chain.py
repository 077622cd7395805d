"""Filters in order, folded into one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from proxy.errors import OutputBlocked
from proxy.model import Filter


class Chain:
    """A plain loop, not a stack of generators: it runs for every piece of every answer.

    When a filter blocks, what it allowed in front of the block still passes the filters after it, and leaves as
    `OutputBlocked.allowed`. A chain that has raised is spent.
    """

    def __init__(self, filters: Sequence[Filter], clock: Callable[[], float] = time.monotonic) -> None:
        self._filters = filters
        self._clock = clock
        self._most_held = 0
        self._longest = 0.0
        self._since: float | None = None  # when it began to keep something back

    def feed(self, text: str) -> str:
        for at, rule in enumerate(self._filters):
            try:
                text = rule.feed(text)
            except OutputBlocked as blocked:
                raise self._blocked(blocked, blocked.allowed, at + 1) from blocked
            if not text:
                break
        held = self.held
        if held or self._since is not None:
            self._measure(held)
        return text

    @property
    def held(self) -> int:
        """How many characters its filters keep back now."""
        held = 0
        for rule in self._filters:
            held += rule.held
        return held

    def flush(self) -> str:
        return self._finish("", 0)

    def report(self) -> tuple[int, float, Counter[str]]:
        """The most characters kept back at once, the longest time for which any were, in seconds, and hits by rule."""
        self._measure(0)
        return self._most_held, self._longest, sum((Counter(rule.hits) for rule in self._filters), Counter())

    def _measure(self, held: int) -> None:
        if held and self._since is None:
            self._since = self._clock()
        elif not held and self._since is not None:
            self._longest = max(self._longest, self._clock() - self._since)
            self._since = None
        self._most_held = max(self._most_held, held)

    def _finish(self, text: str, start: int) -> str:
        """End the filters from `start` on: what an earlier one kept back must still pass the later ones."""
        for at, rule in enumerate(self._filters[start:], start):
            fed = ""
            try:
                fed = rule.feed(text) if text else ""
                text = fed + rule.flush()
            except OutputBlocked as blocked:
                raise self._blocked(blocked, fed + blocked.allowed, at + 1) from blocked
        return text

    def _blocked(self, blocked: OutputBlocked, allowed: str, start: int) -> OutputBlocked:
        try:
            return OutputBlocked(blocked.detail, allowed=self._finish(allowed, start), finish=blocked.finish)
        except OutputBlocked as earlier:  # a later filter allows even less: its word is the first in the text
            return earlier
