"""Is the text at this point inside Markdown code: a fenced block or a span of backticks.

Good enough to decide how something looks, not whether it is safe: clients disagree about where code ends, so what a
filter lets pass in code must be harmless outside of it too.
"""

from __future__ import annotations

import re

_MARKS = re.compile(r"`+|~+|\n")
_IN_FRONT = re.compile(r"[ \t>*+\-0-9.)]*")  # of a fence on its line: indentation, quote and list marks
_MOST_IN_FRONT = 64


class Fences:
    """Fed with a text from its beginning to its end, in any pieces; `inside` is about what comes next."""

    def __init__(self) -> None:
        self._fence = ""  # what opened the block
        self._span = 0  # how many backticks opened the span
        self._line = ""  # the line so far, its beginning at least
        self._run = ""  # backticks or tildes at the end: more of them may follow
        self._is_escaped = False  # a backslash in front of them
        self.paragraph = 0  # how many blank lines there were

    def feed(self, text: str) -> None:
        at = 0
        for mark in _MARKS.finditer(text):
            self._plain(text[at : mark.start()])
            at = mark.end()
            if mark[0] == "\n":
                self._settle()
                self._newline()
            elif self._run.startswith(mark[0][0]):
                self._run += mark[0]
            else:
                self._settle()
                self._run = mark[0]
        self._plain(text[at:])

    @property
    def inside(self) -> bool:
        """Only meaningful where neither a backtick nor a tilde comes next."""
        self._settle()
        return bool(self._fence or self._span)

    @property
    def starts_line(self) -> bool:
        """Is there nothing in front of what comes next but what a block of Markdown may start with?"""
        self._settle()
        return _IN_FRONT.fullmatch(self._line) is not None

    def _plain(self, text: str) -> None:
        if text:
            if self._run:
                self._settle()
            self._is_escaped = text.endswith("\\")
            if len(self._line) < _MOST_IN_FRONT:
                self._line += text

    def _settle(self) -> None:
        run, self._run = self._run, ""
        if not run:
            return
        starts_line = _IN_FRONT.fullmatch(self._line) is not None
        if self._fence:
            if starts_line and run.startswith(self._fence):
                self._fence = ""
        elif len(run) >= 3 and starts_line:
            self._fence, self._span = run, 0
        elif run[0] == "`" and not (self._is_escaped and not self._span):
            if not self._span:
                self._span = len(run)
            elif self._span == len(run):
                self._span = 0
        self._line += run

    def _newline(self) -> None:
        if not self._line.strip():  # a paragraph ends, and with it a span that was never closed
            self._span = 0
            self.paragraph += 1
        self._line = ""
