"""Take out what nobody sees: terminal sequences, control and tag characters, zero-width and bidirectional marks.

What it stops: text that is hidden from the reader but not from a terminal, a copy or the next model, and marks that
would split words in front of later filters. What it doesn't: letters that look like others.
"""

from __future__ import annotations

import re
from collections import Counter

import regex

# ECMA-48: CSI and its parameters; the strings that ST or BEL ends; other escapes. Written out, so that no sequence is
# complete that could still go on.
_SEQUENCE = regex.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]{0,512}(?:[\x07\x9c]|\x1b\\)"
    r"|\x1b[ -/]{1,8}[0-~]|\x1b[0-OQ-WYZ\\`-~]"
)
_OPENING = re.compile("[\x1b\x90\x98\x9b\x9d-\x9f]")
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
# General category Cf but for what scripts need, the fillers that look like spaces, and what is not assigned to show.
_NEVER = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_JOINED = "\u0600-\u06ff\u0700-\u07bf\u08a0-\u0dff\u0e00-\u109f\u1780-\u18af"  # scripts that spell with joiners
_PICTURES = "#*0-9\xa9\xae\u203c-\u3299\U0001f000-\U0001faff"
_HIDDEN = re.compile(
    f"[{_CONTROLS}{_NEVER}]"
    f"|(?<![{_JOINED}])\u200c"  # ZWNJ, ZWJ, the emoji's variation selectors: one, where something needs it in front
    f"|(?<![{_JOINED}{_PICTURES}\ufe0f])\u200d"
    f"|(?<![{_PICTURES}])[\ufe0e\ufe0f]"
    "|(?<![\u2801-\u28ff])\u2800"  # a blank among braille
)
_SUSPECT = re.compile(f"[{_CONTROLS}{_NEVER}\u200c\u200d\ufe0e\ufe0f\u2800]")


class Invisible:
    """Holds back an escape sequence that is not complete, at most some 600 characters."""

    def __init__(self) -> None:
        self._text = ""
        self._before = ""  # the character before it: what a joiner may lean on
        self.hits: Counter[str] = Counter()

    @property
    def held(self) -> int:
        return len(self._text)

    def feed(self, text: str) -> str:
        if not self._text and not _SUSPECT.search(text):
            self._before = text[-1:] or self._before
            return text
        return self._release(self._text + text, final=False)

    def flush(self) -> str:
        return self._release(self._text, final=True)

    def _release(self, text: str, *, final: bool) -> str:
        kept: list[str] = []
        at = 0
        self._text = ""
        while opening := _OPENING.search(text, at):
            start = opening.start()
            kept.append(self._visible(text[at:start]))
            sequence = _SEQUENCE.match(text, start, partial=not final)
            if sequence is not None and sequence.partial:
                self._text = text[start:]
                return "".join(kept)
            self.hits["invisible"] += 1
            self._before = ""
            at = start + 1 if sequence is None else sequence.end()
        kept.append(self._visible(text[at:]))
        return "".join(kept)

    def _visible(self, text: str) -> str:
        if not text:
            return ""
        start = len(self._before)
        text = self._before + text
        kept: list[str] = []
        at = start
        for hidden in _HIDDEN.finditer(text, start):
            kept.append(text[at : hidden.start()])
            at = hidden.end()
            self.hits["invisible"] += 1
        self._before = text[-1]
        kept.append(text[at:])
        return "".join(kept)
