"""Further readings of a text: what stretches of it, or all of it, stand for once decoded. Each is judged like one.

base64, hexadecimal, tag and variation characters, ROT13, reversed text, digits for letters, letters kept apart, and
comments and quotes that keep a filter from seeing a word. What it doesn't find: what is encoded twice over in ways
other than percent, entity and backslash escapes, and stretches too short to carry an instruction.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Iterator

MAX_ISLANDS = 16  # decoded stretches in one text; their lengths add up to less than the text's
LEAST_READABLE = 0.85
MANY = 3  # words with digits for letters: then a number is a word too
ROT13_WORDS = "gur|lbhe?|naq|guvf|jung|jvgu|sebz|cebzcg|flfgrz|vtaber|fubj|gung|rot-?13"  # common words, or its name
BACKWARD_WORDS = "eht|r?uoy|dna|siht|tahw|htiw|morf|tpmorp|metsys|erongi|wohs|backwards?|reversed?"

# One alternative for each reading below that plain ASCII can have (RE2 syntax too; no backreferences, no lookaround).
TRIGGER = (
    r"[A-Za-z0-9+/_-]{20}"
    r"|(?:[0-9a-fA-F]{2}[ :,]){8}"
    r"|[A-Za-z][0134578@$]+[A-Za-z]|\b[0134578]+[a-z]{2}"
    r"|(?:\b[A-Za-z][ \t._*|-]+){4}[A-Za-z]\b"
    r"|[a-z][-._*][a-z]"
    r"|(?:--|#)[^\n]{0,120}\n"
    r"|[A-Za-z](?:''|\"\"|\$@)[A-Za-z]|[A-Za-z]'[a-z]'[A-Za-z]|\"[a-z]\"|\$\{IFS|\$IFS"
    r"|(?i:\b(?:" + ROT13_WORDS + r")\b)"
    r"|(?i:\b(?:" + BACKWARD_WORDS + r")\b)"
)

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_HEX = re.compile(r"(?:0x)?(?:[0-9a-fA-F]{2}[ :,]?){8,}")
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_BIDI = re.compile("[\u202d\u202e\u2066\u2067]([^\u202c\u2069]*)")
_TOKEN = re.compile(r"[A-Za-z0-9@$!|]+")
_LEET = re.compile(r"[A-Za-z][0134578@$!|]|[013457@$|][A-Za-z]")
_APART = re.compile(r"(?:(?<!\w)\w[ \t._*|-]+){4,}\w(?!\w)")
_GAP = re.compile(r"[ \t]{2,}|(?<=\w)[ \t._*|-](?=\w)")
_INSIDE = re.compile(r"(?<=[a-z])[-._*](?=[a-z])", re.IGNORECASE)
_COMMENT = re.compile(r"/\*[^!*][^*]{0,200}\*/")  # MySQL runs what is in /*! */
_LINE_COMMENT = re.compile(r"(?:--|#)[^\n]{0,120}\n")
_COMMENT_MARK = re.compile(r"/\*!?\d*|\*/")
_SHELL_QUOTES = re.compile(r"''|\"\"|\\(?=\w)|\^|\$@|(?<=\w)['\"](?=\w)|'(?=\w'\w)|(?<=\w)'(?=\w)")
_IFS = re.compile(r"\$\{IFS[^}]{0,40}\}|\$IFS(?:\$\d)?")
_ROT13 = re.compile(rf"\b(?:{ROT13_WORDS})\b", re.IGNORECASE)
_BACKWARDS = re.compile(rf"\b(?:{BACKWARD_WORDS})\b", re.IGNORECASE)
_FROM_LEET = str.maketrans("0134578@$!|", "oieastbasil")


def views(source: str, folded: str) -> Iterator[str]:
    """Further readings, from the text as it came and as it was folded; some may be the same as others."""
    if not source.isascii():
        yield from _hidden(source)
    yield from _decoded(folded)
    if "/*" in folded:
        yield _COMMENT_MARK.sub(" ", _COMMENT.sub(" ", folded))
        yield _COMMENT_MARK.sub("", folded)
    if (whole := _LINE_COMMENT.sub(" ", folded)) != folded:
        yield whole
    if (plain := _IFS.sub(" ", _SHELL_QUOTES.sub("", folded))) != folded:
        yield plain
    if _ROT13.search(folded):
        yield codecs.encode(folded, "rot13")
    if _BACKWARDS.search(folded):
        yield folded[::-1]
    if len(_INSIDE.findall(folded)) >= MANY:
        yield _INSIDE.sub("", folded)
    if _LEET.search(folded):
        yield _unleet(folded)
    if (joined := _APART.sub(_joined, folded)) != folded:
        yield joined


def _hidden(source: str) -> Iterator[str]:
    """Text in characters that don't show (tags, variation selectors), and what bidirectional overrides turn round."""
    for found in _TAGS.finditer(source):
        yield "".join(chr(ord(character) - 0xE0000) for character in found[0])
    for found in _SELECTORS.finditer(source):
        codes = (ord(character) for character in found[0])
        yield bytes(code - 0xFE00 if code < 0xFF00 else code - 0xE0100 + 16 for code in codes).decode(errors="replace")
    for found in _BIDI.finditer(source):
        yield found[1][::-1]


def _decoded(text: str) -> Iterator[str]:
    left = MAX_ISLANDS
    for pattern, decode in ((_BASE64, _base64), (_HEX, _hex)):
        for found in pattern.finditer(text):
            if left and (reading := _readable(decode(found[0]))):
                left -= 1
                yield reading


def _base64(text: str) -> bytes:
    text = text.rstrip("=").replace("-", "+").replace("_", "/")
    whole = text[: len(text) - (len(text) % 4 == 1)]  # a lone character at the end stands for nothing
    return base64.b64decode(whole + "=" * (-len(whole) % 4))


def _hex(text: str) -> bytes:
    digits = re.sub(r"0x|[ :,]", "", text)
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def _readable(data: bytes) -> str:
    """As text, where nearly all of it is; otherwise it was no text."""
    text = data.decode("utf-8", "replace")
    shown = sum(character.isalnum() or character in " .,:;!?'\"\n()<>/=-_" for character in text)
    return text if shown > LEAST_READABLE * len(text) else ""


def _unleet(text: str) -> str:
    """Digits in words as letters; where many words have them, lone numbers too."""
    words = _TOKEN.findall(text)
    if sum(_LEET.search(word) is not None for word in words) >= MANY:
        return text.translate(_FROM_LEET)
    return _TOKEN.sub(lambda word: word[0].translate(_FROM_LEET) if _LEET.search(word[0]) else word[0], text)


def _joined(found: re.Match[str]) -> str:
    return _GAP.sub(lambda gap: " " if len(gap[0]) > 1 else "", found[0])
