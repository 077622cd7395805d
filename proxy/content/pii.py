"""Personal data and secrets in a text: where they are, and of which kind.

What it stops: what people paste without thinking, however it is grouped, and in digits of any script. What it doesn't:
names and addresses, numbers that nothing announces (numbers.py, secrets.py), and anybody who wants to get one through.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Literal, get_args

import re2

from proxy.content import Span
from proxy.content.folding import Folded, fold
from proxy.content.numbers import numbers
from proxy.content.secrets import secrets

Kind = Literal["card", "iban", "account", "phone", "email", "ssn", "policy", "secret"]
Exclusion = Literal["test_cards", "example_domains"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Where two overlap, the earlier in this list is told.
_RANK = {
    kind: rank for rank, kind in enumerate(("secret", "iban", "card", "email", "ssn", "policy", "account", "phone"))
}

# Nothing of what is looked for is without a digit, an @ or its spelling, the underscore of a token, or the sign of a
# password.
_SIGN = re.compile("[0-9@_]")
_WORTH_A_LOOK = re2.compile(
    r"(?i)[(\[{] ?at ?[)\]}]|&commat| dot [a-z]|arroba|arobase|chiocciola|klammeraffe|собака| at [a-z]+\."
    r"|[a-z][#$%^*+~!][a-z]|\s-p\S|identified by|with password"
)
_NUMBERS = ("card", "iban", "account", "phone", "ssn", "policy")
_LETTER = "A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u052f\u0590-\u05ff\u0620-\u064a\u0900-\u097f\u0300-\u036f"
_AT = r"(?:@|%40|&(?:#64|#x40|commat);| ?[(\[] ?(?:at|AT|@) ?[)\]] ?)"
_DOT = r"(?:[.\u3002\uff61]|%2[Ee]| ?[(\[] ?(?:dot|DOT|\.) ?[)\]] ?)"
# Spelled with blanks or words: only with a domain that is common, and not behind a word that an @ follows in prose.
_COMMON = (
    "com|org|net|info|biz|edu|gov|io|dev|app|ai|eu|de|ch|fr|es|pt|br|nl|pl|cz|sk|hu|ro|bg|gr|tr|ru|ua|uk|ie|dk|se|fi|ee|lv|lt"
    "|cn|jp|kr|tw|hk|sg|th|vn|id|in|pk|il|ae|sa|ir|eg|ma|za|ng|ke|au|nz|ca|mx|ar|cl|co|pe|example|test"
)
_AT_SPELLED, _DOT_SPELLED = r" ?[(\[{] ?at ?[)\]}] ?", r" ?[(\[{] ?dot ?[)\]}] ?"
_AT_ABROAD = " (?:arroba|arobase|chiocciola|klammeraffe|собака) "
_DOT_ABROAD = " (?:punto|ponto|point|punkt|точка) "
_MAILERS = "gmail|googlemail|yahoo|hotmail|outlook|icloud|gmx|web|aol|proton(?:mail)?|mail|yandex|qq|163"
_NAME = r"[\w-]{2,62}"
_APART = re2.compile(
    r"(?i)(?:^|[^\w.+%-])(\w[\w.+%-]{0,63}(?:"
    rf"(?: {{1,2}}@ {{0,2}}| {{0,2}}@ {{1,2}})(?:[\w-]{{1,62}}(?:\.| \. )){{1,4}}(?:{_COMMON})"
    rf"|@(?:{_NAME}\.)?{_NAME},(?:{_COMMON})"
    rf"|(?: at |{_AT_SPELLED}){_NAME}(?:(?: dot |{_DOT_SPELLED}|\.){_NAME}){{0,3}}(?: dot |{_DOT_SPELLED})(?:{_COMMON})"
    rf"|(?:{_AT_SPELLED}|{_AT_ABROAD}){_NAME}(?:(?:\.|{_DOT_ABROAD}){_NAME}){{0,3}}(?:\.|{_DOT_ABROAD})(?:{_COMMON})"
    rf"| at (?:{_MAILERS})\.(?:{_COMMON})"
    r"))(?:[^\w.-]|[.-](?:\W|\z)|\z)"
)
_PROSE = frozenset(
    (
        *("a", "am", "an", "are", "at", "be", "been", "buy", "check", "click", "find", "found", "from", "go", "help"),
        *("her", "here", "him", "hosted", "is", "it", "live", "look", "looking", "me", "meet", "more", "now", "on"),
        *("online", "only", "out", "page", "price", "read", "sale", "see", "seen", "shop", "site", "sold", "start"),
        *("starting", "that", "them", "there", "this", "try", "us", "visit", "was", "watch", "we", "website", "were"),
        *("work", "working", "works", "you", "got", "has", "have", "my", "the", "use", "with", "and"),
        *("account", "address", "addresses", "accounts", "mailbox", "inbox", "mail", "email", "login", "log", "sign"),
        *("in", "problem", "problems", "signed", "logged", "registered", "user", "users"),
        *("people", "stuck", "then", "up"),
    )
)
_NO_WORD = re.compile(r"\W")
_DIGIT = re.compile(r"\d")
_MAIL_SIGN = re.compile(r"[@(\[{&%]")
_SPELLED_SIGN = re2.compile(rf"(?i) dot |{_AT_ABROAD}| at (?:{_MAILERS})\.")
_EMAIL = re.compile(
    rf"(?<![{_LETTER}_])([{_LETTER}_][{_LETTER}.+%_'&/=~-]{{0,63}}){_AT}(?![1-9]x[.@])"
    rf"(?:[{_LETTER}](?:[{_LETTER}-]{{0,61}}[{_LETTER}])?{_DOT}){{1,8}}(xn--[A-Za-z0-9-]{{2,59}}|(?:(?![0-9])[{_LETTER}]){{2,24}})"
    rf"(?![{_LETTER}])"
)
# Endings of files' names that no domain has; `logo@2x.png` is a picture, `ann@shop.org.png` one that tells an address.
_FILES = frozenset(
    (
        *("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html", "rb", "xml", "log"),
        *("pdf", "txt", "csv", "doc", "docx", "xls", "xlsx", "odt", "rtf", "eml", "vcf"),
    )
)
# In front of an address, in an address of the web: a path, and fields of a query.
_IN_FRONT = re.compile(r"(?:.*/)?(?:(?:[^=&]*=[^=&]*&)*[A-Za-z_]{1,32}=)?")
# What processors document for testing: Stripe, Adyen, Braintree, PayPal, Visa, Mastercard.
_TEST_CARDS = frozenset(
    {
        "4242424242424242", "4000056655665556", "5555555555554444", "2223003122003222", "5200828282828210",
        "5105105105105100", "378282246310005", "371449635398431", "6011111111111117", "6011000990139424",
        "6011981111111113", "3056930009020004", "36227206271667", "6555900000604105", "3566002020360505",
        "6200000000000005", "6200000000000047", "6205500000000000004", "4000000000000002", "4111111111111111",
        "4012888888881881", "4222222222222", "30569309025904", "38520000023237", "378734493671000",
        "3530111333300000", "5019717010103742", "6331101999990016", "5610591081018250",
    }
)  # fmt: skip
_EXAMPLES = re.compile(
    r"[@.](?:example(?:\.(?:com|net|org|edu))?|[a-z0-9-]+\.(?:test|example|invalid))\Z", re.IGNORECASE
)


def find(text: str, kinds: Collection[str] = KINDS, exclude: Collection[str] = ()) -> tuple[Span, ...]:
    """Spans of those kinds in the text, sorted, not overlapping. Linear in its length.

    `exclude`: what to leave alone of it, see Exclusion.
    """
    folded = fold(text)
    if _SIGN.search(folded.text) is None and _WORTH_A_LOOK.search(folded.text) is None:
        return ()
    found = [span for span in _found(folded.text, kinds) if span.kind in kinds]
    if exclude:
        found = [span for span in found if not _is_excluded(folded.text[span.start : span.end], span.kind, exclude)]
    return _apart(found, folded)


def _found(text: str, kinds: Collection[str]) -> list[Span]:
    found: list[Span] = []
    if "secret" in kinds:
        found += secrets(text)
    if "email" in kinds and _has_email(text):
        found += _emails(text)
        found += _emails_apart(text)
    if not set(_NUMBERS).isdisjoint(kinds) and _DIGIT.search(text):
        found += numbers(text)
    return found


def _has_email(text: str) -> bool:
    return _MAIL_SIGN.search(text) is not None or _SPELLED_SIGN.search(text) is not None


def _emails(text: str) -> Iterator[Span]:
    for match in _EMAIL.finditer(text):
        found: re.Match[str] | None = match
        if match[2].lower() in _FILES:
            found = _EMAIL.fullmatch(text, match.start(), match.start(2) - 1)
        if found is None or found[2].lower() in _FILES or found[0].startswith("git@"):
            continue
        start = found.end(1) - len(_IN_FRONT.sub("", found[1], count=1))
        if start < found.end(1):  # else it is a name on a site, as in video.example/@ann.bee
            yield Span(start, found.end(), "email")


def _emails_apart(text: str) -> Iterator[Span]:
    """Addresses with blanks around their @, or with words in place of it."""
    for match in _APART.finditer(text):
        is_prose = " at the " in match[1].lower() or _NO_WORD.split(match[1], 1)[0].lower() in _PROSE
        if not is_prose and not match[1][0].isdigit():
            yield Span(match.start(1), match.end(1), "email")


def _apart(found: list[Span], folded: Folded) -> tuple[Span, ...]:
    """Each character belongs to one span at most: to the more telling kind, then to the longer span."""
    taken: list[Span] = []
    for span in sorted(found, key=lambda span: (_RANK[span.kind], span.start - span.end, span.start)):
        if all(span.end <= other.start or other.end <= span.start for other in taken):
            taken.append(span)
    return tuple(Span(*folded.original(span.start, span.end), span.kind) for span in sorted(taken))


def _is_excluded(value: str, kind: str, exclude: Collection[str]) -> bool:
    if kind == "card" and "test_cards" in exclude:
        return "".join(filter(str.isdigit, value)) in _TEST_CARDS
    return kind == "email" and "example_domains" in exclude and _EXAMPLES.search(value) is not None
