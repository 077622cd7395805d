"""Filters in order, folded into one."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.errors import OutputBlocked
from proxy.model import Filter


class Chain:
    """A plain loop, not a stack of generators: it runs for every piece of every answer.

    When a filter blocks, what it allowed in front of the block still passes the filters after it, and leaves as
    `OutputBlocked.allowed`. A chain that has raised is spent.
    """

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._filters = filters

    def feed(self, text: str) -> str:
        for at, rule in enumerate(self._filters):
            try:
                text = rule.feed(text)
            except OutputBlocked as blocked:
                raise self._blocked(blocked, blocked.allowed, at + 1) from blocked
            if not text:
                break
        return text

    def flush(self) -> str:
        return self._finish("", 0)

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
            return OutputBlocked(blocked.detail, allowed=self._finish(allowed, start))
        except OutputBlocked as earlier:  # a later filter allows even less: its word is the first in the text
            return earlier
