"""The same text with unusual digits, spaces, dashes and letters as ASCII, so that a number is found as it is typed.

Narrower than normalise.py on purpose: what is found here is cut out of the original, so nothing may be decoded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# What shows nothing: format characters, variation selectors, tags.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e0fff]"
)

MAX_REMEMBERED = 20_000  # characters, about 2 MB: more than any language's everyday ones


@dataclass(frozen=True, slots=True)
class Folded:
    """`text` to search in. `at(i)` is where its character `i` was in the original."""

    text: str
    _places: Sequence[int] | None = None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the original that `text[start:end]`, which isn't empty, was."""
        if self._places is None:
            return start, end
        return self._places[start], self._places[end - 1] + 1


class _Table(dict[int, str]):
    """For str.translate: one character for one, so that places stay."""

    def __missing__(self, code: int) -> str:
        folded = _ascii(chr(code))
        if len(self) < MAX_REMEMBERED:
            self[code] = folded
        return folded


def _ascii(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"  # no text; RE2 can't take it
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category == "Zs":
        return " "
    if category == "Pd" or char == "\u2212":  # the minus sign is no dash
        return "-"
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 and plain.isascii() else char


_TABLE = _Table()


def fold(text: str) -> Folded:
    if text.isascii():
        return Folded(text)
    if _INVISIBLE.search(text) is None:
        return Folded(text.translate(_TABLE))
    places = [at for at, char in enumerate(text) if _INVISIBLE.match(char) is None]
    return Folded("".join(text[at] for at in places).translate(_TABLE), places)
