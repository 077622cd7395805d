"""One text, read as whatever it stands for: what matching sees of a message, and where in the message it was.

What it undoes: compatibility and look-alike letters, invisible, bidirectional and tag characters, HTML entities,
percent and backslash escapes (three deep), and as further readings base64, hexadecimal, ROT13, reversed text, digits
for letters, letters kept apart, comments and quotes inside words. What it doesn't: ciphers with a key, other
languages, pictures. Time and space are linear in the text's length. Never shown to anybody.
"""

from __future__ import annotations

import html.entities
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import re2

from proxy.content import islands
from proxy.content.lookalikes import FORMS, HOMOGLYPHS

MAX_ROUNDS = 3

# A text that has none of these reads as it is written. One pass of RE2, instead of one for each step below.
_WORTH_A_LOOK = re2.compile(r"[&%\\^]|[^\x00-\x7f]|/\*|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|" + islands.TRIGGER)
_NOT_SEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U000e0000-\U000e0fff]"
)
_MARKS = re.compile("(.)([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+)", re.DOTALL)
_WORD = re.compile("[A-Za-z0-9\u0370-\u058f\u13a0-\u13ff\ua4d0-\ua4ff]+")
_LATIN = re.compile("[A-Za-z]")
_OTHER_SCRIPT = re.compile("[\u0370-\u058f\u13a0-\u13ff\ua4d0-\ua4ff]")
_ESCAPE = re.compile(
    r"&(?:#[xX][0-9a-fA-F]{1,8}|#[0-9]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});?"
    r"|(?:%[0-9a-fA-F]{2})+|%u[0-9a-fA-F]{4}"
    r"|\\(?:u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]{1,6}\}|x[0-9a-fA-F]{2}|[0-3][0-7]{2})"
)


@dataclass(frozen=True, slots=True)
class Normal:
    """`text` is the folded reading, its letters' case as it was; `views` are further readings of the same message."""

    source: str
    text: str
    views: tuple[str, ...] = ()
    starts: tuple[int, ...] | None = None  # where each folded character begins in the source; None: all at home
    ends: tuple[int, ...] | None = None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Where in the source `text[start:end]` stands. An empty stretch is an empty stretch."""
        if self.starts is None or self.ends is None:
            return start, end
        if start >= end:
            here = self.starts[start] if start < len(self.starts) else len(self.source)
            return here, here
        return self.starts[start], self.ends[end - 1]

    def readings(self) -> Iterator[str]:
        """Every text that has to be judged, the folded one first. The source itself where folding changed it:
        that something was escaped can be what gives it away.
        """
        yield self.text
        if self.text != self.source:
            yield self.source
        yield from self.views


def normalise(text: str) -> Normal:
    """Read a text. Costs about nothing where it is plain ASCII without escapes."""
    if text.isascii() and not _WORTH_A_LOOK.search(text):
        return Normal(text, text)
    folded = _Folded(text)
    _fold_looks(folded)
    for _ in range(MAX_ROUNDS):
        if not folded.replace(_ESCAPE, _unescaped):
            break
        _fold_looks(folded)  # an escape may stand for a wide or foreign letter
    folded.replace(_NOT_SEEN, lambda found: " " if found[0] in "\x0b\x0c" else "")
    views = dict.fromkeys(view for view in islands.views(text, folded.text) if view not in ("", text, folded.text))
    if folded.is_home:
        return Normal(text, folded.text, tuple(views))
    return Normal(text, folded.text, tuple(views), tuple(folded.starts), tuple(folded.ends))


def _fold_looks(folded: _Folded) -> None:
    """Characters as they look: wide, styled, foreign and accented ones."""
    if folded.text.isascii():
        return
    folded.each(_visible)
    folded.replace(_MARKS, _composed)
    if _OTHER_SCRIPT.search(folded.text) and _LATIN.search(folded.text):
        folded.replace(_WORD, _latin)


class _Folded:
    """A text on its way, and where each of its characters came from."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_home = True  # every character is where it was: the two lists aren't made before they are needed
        self.starts: list[int] = []
        self.ends: list[int] = []

    def _move(self) -> None:
        if self.is_home:
            self.is_home = False
            self.starts = list(range(len(self.text)))
            self.ends = list(range(1, len(self.text) + 1))

    def each(self, fold: Callable[[str], str]) -> None:
        """Put another text, or none, in the place of each character."""
        pieces = [character if character < "\x80" else fold(character) for character in self.text]
        if any(len(piece) != 1 for piece in pieces):
            self._move()
            counted = [(index, len(piece)) for index, piece in enumerate(pieces)]
            self.starts = [self.starts[index] for index, count in counted for _ in range(count)]
            self.ends = [self.ends[index] for index, count in counted for _ in range(count)]
        self.text = "".join(pieces)

    def replace(self, pattern: re.Pattern[str], make: Callable[[re.Match[str]], str | None]) -> bool:
        """Put what `make` says in the place of each match; None leaves it. True where something changed."""
        made = [
            (found, new)
            for found in pattern.finditer(self.text)
            if (new := make(found)) is not None and new != found[0]
        ]
        if not made:
            return False
        self._move()
        text: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        done = 0
        for found, new in made:
            begin, end = found.span()
            text += [self.text[done:begin], new]
            starts += [*self.starts[done:begin], *[self.starts[begin]] * len(new)]
            ends += [*self.ends[done:begin], *[self.ends[end - 1]] * len(new)]
            done = end
        self.text = "".join([*text, self.text[done:]])
        self.starts, self.ends = starts + self.starts[done:], ends + self.ends[done:]
        return True


@lru_cache(8192)
def _visible(character: str) -> str:
    """A character as it looks: compatibility forms folded (UAX 15), what can't be seen left out."""
    if _NOT_SEEN.match(character):
        return ""
    return FORMS.get(character) or _NOT_SEEN.sub("", unicodedata.normalize("NFKC", character))


def _composed(found: re.Match[str]) -> str:
    """A letter with its accent as one character; marks that make no letter are decoration."""
    whole = unicodedata.normalize("NFC", found[1] + found[2][0])
    return whole if len(whole) == 1 else found[1]


def _latin(found: re.Match[str]) -> str | None:
    """A word in which letters of another script stand for Latin ones."""
    word = found[0]
    if not _OTHER_SCRIPT.search(word):
        return None
    folded = "".join(HOMOGLYPHS.get(character, character) for character in word)
    is_mixed = _LATIN.search(word) is not None
    return folded if is_mixed or not _OTHER_SCRIPT.search(folded) else None


def _unescaped(found: re.Match[str]) -> str | None:
    escape = found[0]
    if escape[0] == "&":
        return _entity(escape)
    if escape[0] == "%" and escape[1] != "u":
        return _percent(escape)
    digits = escape.strip("\\ux{}%")
    return _character(int(digits, 16 if escape[1] in "ux" else 8))


def _entity(escape: str) -> str | None:
    name = escape[1:]
    if name[0] != "#":
        return html.entities.html5.get(name) or html.entities.html5.get(name.removesuffix(";"))
    digits = name[1:].removesuffix(";")
    return _character(int(digits[1:], 16) if digits[0] in "xX" else int(digits))


def _character(code: int) -> str | None:
    return chr(code) if code < 0xD800 or 0xDFFF < code <= 0x10FFFF else None


# ASCII in two bytes or three, which no reader should take (RFC 3629 section 10), and some did.
_OVERLONG = re.compile("[\xc0\xc1][\x80-\xff]|\xe0\x80[\x80-\xbf]")


def _percent(escape: str) -> str:
    data = bytes.fromhex(escape.replace("%", ""))
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _OVERLONG.sub(_short, data.decode("latin-1"))


def _short(found: re.Match[str]) -> str:
    return chr((ord(found[0][-2]) & 3) << 6 | ord(found[0][-1]) & 0x3F)
