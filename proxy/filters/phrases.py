"""Words that block an answer: the site's list, and marks that its owner put into the system prompt (canaries).

What it stops: the answer in front of the first of them, also in other letter case, with other white space and, for
canaries, with punctuation put in between. What it doesn't: the same said otherwise, encoded or translated.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from proxy.filters.redact import Pattern

MAX_PHRASE = 100
_SPACE = r"\s{1,4}"
_BETWEEN = r"[\W_]{0,2}"


def phrases(words: Collection[str]) -> Pattern:
    """Any of the phrases. Where one begins or ends in a letter or digit, a word does so too."""
    return Pattern(rf"(?i)(?:{'|'.join(map(_phrase, words))})")


def canaries(marks: Collection[str]) -> Pattern:
    """Any of the marks, by their letters and digits. Raises ValueError for one that has fewer than eight."""
    spelled = []
    for mark in marks:
        chars = [re.escape(char) for char in mark if char.isalnum()]
        if len(chars) < 8:
            raise ValueError("a canary needs at least 8 letters and digits, or it comes up by chance")
        spelled.append(_BETWEEN.join(chars))
    return Pattern(rf"(?i)(?:{'|'.join(spelled)})")


def _phrase(words: str) -> str:
    if not words.split():
        raise ValueError("a phrase needs a word")
    pattern = _SPACE.join(map(re.escape, words.split()))
    first, last = words.strip()[0], words.strip()[-1]
    return (r"\b" if first.isalnum() else "") + pattern + (r"\b" if last.isalnum() else "")
