"""Personal data and secrets in answers are masked, where they aren't the visitor's own or the site's to tell.

What it stops: addresses, numbers and keys that the model remembers, makes up or was given by its tools, as far as
content/pii.py knows them. What it doesn't: names; values that only words behind them explain; of what candidates.py
releases early, the first letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from proxy.content.pii import find
from proxy.filters.candidates import LOOK_BACK, UNENDING, begins, ends, surely
from proxy.filters.words import WordStart

MAX_HELD = 4096
_OVERLAP = 256  # of what is longer, so much is judged again with what comes after it
_KEY_BLOCK = re.compile(r"-----BEGIN[^\n-]{0,80}PRIVATE KEY[^\n-]{0,20}-----")
_KEY_BLOCK_END = re.compile(r"-----END[^\n-]{0,80}-----")
# All that the detectors know has one of these in it, but for tokens of at least so many letters.
_TELLING, _LEAST_PLAIN = re.compile(r"[\d@\uff20\ufe6b_(\[&]"), 16
_KEY, _MAX_KEY_LINE = "-----BEGIN", 128
_BESIDE = re.compile(r"[\W_]+")


class Known:
    """What may leave although it is personal data: values, or a mail domain with its `@`; what the visitor wrote now,
    and the values that the session's placeholders stand for."""

    def __init__(self, values: Collection[str], said: str = "", own: Collection[str] = ()) -> None:
        self._domains = tuple(value.lower() for value in values if value.startswith("@"))
        self._values = {_plain(value) for value in (*values, *own)}
        self._said = _plain(said)

    def has(self, value: str) -> bool:
        plain = _plain(value)
        return plain in self._values or value.lower().endswith(self._domains) or (plain != "" and plain in self._said)


def _plain(value: str) -> str:
    return _BESIDE.sub("", value).casefold()


class Mask:
    """Holds back what may be one of `kinds` until it is over, and never more than MAX_HELD characters."""

    def __init__(self, kinds: Collection[str], known: Known, words: WordStart) -> None:
        self._kinds = kinds
        self._known = known
        self._words = words
        self._text = ""
        self._done = 0  # text before this is out; LOOK_BACK characters of it stay
        self._begun = False  # what is left belongs to something that was too long to hold
        self._in_key = False
        self._seen = 0  # what began was looked at up to here; 0 while it may yet turn out to be nothing
        self.hits: Counter[str] = Counter()

    @property
    def held(self) -> int:
        return len(self._text) - self._done

    def feed(self, text: str) -> str:
        self._text += text
        if self._seen and self.held < MAX_HELD and self._goes_on(text):
            return ""
        return self._release(final=False)

    def flush(self) -> str:
        return self._release(final=True)

    def _goes_on(self, text: str) -> bool:
        """Is the last character in front of it, and all of it, in the middle of a token?"""
        return UNENDING.fullmatch(self._text, len(self._text) - len(text) - 1) is not None

    def _release(self, *, final: bool) -> str:
        text, at = self._text, self._done
        out: list[str] = []
        while at < len(text):
            if self._in_key:
                over = _KEY_BLOCK_END.search(text, at)
                if over is None:
                    at = max(at, len(text) - _MAX_KEY_LINE)  # where its last line may begin
                    break
                self._in_key = False
                at = over.end()
                continue
            start = at if self._begun or self._seen else begins(text, at, self._words)
            out.append(text[at:start])
            at = start
            if text.startswith(_KEY, start):
                key = _KEY_BLOCK.match(text, start)
                if key is not None:
                    self._in_key = True
                    out.append(self._masked("secret"))
                    at = key.end()
                    continue
                if not (final or "\n" in text[start:] or len(text) - start > _MAX_KEY_LINE):
                    break
            end, seen = ends(text, start, self._seen, final=final)
            if end is None and len(text) - start < MAX_HELD:
                self._seen = seen if surely(text, start) else 0
                break
            self._seen = 0
            at = self._judge(text, start, end, out)
        kept = max(at - LOOK_BACK, 0)
        self._text, self._done = text[kept:], at - kept
        self._seen = max(self._seen - kept, 0)
        return "".join(out)

    def _judge(self, text: str, start: int, end: int | None, out: list[str]) -> int:
        """Mask what is found between the two; of what has no end yet, all but the overlap. Returns where to go on."""
        self._begun = end is None
        limit = start + MAX_HELD if end is None else end
        until = limit - _OVERLAP if end is None else limit
        first = max(0, start - LOOK_BACK)
        at = start
        if limit - start < _LEAST_PLAIN and _TELLING.search(text, start, limit) is None:
            out.append(text[at:until])
            return until
        for span in find(text[first : limit + 1], self._kinds):
            here, there = max(first + span.start, start), min(first + span.end, limit)
            if there <= start or here >= until or self._known.has(text[first + span.start : there]):
                continue
            out += text[at:here], self._masked(span.kind)
            at = there
        out.append(text[at:until])
        return max(at, until)

    def _masked(self, kind: str) -> str:
        self.hits[kind] += 1
        return f"[{kind.upper()}]"
