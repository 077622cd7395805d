"""Stretches of digits with what people put between them: where they are, how they are grouped, what is beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

# A line break, a comma or a semicolon ends a number.
_RUN = re.compile(r"\+?\(?\+?[0-9](?:(?:[ .\-/\t]|\)[ .\-/]?|[ \-]?\(| - )?[0-9])*")
_GROUP = re.compile(r"[0-9]+")
# One or two letters right in front of a number are a part of it, a word isn't: `RS35` is no 35, `Visa4111` is 4111.
# An underscore alone joins nothing: names of files have it between their parts, Markdown around words.
_JOINED_LEFT = re.compile(r"(?<![A-Za-z])[A-Za-z]{1,2}_?\Z")
_JOINED_RIGHT = re.compile(r"[A-Za-z]")
_SIGNS = "[€$£¥₽₹₺₩₴฿円元원]"
_CODES = "EUR|USD|GBP|CHF|PLN|TRY|RUB|JPY|INR|SEK|NOK|DKK|zł|Ft|kr|Kč|TL|lei|руб"  # noqa: RUF001 - in Cyrillic
_AMOUNT_BEHIND = re.compile(
    rf"(?:[.,][0-9]{{1,2}}(?![0-9]))? ?(?:{_SIGNS}(?![0-9])|(?:{_CODES})(?![A-Za-z]))", re.IGNORECASE
)
_COUNTED = re.compile(
    r" (?:seconds|minutes|hours|days|users|people|customers|visitors|times|records|rows|items|files|messages|requests"
    r"|bytes|points|views|followers|euros?|dollars|[kmg]b|km|ms|menschen|personen|nutzer|kunden|personnes|clients"
    r"|personas|pessoas|persone|mensen|osób|kişi|человек)\b",
    re.IGNORECASE,
)
_AMOUNT_BEFORE = re.compile(rf"(?:{_SIGNS}|\b(?:EUR|USD|GBP|CHF|Rp|Rs)\.?) ?\Z", re.IGNORECASE)


_COMPACT_DATE = re.compile("(?:19[3-9]|20[0-3])[0-9](?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")


class Run:
    """`text[start:end]`. `groups` are the places of its digits."""

    def __init__(self, text: str, start: int, groups: Sequence[tuple[int, int]]) -> None:
        self.text = text
        self.start = start
        self.end = groups[-1][1]
        self.groups = groups
        self.sizes = [end - start for start, end in groups]
        self.count = sum(self.sizes)

    @cached_property
    def between(self) -> list[str]:
        """What separates the groups."""
        return [self.text[one[1] : other[0]] for one, other in pairwise(self.groups)]

    @cached_property
    def digits(self) -> str:
        return "".join(self.text[start:end] for start, end in self.groups)

    @property
    def prefix(self) -> str:
        """In front of the first digit: +, (, both or nothing."""
        return self.text[self.start : self.groups[0][0]]

    @property
    def before(self) -> str:
        return self.text[self.start - 1 : self.start]

    @property
    def after(self) -> str:
        return self.text[self.end : self.end + 1]

    @property
    def is_apart(self) -> bool:
        """Is it no part of a longer name?"""
        return not self.is_joined_left and not _JOINED_RIGHT.match(self.text, self.end)

    @cached_property
    def is_joined_left(self) -> bool:
        return _JOINED_LEFT.search(self.text, max(0, self.start - 3), self.start) is not None

    def part(self, first: int, last: int) -> Run:
        """The groups from `first` to before `last`, as a number of their own."""
        return Run(self.text, self.groups[first][0], self.groups[first:last])

    @property
    def is_amount(self) -> bool:
        """Is it money, or the number of something, or a fraction in hundredths?"""
        return (
            (self.between == ["."] and self.sizes[1] < 3)
            or _COUNTED.match(self.text, self.end) is not None
            or _AMOUNT_BEHIND.match(self.text, self.end) is not None
            or _AMOUNT_BEFORE.search(self.text, max(0, self.start - 5), self.start) is not None
        )

    @property
    def is_date(self) -> bool:
        """Does it begin as a date does (2024-01-31, 31.01.2024, 1/31/24, 20240131), or is it a span of times
        (9.30-10.15)?
        """
        if self.between == [".", "-", "."] and max(self.sizes) < 3:
            return True
        if self.sizes == [8]:
            return _COMPACT_DATE.fullmatch(self.digits) is not None
        if self.sizes == [2, 2, 2] and self.between in ([".", "."], ["-", "-"], ["/", "/"]):
            one, two = (int(self.text[start:end]) for start, end in self.groups[:2])
            return 0 < min(one, two) < 13 and max(one, two) < 32
        if len(self.sizes) < 3 or self.between[0] != self.between[1]:
            return False
        one, two, three = self.sizes[:3]
        first, second, third = (int(self.text[start:end][:4]) for start, end in self.groups[:3])
        if one == 4:
            return max(two, three) < 3 and 1800 < first < 2200 and 0 < second < 13
        return three == 4 and max(one, two) < 3 and 1800 < third < 2200 and min(first, second) < 13


def runs(text: str, least: int) -> Iterator[Run]:
    """All runs of at least so many digits."""
    for match in _RUN.finditer(text):
        if match.end() - match.start() >= least:
            run = Run(text, match.start(), [group.span() for group in _GROUP.finditer(text, *match.span())])
            if run.count >= least:
                yield run
