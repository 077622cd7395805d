"""Where an unfinished word has to wait, since it may yet become a mail address or a token that nothing announced.

What it stops: `ordinary` holds every word but those whose letters so far (words.txt) begin many words of prose and few
addresses made of people's names; `every` holds them all. What it doesn't: with `ordinary`, the first letters of an
address that begins as an ordinary word does (`information@`, `the.boss@`), or has other letters than A to Z.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files

WordStart = Callable[[str, int, int], int]  # of a text, what has left of it, and where the word ends so far

LONGEST = 15  # letters of a beginning in words.txt; what began longer ago is never asked about
_LINKS = "._+%~'-"  # what often stands between the parts of an address's name
_FIRST_ACCENTED, _LAST_FOREIGN = "\u00c0", "\u097f"
# Scripts that are written without spaces, of which no detector takes addresses, would wait for whole sentences.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_RUN_OF = rf"(?:[^\W{_UNSPACED}]|[\u0300-\u036f\u0900-\u097f&/={_LINKS}])"
_RUN = re.compile(rf"(?<!{_RUN_OF}){_RUN_OF}++ ?\Z")  # a blank: ` (at) ` may follow


def every(text: str, at: int, end: int) -> int:
    """Where the word that reaches up to `end` began, but not in front of `at`; `end` if there is none."""
    run = _RUN.search(text, at, end)
    return end if run is None else run.start()


@lru_cache(1)
def ordinary() -> WordStart:
    """As `every`, but behind those letters of the word that may leave before it has ended. Each letter's fate depends
    on those in front of it alone, so that it doesn't matter where the text was cut.
    """
    known = beginnings((files("proxy.filters") / "words.txt").read_text())

    def start(text: str, at: int, end: int) -> int:
        low = max(0, at - LONGEST - 1)
        before = text[low:end].rstrip(_LINKS)
        rest = before.rstrip(string.ascii_letters)
        word = before[len(rest) :].lower()
        if not word or (rest and _FIRST_ACCENTED <= rest[-1] <= _LAST_FOREIGN) or word in known:
            return end
        for size in range(min(len(word) - 1, LONGEST), 0, -1):
            if word[:size] in known:
                return max(at, low + len(rest) + size)
        return max(at, low + len(rest))

    return start


def beginnings(table: str) -> frozenset[str]:
    """What words.txt says: `inf.orm` stands for `info`, `infor` and `inform`; lines with # are remarks."""
    found = set[str]()
    for line in table.splitlines():
        for entry in () if line.startswith("#") else line.split():
            first, _, rest = entry.partition(".")
            found.update(first + rest[:size] for size in range(1, len(rest) + 1))
    return frozenset(found)
