"""What stands for personal data on its way upstream, `[EMAIL_1]`, and what that stands for.

A value has the same placeholder throughout its session, the next one the next number. Whatever in a visitor's own text
looks like a placeholder gets one too, `[LITERAL_1]`: so it comes back as it was typed, and as nothing else.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.content import Span
from proxy.content.folding import fold
from proxy.content.names import announcement, is_password
from proxy.content.pii import KINDS, find

LITERAL = "literal"
MAX_VALUES = 500  # of a session; what comes on top is masked one way
MAX_CHARS = 65_536  # in them
NONCE_BYTES = 12  # NIST SP 800-38D section 8.2.2
_NAMES = "|".join(kind.upper() for kind in (*KINDS, LITERAL))
# Models like to write [EMAIL\_1] or \[EMAIL_1\], for Markdown's sake, forget the first of the two, and change capitals.
# A backslash in front alone may be the visitor's own, in front of what was masked.
PLACEHOLDER = re.compile(rf"(\\)?\[({_NAMES})\\?_([1-9][0-9]{{0,3}})(?(1)\\|\\?)\]", re.IGNORECASE | re.ASCII)
_BESIDE = re.compile(r"[\W_]+")


class Broken(Exception):
    """A vault that isn't what was sealed."""


class Vault:
    """One session's values. `is_changed` once it has a new one."""

    def __init__(self, entries: Collection[tuple[str, str]] = ()) -> None:
        self.is_changed = False
        self._entries: list[tuple[str, str]] = []
        self._placeholders: dict[tuple[str, str], str] = {}
        self._count: Counter[str] = Counter()
        self._left = MAX_CHARS
        for kind, value in entries:
            self._add(kind, value)

    def placeholder(self, kind: str, value: str) -> str:
        """What stands for the value from now on; without a number where there is no more room, and no way back."""
        known = self._placeholders.get((kind, _same(kind, value)))
        if known is not None:
            return known
        if len(self._entries) >= MAX_VALUES or len(value) > self._left:
            return one_way(kind, value)
        self.is_changed = True
        return self._add(kind, value)

    def values(self) -> dict[str, str]:
        """By placeholder."""
        return {self._placeholders[kind, _same(kind, value)]: value for kind, value in self._entries}

    def _add(self, kind: str, value: str) -> str:
        self._count[kind] += 1
        self._left -= len(value)
        self._entries.append((kind, value))
        placeholder = f"[{kind.upper()}_{self._count[kind]}]"
        self._placeholders[kind, _same(kind, value)] = placeholder
        return placeholder

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._entries)


def one_way(kind: str, value: str) -> str:
    """Stands for any value of that kind. What only looked like a placeholder stays as it was typed."""
    return value if kind == LITERAL else f"[{kind.upper()}]"


def look_alikes(text: str) -> list[Span]:
    """What a placeholder would be taken for, of kind `literal`; also once somebody has taken out what isn't seen."""
    folded = fold(text)
    if "[" not in folded.text:
        return []
    return [Span(*folded.original(*match.span()), LITERAL) for match in PLACEHOLDER.finditer(folded.text)]


class Masker:
    """Puts placeholders into texts and counts, by kind, what they stand for. Without a vault, there is no way back."""

    def __init__(self, kinds: Collection[str], exclude: Collection[str], vault: Vault | None) -> None:
        self._kinds = kinds
        self._exclude = exclude
        self._vault = vault
        self.counts: Counter[str] = Counter()

    def text(self, text: str, name: str = "") -> str:
        """`name`: of the field that holds it."""
        if is_password(name) and "secret" in self._kinds and text.strip():
            return self.replaced(text, [Span(0, len(text), "secret")])
        spans: Sequence[Span] = find(text, self._kinds, self._exclude)
        if before := announcement(name):
            told = find(before + text, self._kinds, self._exclude)
            spans = _beside([_moved(span, -len(before)) for span in told if span.end > len(before)], spans)
        return self.replaced(text, spans)

    def replaced(self, text: str, spans: Sequence[Span]) -> str:
        """The text, in which `spans` were found."""
        if self._vault is not None:
            spans = _beside(spans, look_alikes(text))
        out: list[str] = []
        at = 0
        for span in spans:
            value = text[span.start : span.end]
            out += text[at : span.start], (self._vault.placeholder if self._vault else one_way)(span.kind, value)
            at = span.end
            self.counts[span.kind] += span.kind != LITERAL
        return "".join((*out, text[at:])) if spans else text

    def fields(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Names and values. Two names that become the same are told apart by a number, so that no field is lost."""
        masked: dict[str, object] = {}
        for name, value in fields.items():
            shown = self.text(name)
            masked[f"{shown} {len(masked)}" if shown in masked else shown] = self.value(value, name)
        return masked

    def value(self, value: object, name: str = "") -> object:
        """A JSON value with all its texts masked; a number, where it is personal data, becomes a text."""
        match value:
            case str():
                return self.text(value, name)
            case dict():
                return self.fields(value)
            case list():
                return [self.value(item, name) for item in value]
            case bool() | None:
                return value
            case _:
                written = str(value)
                text = self.text(written, name)
                return value if text == written else text


def _moved(span: Span, by: int) -> Span:
    return Span(max(0, span.start + by), span.end + by, span.kind)


def _beside(spans: Sequence[Span], others: Iterable[Span]) -> Sequence[Span]:
    """All of the one, and what of the others overlaps none of them; sorted."""
    apart = [one for one in others if all(one.end <= span.start or span.end <= one.start for span in spans)]
    return sorted((*spans, *apart))


def _same(kind: str, value: str) -> str:
    """The same for two spellings of one value."""
    if kind in ("secret", LITERAL):
        return value
    folded = fold(value).text.casefold()
    return folded if kind == "email" else _BESIDE.sub("", folded)


class Safe:
    """Seals vaults for wherever they are kept: AES-256-GCM with a key for each session, under a name that says nothing.

    What it stops: reading and changing them, and handing one session another's. What it doesn't: deleting one, or
    putting an older state of the same one back.
    """

    def __init__(self, secret: bytes) -> None:
        self._names = hmac.digest(secret, b"sidegate vault names", "sha256")
        self._keys = hmac.digest(secret, b"sidegate vault keys", "sha256")

    def name(self, site: str, session: str) -> str:
        return hmac.digest(self._names, _identity(site, session), "sha256")[:20].hex()

    def seal(self, site: str, session: str, vault: Vault) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher(site, session).encrypt(nonce, orjson.dumps(list(vault)), _identity(site, session))

    def open(self, site: str, session: str, data: bytes) -> Vault:
        """Raises Broken."""
        try:
            plain = self._cipher(site, session).decrypt(
                data[:NONCE_BYTES], data[NONCE_BYTES:], _identity(site, session)
            )
        except (InvalidTag, ValueError) as error:  # ValueError: too short for a nonce
            raise Broken("a vault can't be opened") from error
        return Vault([(kind, value) for kind, value in orjson.loads(plain)])

    def _cipher(self, site: str, session: str) -> AESGCM:
        return AESGCM(hmac.digest(self._keys, _identity(site, session), "sha256"))


def _identity(site: str, session: str) -> bytes:
    return b"".join(len(part).to_bytes(4) + part for part in (site.encode(), session.encode()))


def restored(text: str, values: Mapping[str, str]) -> str:
    """The text with what its placeholders stand for. One that stands for nothing stays."""
    return PLACEHOLDER.sub(lambda match: values.get(f"[{match[2].upper()}_{match[3]}]", match[0]), text)
