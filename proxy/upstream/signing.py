"""The token that tells the upstream who asks and what was asked: a JWT (RFC 7519) that lives for a minute at most.

It proves that Sidegate let this very body pass. What it doesn't stop: n8n itself checks signature and `exp` alone, so
`aud`, `iss`, a token used twice and the body's hash are the workflow's to check.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt import InvalidKeyError, InvalidTokenError, PyJWS
from jwt.algorithms import HMACAlgorithm
from pydantic import ConfigDict, Field, field_validator, model_validator

from proxy.config import Secret, Section
from proxy.errors import SignatureInvalid
from proxy.model import Body, LargeBody, Request, Webhook

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
_Key = bytes | RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
_MIN_RSA_BITS = 2048  # RFC 7518 section 3.3
_MAX_TOKEN_CHARS = 4096


class SigningSettings(Section):
    """One key signs. `previous` names the keys that upstreams may still accept while a rotation is under way."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    algorithm: Algorithm = "HS256"
    key: Secret  # HS256: the shared secret; otherwise a private key in PEM
    key_id: str = Field("k1", min_length=1, max_length=64)
    previous: dict[str, Secret] = Field(default_factory=dict)
    issuer: str = Field("sidegate", min_length=1)
    audience: str = Field("n8n", min_length=1)
    lifetime: int = Field(60, ge=1, le=60)  # seconds

    @field_validator("previous")
    @classmethod
    def _bounded(cls, previous: dict[str, Secret]) -> dict[str, Secret]:
        if len(previous) > 10:
            raise ValueError("at most 10 previous keys: remove those that no upstream accepts any more")
        return previous

    @model_validator(mode="after")
    def _usable(self) -> SigningSettings:
        if self.key_id in self.previous:
            raise ValueError(f"key_id {self.key_id!r} is among the previous keys: give the new key a name of its own")
        _load(self.algorithm, self.key)
        return self


def _load(algorithm: Algorithm, secret: Secret) -> _Key:
    """The key, ready to sign: parsing a PEM takes milliseconds. Raises ValueError, never with the key in it."""
    text = secret.reveal()
    if algorithm == "HS256":
        try:
            return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(text)
        except InvalidKeyError:
            raise ValueError("HS256 takes a shared secret, not an empty one, a PEM or a JWK") from None
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{algorithm} takes an unencrypted private key in PEM") from error
    if algorithm == "RS256" and isinstance(key, RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if algorithm == "ES256" and isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    if algorithm == "EdDSA" and isinstance(key, Ed25519PrivateKey):
        return key
    kinds = {"RS256": "an RSA key of at least 2048 bits", "ES256": "a P-256 key", "EdDSA": "an Ed25519 key"}
    raise ValueError(f"{algorithm} takes {kinds[algorithm]}")


def _shared(settings: SigningSettings) -> list[bytes]:
    """The HS256 secrets, the current one first. A private key from before is none, nor is an empty one."""
    secrets_: list[bytes] = []
    if settings.algorithm == "HS256":
        for secret in (settings.key, *settings.previous.values()):
            with suppress(ValueError):
                key = _load("HS256", secret)
                if isinstance(key, bytes):
                    secrets_.append(key)
    return secrets_


class _PreparedHmac(HMACAlgorithm):
    """Signs with a key that was checked when it was loaded. Whether it is long enough is the configuration's to say:
    the library would warn on every single token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def check_key_length(self, key: object) -> str | None:
        return None


def owned_id(key: bytes, site: str, session: str, owner: str = "") -> str:
    """The session's name upstream: bound to site and owner, and not to be guessed by the client. 64 hex digits.

    Neither site nor session has a NUL in it, so no two of them are one.
    """
    identity = f"{site}\0{session}\0{owner}" if owner else f"{site}\0{session}"
    return hmac.digest(key, identity.encode(), "sha256").hex()


class Signer:
    """Signs requests with the current key. `session_key` is the key of the owned session ids."""

    def __init__(self, settings: SigningSettings, session_key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._session_key = session_key
        self._clock = clock
        self._key = _load(settings.algorithm, settings.key)
        self._shared = _shared(settings)
        self._headers = {"kid": settings.key_id}
        self._jws = PyJWS([settings.algorithm])
        if settings.algorithm == "HS256":
            self._jws.unregister_algorithm("HS256")
            self._jws.register_algorithm("HS256", _PreparedHmac(HMACAlgorithm.SHA256))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The keys by name: the one that signs, then those that may still be accepted."""
        return (self._settings.key_id, *self._settings.previous)

    def owned(self, request: Request) -> str:
        return owned_id(self._session_key, request.site.name, request.session.id, request.session.owner)

    def claims(self, token: str) -> dict[str, object]:
        """What somebody says who holds one of the shared keys. Raises SignatureInvalid.

        With the other algorithms there is no such key. Time, audience and the rest are the caller's to judge.
        """
        if len(token) > _MAX_TOKEN_CHARS or not token.isascii():
            raise SignatureInvalid("no token")
        for key in self._shared:
            with suppress(InvalidTokenError, orjson.JSONDecodeError):
                claims = orjson.loads(self._jws.decode(token, key, ["HS256"]))
                if isinstance(claims, dict):
                    return claims
        raise SignatureInvalid("not signed with a shared key" if self._shared else "there is no shared key")

    def sign(self, request: Request, body: Body) -> str:
        """The token for this body."""
        verdict = {
            "score": max(request.verdict.scores.values(), default=0),
            "flags": request.verdict.flags,
            "masked": dict(request.verdict.masked),
            "remaining": min((count.remaining for count in request.counts), default=None),
        }
        claims = {"site": request.site.name, "route": request.upstream or request.site.upstream, "verdict": verdict}
        return self._sign(self.owned(request), body, claims)

    def sign_webhook(self, webhook: Webhook, upstream: str) -> str:
        """The token for a webhook, over its body as it came."""
        scores = webhook.verdict.scores
        verdict = {"score": max(scores.values(), default=0), "flags": webhook.verdict.flags}
        claims = {"hook": webhook.hook, "delivery": webhook.delivery, "route": upstream, "verdict": verdict}
        return self._sign(f"hook:{webhook.hook}", webhook.body, claims)

    def _sign(self, subject: str, body: Body, more: Mapping[str, object]) -> str:
        """No `nbf`: n8n gives clocks no leeway, and one that is ahead would refuse us."""
        now = int(self._clock())
        claims: dict[str, object] = {
            "iss": self._settings.issuer,
            "aud": self._settings.audience,
            "sub": subject,
            "iat": now,
            "exp": now + self._settings.lifetime,
            "jti": secrets.token_hex(16),
            "body_sha256": body.sha256 if isinstance(body, LargeBody) else hashlib.sha256(body).hexdigest(),
            **more,
        }
        return self._jws.encode(orjson.dumps(claims), self._key, self._settings.algorithm, self._headers)
