"""Tokens that the customer's own identity provider issues: JWTs (RFC 7519), judged as RFC 8725 asks for.

What it stops: forged, expired, early and foreign tokens, other algorithms than the ones named, keys or key addresses in
a token's header (nobody looks at them). What it doesn't: a token stolen while it is good; and whether its holder still
works there is the provider's to say, by short lives.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, urlsplit

import orjson
from pydantic import Field, field_validator, model_validator

from proxy.config import Secret, Section
from proxy.errors import AuthFailed, CredentialEnded
from proxy.guard.jwk import SHARED, Algorithm, Key, UnusableKey, from_text
from proxy.guard.jwks import KeySource
from proxy.model import Site
from proxy.wire.jws import Jws, Malformed, parse

MAX_VERIFIED = 4096
MAX_CLAIM_CHARS = 255  # OpenID Connect Core section 2, of `sub`
Claims = Mapping[str, object]


class JwtSettings(Section):
    """The customer's identity provider: where its keys are, and what its tokens have to say. Times in seconds."""

    jwks_url: str | None = None
    key: Secret | None = None
    issuer: str | None = None
    audience: str | tuple[str, ...] | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256",)
    leeway: Annotated[int, Field(ge=0, le=300)] = 10
    required: tuple[str, ...] = ()
    type: str | None = None
    site_claim: str | None = None

    @property
    def is_on(self) -> bool:
        return self.jwks_url is not None or self.key is not None

    @property
    def audiences(self) -> frozenset[str]:
        written = self.audience
        return frozenset(() if written is None else (written,) if isinstance(written, str) else written)

    def static_key(self) -> Key | None:
        """Raises ValueError where it is written, and isn't one."""
        return None if self.key is None else from_text(self.key.reveal(), self.algorithms)

    @field_validator("jwks_url")
    @classmethod
    def _is_url(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment or "@" in parts.netloc:
                raise ValueError("not the address of a key set; write https://idp.example/.well-known/jwks.json")
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> JwtSettings:
        if self.jwks_url is not None and self.key is not None:
            raise ValueError("keys come from jwks_url or from key; keep one of them")
        shared = SHARED.intersection(self.algorithms)
        if shared and (self.jwks_url is not None or len(shared) < len(self.algorithms)):
            raise ValueError("HS256 and its like take a shared secret in `key`, and no other algorithm beside them")
        try:
            self.static_key()
        except UnusableKey as error:
            raise ValueError(f"key: {error}; write a public key in PEM, a JWK, or the secret of HS256") from None
        return self


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a good token speaks for. Unix times: `ends` is its `exp` with the leeway, `born` its `iat` or now."""

    owner: str
    ends: float
    born: float
    claims: Claims


class CustomerTokens:
    """`clock` gives Unix time."""

    def __init__(self, settings: JwtSettings, keys: KeySource, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock
        # Signatures that were found good, and by which key. Whether that key is still one is asked each time.
        self._verified: OrderedDict[str, tuple[Key, Claims]] = OrderedDict()

    async def verify(self, token: str) -> Holder:
        """Raises AuthFailed; CredentialEnded for one that is good, but not now; KeysUnavailable."""
        try:
            jws = parse(token)
        except Malformed as error:
            raise AuthFailed(f"jwt: {error}") from None
        algorithm, kid = self._header(jws)
        key = await self._keys.find(kid, algorithm)
        known = self._verified.get(token)
        if known is None or known[0] is not key:
            if not key.verifies(algorithm, jws.signed, jws.signature):
                raise AuthFailed("jwt: the signature is not good")
            known = self._verified[token] = key, _claims(jws)
            if len(self._verified) > MAX_VERIFIED:
                self._verified.popitem(last=False)
        return self._holder(known[1])

    def sites(self, holder: Holder, sites: Sequence[Site]) -> tuple[Site, ...]:
        """Those of these sites that the token is for. Raises AuthFailed where it is none."""
        claim = self._settings.site_claim
        found = tuple(site for site in sites if claim is None or holder.claims.get(claim) == site.name)
        if not found:
            raise AuthFailed("jwt: keys.jwt.site_claim names another site")
        return found

    def _header(self, jws: Jws) -> tuple[str, str | None]:
        """The algorithm, one of ours, and the key's name. `jku`, `jwk`, `x5u` and `x5c` are never looked at."""
        header = jws.header
        algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
        if not isinstance(algorithm, str) or algorithm not in self._settings.algorithms:
            raise AuthFailed("jwt: alg is not one of keys.jwt.algorithms")
        if "crit" in header or "b64" in header:  # RFC 7515 section 4.1.11: nothing of that kind is understood here
            raise AuthFailed("jwt: it has critical extensions")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= MAX_CLAIM_CHARS):
            raise AuthFailed("jwt: kid is no short text")
        if self._settings.type is not None and (not isinstance(kind, str) or _type(kind) != _type(self._settings.type)):
            raise AuthFailed("jwt: typ is not keys.jwt.type")
        return algorithm, kid

    def _holder(self, claims: Claims) -> Holder:
        settings, now, leeway = self._settings, self._clock(), self._settings.leeway
        for name in settings.required:
            if claims.get(name) is None:
                raise AuthFailed(f"jwt: {name} is missing")
        subject, issuer, audience = claims.get("sub"), claims.get("iss"), claims.get("aud")
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_CLAIM_CHARS or not subject.isprintable():
            raise AuthFailed("jwt: sub is missing, or no short text")
        if settings.issuer is not None and issuer != settings.issuer:
            raise AuthFailed("jwt: iss is not keys.jwt.issuer")
        if issuer is not None and not (isinstance(issuer, str) and len(issuer) <= MAX_CLAIM_CHARS):
            raise AuthFailed("jwt: iss is no short text")
        said = {name for name in (audience if isinstance(audience, list) else [audience]) if isinstance(name, str)}
        if settings.audiences and not said & settings.audiences:
            raise AuthFailed("jwt: aud is not keys.jwt.audience")
        ends, begins, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
        if ends is None:
            raise AuthFailed("jwt: exp is missing")
        if now >= ends + leeway:
            raise CredentialEnded("jwt: it has expired")
        if max(begins or 0, issued or 0) > now + leeway:
            raise CredentialEnded("jwt: it is not good yet")
        return Holder(owner_of(issuer, subject), ends + leeway, now if issued is None else issued, claims)


def owner_of(issuer: str | None, subject: str) -> str:
    """One name for one person of one issuer: no `#` is left in what stands before the first one."""
    return f"jwt:{quote(issuer or '', safe=':/.-_~')}#{subject}"


def _claims(jws: Jws) -> Claims:
    try:
        claims = orjson.loads(jws.payload)
    except orjson.JSONDecodeError:
        raise AuthFailed("jwt: the claims are not JSON") from None
    if not isinstance(claims, dict):
        raise AuthFailed("jwt: the claims are no object")
    return claims


def _time(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise AuthFailed(f"jwt: {name} is no number")
    return float(value)


def _type(value: str) -> str:
    """Media types compare without case, and `application/` may be left out (RFC 7515 section 4.1.9)."""
    return value.lower().removeprefix("application/")
