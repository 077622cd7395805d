"""API keys and embed keys: made here, kept as hashes, known again without telling how close a guess came.

An API key is a secret: it names a site, says what it may do, and whose sessions it has. An embed key is public: it is
in a page, and opens sessions for pages of its site. What it stops: guessed, expired and foreign keys; a configuration
that others read gives no key away. What it doesn't: an embed key copied out of a page by a program that claims the
page's origin; limits are for that.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from proxy.config import Section
from proxy.guard.customer_token import JwtSettings

Kind = Literal["api", "embed"]
Scope = Literal["chat", "read"]
PREFIX: Mapping[Kind, str] = {"api": "sgk", "embed": "sge"}
MAX_KEYS = 1000
MAX_KEY_CHARS = 512
_MADE = re.compile(r"sg[ke]_([0-9a-f]{8})_[A-Za-z0-9_-]{16,}")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


def _is_hash(value: str) -> str:
    if not _HASH.fullmatch(value):
        raise ValueError("not a key's hash; write what `sidegate keys hash` prints, sha256:… in small letters")
    return value


def _is_time(value: str) -> str:
    try:
        moment(value)
    except ValueError:
        raise ValueError("not a date; write 2027-01-31, or 2027-01-31T12:00:00Z") from None
    return value


def moment(value: str) -> float:
    """Unix time of a date (its first second) or of a date and time (ISO 8601), in UTC where nothing else is said."""
    parsed = datetime.fromisoformat(value)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


Hash = Annotated[str, AfterValidator(_is_hash)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Expiry = Annotated[str, AfterValidator(_is_time)]


class ApiKeySettings(Section):
    """A key for programs. Keys of one `owner` have the same sessions, so a key can be changed without losing them."""

    name: Name
    hash: Hash
    site: str = ""  # once loaded there is one: the only site where none is written
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("chat",)
    expires: Expiry | None = None
    owner: Name | None = None

    @property
    def ends(self) -> float:
        return inf if self.expires is None else moment(self.expires)


class EmbedKeySettings(Section):
    """A key for a page. Several at once, so that one can be changed for the next."""

    hash: Hash
    name: Name | None = None
    expires: Expiry | None = None

    @property
    def ends(self) -> float:
        return inf if self.expires is None else moment(self.expires)

    @property
    def label(self) -> str:
        return self.name or self.hash[7:15]


class FailureSettings(Section):
    """Credentials that nobody was given, per address and per API key: `limit` in a minute, twice that in ten minutes,
    three times that in an hour."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 20


class KeySettings(Section):
    api: Annotated[tuple[ApiKeySettings, ...], Field(max_length=MAX_KEYS)] = ()
    jwt: JwtSettings = JwtSettings()
    failures: FailureSettings = FailureSettings()


def new_key(kind: Kind) -> str:
    """A random key of 192 bits, with an id in it that may be told. Characters that need no quotes anywhere."""
    return f"{PREFIX[kind]}_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}"


def hash_of(key: str) -> str:
    """As it is configured. A plain hash will do for a random key; one that somebody made up can be guessed from it."""
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()}"


def key_id(key: str) -> str | None:
    """The id in a key that was made here, or in what looks like one."""
    made = _MADE.fullmatch(key)
    return made[1] if made else None


def shown(key: str) -> str:
    """What may be told of a credential: its id, or the beginning of its hash."""
    return key_id(key) or hash_of(key)[:15]


class Keys:
    """Finds a key's entry in constant time. What is looked up is a keyed hash of the key's hash, with a key that only
    this process has: how long that takes says nothing about any real one."""

    def __init__(self, api: Iterable[ApiKeySettings], embed: Mapping[str, Sequence[EmbedKeySettings]]) -> None:
        self._blind = secrets.token_bytes(32)
        self._api = {self._mark(key.hash): key for key in api}
        self._named = {key.name: key for key in self._api.values()}
        self._embed = {self._mark(key.hash): (site, key) for site, keys in embed.items() for key in keys}

    def api(self, key: str) -> ApiKeySettings | None:
        return self._api.get(self._mark(hash_of(key)))

    def embed(self, key: str) -> tuple[str, EmbedKeySettings] | None:
        """The key, and the name of its site."""
        return self._embed.get(self._mark(hash_of(key)))

    def named(self, name: str) -> ApiKeySettings | None:
        return self._named.get(name)

    def _mark(self, hashed: str) -> bytes:
        return hmac.digest(self._blind, hashed.encode(), "sha256")
