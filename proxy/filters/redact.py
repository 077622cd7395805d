"""Replace what matches a pattern in the answer, also where it arrives in pieces.

What it stops: texts that the owner can describe by a regular expression of bounded length. What it doesn't: the
same words spelled otherwise.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from re import _constants as _ops  # type: ignore[attr-defined]  # private, and the only ones who know a pattern's width
from re import _parser as sre  # type: ignore[attr-defined]

import regex

from proxy.errors import OutputBlocked

_REFUSED = {
    _ops.ASSERT: "lookahead or lookbehind",
    _ops.ASSERT_NOT: "lookahead or lookbehind",
    _ops.GROUPREF: "a back reference",
    _ops.GROUPREF_EXISTS: "a back reference",
}
MAX_WIDTH = 1000


class Pattern:
    """A regular expression with a bounded width, checked when made.

    Raises ValueError for one that is wrong, unbounded (`.*`), may match nothing, or depends on text beyond its match
    (lookaround, `^`, `$`, back references): how much text to keep back could not be known. `\\b` is fine.
    """

    def __init__(self, source: str) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", FutureWarning)  # what Python will read otherwise one day
                parsed = sre.parse(source)
            self.search = regex.compile(source).search
            self.fullmatch = regex.compile(source).fullmatch
        except (re.error, regex.error, FutureWarning) as error:
            raise ValueError(f"not a regular expression: {error}") from error
        shortest, self.longest = parsed.getwidth()
        if shortest == 0:
            raise ValueError("the pattern may match nothing at all")
        if self.longest > MAX_WIDTH:
            raise ValueError(f"a match may be longer than {MAX_WIDTH} characters: bound it, such as {{1,64}} for +")
        if found := _context_dependent(parsed):
            raise ValueError(f"the pattern uses {found}, which needs text beyond the match")


def _context_dependent(parsed: object) -> str | None:
    """What in a parsed pattern looks at text outside its own match, if anything does."""
    code = parsed[0] if isinstance(parsed, tuple) else None
    for refused, name in _REFUSED.items():
        if code is refused:  # not ==: codes are numbers, and so are the bounds of a repeat
            return name
    if isinstance(parsed, tuple) and code is _ops.AT:
        return None if parsed[1] in (_ops.AT_BOUNDARY, _ops.AT_NON_BOUNDARY) else "^ or $"
    if isinstance(parsed, tuple | list | sre.SubPattern):
        return next((found for item in parsed if (found := _context_dependent(item))), None)
    return None


class Redact:
    """Holds back only from the earliest point where a match could still come about, and never more than its width.

    Without a replacement, a match blocks the answer. `rule` names it where hits are counted.
    """

    def __init__(self, pattern: Pattern, replacement: str | None, rule: str = "redact") -> None:
        self._pattern = pattern
        self._replacement = replacement
        self._rule = rule
        self._text = ""
        self._done = 0  # text before this is out; one character of it stays, as the left side of \b
        self.hits: Counter[str] = Counter()

    @property
    def held(self) -> int:
        return len(self._text) - self._done

    def feed(self, text: str) -> str:
        self._text += text
        return self._release(final=False)

    def flush(self) -> str:
        return self._release(final=True)

    def _release(self, *, final: bool) -> str:
        text, pattern = self._text, self._pattern
        out: list[str] = []
        at = self._done
        while True:
            match = pattern.search(text, at) if final else pattern.search(text, at, partial=True)
            if match is None:
                until = len(text)
                break
            # The search prefers a complete match to an earlier one that is still open: look before it.
            held = len(text) if final else self._first_open(at, len(text) if match.partial else match.start() + 1)
            if match.partial or held <= match.start():
                until = held
                break
            self.hits[self._rule] += 1
            out.append(text[at : match.start()])
            if self._replacement is None:
                raise OutputBlocked(f"{self._rule}: a match", allowed="".join(out))
            out.append(self._replacement)
            at = match.end()
        if until > at:
            out.append(text[at:until])
            at = until
        kept = max(at - 1, 0)
        self._text, self._done = text[kept:], at - kept
        return "".join(out)

    def _first_open(self, start: int, end: int) -> int:
        """The first position in [start, end) where more text could complete or lengthen a match, or the end."""
        text, fullmatch = self._text, self._pattern.fullmatch
        for at in range(max(start, len(text) - self._pattern.longest), end):
            if fullmatch(text, at, partial=True) is not None:
                return at
        return len(text)
