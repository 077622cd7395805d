"""Numbers that are somebody's: cards, IBANs, social security, bank accounts, insurance policies, phones.

Told apart by checksum and form first, by the words beside them where form says too little. What it doesn't find: an
account or a policy that no word announces, a national phone number of no known form without one, numbers in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import re2

from proxy.content import Span
from proxy.content.checksums import card_lengths, iban_length, is_iban, is_insured, is_social, luhn
from proxy.content.hints import Hints
from proxy.content.phones import phone_end
from proxy.content.runs import Run, runs

_IBAN = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=IBAN))[A-Za-z]{2}[0-9]{2}(?=[ ./\-\t\r\n]{0,3}[A-Za-z0-9])")
_IBAN_APART = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=IBAN))[A-Z]{2}(?: {1,2}[0-9] {0,2}|[0-9] {1,2})[0-9](?= {0,2}[A-Z0-9])"
)
_IBAN_GOES_ON = re.compile(r"[A-Za-z0-9]")
_IBAN_BETWEEN = re.compile(r"[ ./\-\t\r\n]{1,3}")
# Cards in their own grouping, whatever one separator that is; a list of numbers has a comma and a space.
_PRINTED = re.compile(
    r"(?<![0-9A-Za-z])[0-9]{4}([^0-9A-Za-z,:]{1,3}|,)(?:[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,4}){0,2}|[0-9]{6}\1[0-9]{4,5})"
    r"(?![0-9A-Za-z])"
)
_LINE_ABOVE = re.compile(r"[0-9]\r?\n\Z")
# The same, broken by the end of a line or by a blank too many; the second group is what cards of 19 digits have more.
_GAP = r"(?:[ \t]{1,3}|[ \t]?\r?\n[ \t]?)"
_WRAPPED = re.compile(
    rf"(?<![0-9A-Za-z])([0-9]{{4}}{_GAP}(?:[0-9]{{4}}{_GAP}[0-9]{{4}}{_GAP}[0-9]{{1,4}}|[0-9]{{6}}{_GAP}[0-9]{{4,5}}))"
    rf"({_GAP}[0-9]{{1,3}})?(?![0-9A-Za-z])"
)
_UNEVEN = ([4, 6, 5], [4, 6, 4])  # American Express, Diners Club
# Behind its word a card is grouped as people happen to type, also over two lines.
_ANNOUNCED = re2.compile(
    r"(?i)(?:\bcards?|credit ?cards?|kredit\w*|\bkarte|\bkart[yęai]|tarjeta|cart[ãa]o|\bcart[ae]\b|\bcb|kaart|карт|卡"
    r"|カード|카드|بطاق)[^0-9]{0,30}?([0-9](?:[ \t.-]{0,3}(?:\r?\n)?[0-9]){11,18})(?:[^0-9]|\z)"
)
_LEFT_PART = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{1,5}-?\Z")
_RIGHT_PART = re.compile(r"(?:-?[A-Za-z0-9]{1,4}(?![A-Za-z0-9]))?")
# Medicare beneficiary identifier: https://www.cms.gov/medicare/new-medicare-card, "Understanding the MBI".
_MBI_LETTER, _MBI_EITHER = "[AC-HJKMNP-RT-Y]", "[AC-HJKMNP-RT-Y0-9]"
_MBI = re.compile(
    rf"(?<![A-Za-z0-9-])[1-9]{_MBI_LETTER}{_MBI_EITHER}[0-9]-?{_MBI_LETTER}{_MBI_EITHER}[0-9]-?{_MBI_LETTER}{{2}}[0-9]{{2}}"
    r"(?![A-Za-z0-9-])"
)
_INSURED = re.compile(r"(?<![A-Za-z0-9-])[A-Za-z][0-9]{9}(?![A-Za-z0-9-])")  # German health insurance (KVNR)
LEAST_DIGITS = 5  # of what is looked at
MOST_DIGITS = 19  # of a card
MOST_ACCOUNT = 29  # an IBAN has at most 30 behind its country and check digits


def numbers(text: str) -> Iterator[Span]:
    """Spans of all kinds that numbers have, in no order; they may overlap. `text` is folded."""
    hints = Hints(text)
    yield from _ibans(text)
    yield from _grouped(text)
    yield from _announced(text)
    for match in _MBI.finditer(text):
        yield Span(match.start(), match.end(), "policy")
    for match in _INSURED.finditer(text):
        if is_insured(match[0]) and (text.strip() == match[0] or hints.at(match.start()) == "policy"):
            yield Span(match.start(), match.end(), "policy")
    for run in runs(text, LEAST_DIGITS):
        found = [*_cards(run), *_socials(run, hints)]
        if found and len(run.groups) == 1 and hints.at(run.start) == "thing":
            found = []  # one number in ten has a right check digit, also those of parcels
        yield from found or _whole(run, hints)


def _grouped(text: str) -> Iterator[Span]:
    """Cards that are grouped as on the card."""
    for match in _PRINTED.finditer(text):
        if _is_card(match[0]) and not _is_in_column(text, match):
            yield Span(match.start(), match.end(), "card")
    for match in _WRAPPED.finditer(text):
        for end in (match.end(), match.end(1)):
            written = text[match.start() : end]
            if written != " ".join(written.split()) and _is_card(written) and not _is_in_column(text, match):
                yield Span(match.start(), end, "card")


def _is_in_column(text: str, match: re.Match[str]) -> bool:
    """Are its groups lines of their own, below another number?"""
    return " " not in match[0] and _LINE_ABOVE.search(text, max(0, match.start() - 3), match.start()) is not None


def _announced(text: str) -> Iterator[Span]:
    for match in _ANNOUNCED.finditer(text):
        places = [at for at in range(*match.span(1)) if text[at].isdigit()]
        digits = "".join(text[at] for at in places)
        for count in sorted(card_lengths(digits[:6]), reverse=True):
            is_group = count <= len(places) and not text[places[count - 1] + 1 : places[count - 1] + 2].isdigit()
            if is_group and luhn(digits[:count]):
                yield Span(places[0], places[count - 1] + 1, "card")
                break


def _is_card(written: str) -> bool:
    digits = "".join(filter(str.isdigit, written))
    return len(digits) in card_lengths(digits[:6]) and luhn(digits)


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        end, iban = _iban(text, match.start())
        if iban and is_iban(iban):
            yield Span(match.start(), end, "iban")
    for match in _IBAN_APART.finditer(text):  # words make one more easily: in capitals, and mostly digits
        end, iban = _iban(text, match.start())
        if iban and iban == text[match.start() : end].replace(" ", "") and _is_mostly_digits(iban) and is_iban(iban):
            yield Span(match.start(), end, "iban")


def _iban(text: str, start: int) -> tuple[int, str]:
    """Where what has an IBAN's length ends, and that without separators, in capitals; "" where nothing has."""
    left, at, chars = iban_length(text[start : start + 2].upper()), start, ""
    while left and at < len(text):
        if text[at].isascii() and text[at].isalnum():
            chars += text[at]
            left -= 1
            at += 1
        elif between := _IBAN_BETWEEN.match(text, at):
            at = between.end()
        else:
            break
    # Letters of other scripts may follow: Chinese has no blanks, Korean puts particles behind.
    return at, "" if left or _IBAN_GOES_ON.match(text, at) else chars.upper()


def _is_mostly_digits(iban: str) -> bool:
    return sum(map(str.isdigit, iban)) * 2 >= len(iban)


def _cards(run: Run) -> Iterator[Span]:
    """Any number of them, also with something else behind or in front."""
    if run.count < 12 or not run.is_apart:
        return
    at = offset = 0
    while at < len(run.groups):
        last = _card_end(run, at, run.digits[offset : offset + MOST_DIGITS])
        if last:
            yield Span(run.groups[at][0], run.groups[last - 1][1], "card")
        offset += sum(run.sizes[at : last or at + 1])
        at = last or at + 1


def _card_end(run: Run, at: int, digits: str) -> int:
    """Behind which group a card ends that begins with group `at` and these digits; the last such, 0 for none.

    Its groups are separated by one and the same, and of one size but for the last, or 4-6-5.
    """
    if len(digits) < 12 or not (lengths := card_lengths(digits[:6])):
        return 0
    found, count, is_even = 0, run.sizes[at], True
    if count in lengths and luhn(digits[:count]):
        found = at + 1
    for last in range(at + 1, min(at + MOST_DIGITS, len(run.groups))):
        apart = run.between[last - 1]
        is_even = is_even and run.sizes[last - 1] == run.sizes[at]
        if apart != run.between[at] or apart in "/()" or not (is_even or run.sizes[at : last + 1] in _UNEVEN):
            break
        count += run.sizes[last]
        if count in lengths and luhn(digits[:count]):
            found = last + 1
    return found


def _socials(run: Run, hints: Hints) -> Iterator[Span]:
    for at in range(len(run.sizes) - 2):
        apart = run.between[at]
        if run.sizes[at : at + 3] != [3, 2, 4] or run.between[at + 1] != apart or apart not in ("-", " "):
            continue
        part = run.part(at, at + 3)
        goes_on = run.between[max(0, at - 1) : at] == [apart] or run.between[at + 2 : at + 3] == [apart]
        if not goes_on and part.is_apart and is_social(part.digits) and hints.at(part.start) != "phone":
            yield Span(part.start, part.end, "ssn")


def _whole(run: Run, hints: Hints) -> Iterator[Span]:
    """What the run is as one number, where it holds no card and no social security number."""
    left = _LEFT_PART.search(run.text, max(0, run.start - 7), run.start)
    start = left.start() if left else run.start
    said = hints.at(start)
    if said == "policy":
        right = _RIGHT_PART.match(run.text, run.end)
        yield Span(start, right.end() if right else run.end, "policy")
    elif said == "account" and not left and 5 < run.count < MOST_ACCOUNT and not (run.is_date or run.is_amount):
        yield Span(run.start, run.end, "account")
    elif said == "ssn" and run.count == 9 and is_social(run.digits):
        yield Span(run.start, run.end, "ssn")
    elif end := phone_end(run, said):
        yield Span(run.start, end, "phone")
