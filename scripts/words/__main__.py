"""Makes proxy/filters/words.txt: `python -m scripts.words`, run by scripts/make-words.

Which letters of an unfinished word may leave is a balance: a beginning of words is let go where that keeps more letters
of prose moving than it gives away addresses of people. Each beginning's share of both is counted (facts.py), and the
best set of beginnings follows from the longest to the shortest.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts.words import facts

TABLE = Path(__file__).parents[2] / "proxy" / "filters" / "words.txt"
ADDRESSES = 400_000
LETTER = 0.03  # what each letter of an address costs that leaves; that any leaves costs 1
LEAST = 5e-6  # of the letters of prose; what is rarer would make the table long, and nothing faster
WIDTH = 120
HEAD = """\
# Beginnings of ordinary words: letters that may leave while the word is being written. `inf.orm` stands for info, infor
# and inform. Made by scripts/make-words out of counts in pyspellchecker (MIT), symspellpy (MIT), the docstrings of
# Python's standard library (PSF-2.0), and the names in Faker (MIT); do not edit.
"""


def chosen(prose: Mapping[str, float], addresses: Mapping[str, float]) -> set[str]:
    """The beginnings to let go of, given their shares of the letters of prose and of addresses."""
    known = sorted((word for word, share in prose.items() if share > LEAST), key=lambda word: (-len(word), word))
    behind = defaultdict[str, float](float)  # what is won among the longer ones, where something left before
    won = defaultdict[str, float](float)  # and where nothing did
    is_worth: dict[str, tuple[bool, bool]] = {}
    for word in known:
        more = prose[word] - LETTER * addresses.get(word, 0)
        first = prose[word] - (1 + LETTER * len(word)) * addresses.get(word, 0) + behind[word]
        is_worth[word] = first > won[word], more > 0
        behind[word[:-1]] += behind[word] + max(more, 0)
        won[word[:-1]] += max(first, won[word])
    found: set[str] = set()
    begun: set[str] = set()  # beginnings of which some letters are out
    for word in reversed(known):
        is_begun = word[:-1] in begun
        if is_worth[word][is_begun]:
            found.add(word)
        if is_begun or is_worth[word][0]:
            begun.add(word)
    return {word for word in found if word.isascii()}


def entries(beginnings: set[str]) -> Iterator[str]:
    """`inf.orm` for info, infor and inform; the longest first."""
    told: set[str] = set()
    for word in sorted(beginnings, key=lambda word: (-len(word), word)):
        size = len(word)
        while size and word[:size] in beginnings and word[:size] not in told:
            told.add(word[:size])
            size -= 1
        if size < len(word):
            yield f"{word[:size]}.{word[size:]}"


def lines(words: list[str]) -> Iterator[str]:
    line = ""
    for word in words:
        if len(line) + len(word) >= WIDTH:
            yield line
            line = ""
        line += f" {word}" if line else word
    yield line


def shares(runs: list[str]) -> dict[str, float]:
    found = Counter(run[:size] for run in runs for size in range(1, min(len(run), facts.LONGEST) + 1))
    return {word: count / len(runs) for word, count in found.items()}


def letters(table: set[str], word: str) -> int:
    """How many of its first letters leave before it has ended."""
    return next((size for size in range(min(len(word), facts.LONGEST), 0, -1) if word[:size] in table), 0)


def main() -> int:
    table = chosen(facts.prose(), shares(facts.addresses(ADDRESSES, seed=1)))
    TABLE.write_text(HEAD + "".join(f"{line}\n" for line in lines(sorted(entries(table)))))
    print(f"{TABLE.name}: {TABLE.stat().st_size} bytes, {len(table)} beginnings")
    for name, runs in (
        ("made of the names that the table knows", facts.addresses(100_000, seed=9)),
        ("made of other people's names", facts.other_addresses(100_000, seed=5)),
    ):
        left = sorted(letters(table, run) for run in runs)
        told = ", ".join(f"at most {most} of {bisect_right(left, most) / len(left):.1%}" for most in (1, 2, 3, 4))
        print(f"addresses {name}: no letter leaves of {bisect_right(left, 0) / len(left):.1%}, {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
