"""One key that somebody else signs with: read from a JWK (RFC 7517), a PEM or a shared secret, and what it verifies.

What it stops: a key used for an algorithm it isn't for (a public key taken for a shared secret above all), keys meant
for encryption, and keys that are too short. What it doesn't: a key that its owner has lost.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
SHARED = frozenset({"HS256", "HS384", "HS512"})
MIN_RSA_BITS = 2048  # RFC 7518 section 3.3
MAX_RSA_BITS = 8192  # what takes longer to check is no key that anybody uses
_ALGORITHMS = get_default_algorithms()
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_BY_TYPE = {"oct": "HS256", "RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}  # whose library reads such a key
_BY_LENGTH = ((32, "HS256"), (48, "HS384"), (64, "HS512"))  # bytes that a secret needs: RFC 7518 section 3.2


class UnusableKey(ValueError):
    """Says why, and nothing of the key."""


@dataclass(frozen=True, slots=True)
class Key:
    """`algorithms`: all that it may be used with."""

    id: str | None
    algorithms: frozenset[str]
    material: Any = field(repr=False)  # Any: bytes or one of the library's public keys, as its algorithm takes it

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        if algorithm not in self.algorithms:
            return False
        return _ALGORITHMS[algorithm].verify(signed, self.material, signature)


def from_jwk(jwk: Mapping[str, object], accepted: Collection[str]) -> Key:
    """The key as far as it is for checking signatures by one of the accepted algorithms.

    Raises UnusableKey where it isn't.
    """
    kind, kid, algorithm, use, operations = (jwk.get(name) for name in ("kty", "kid", "alg", "use", "key_ops"))
    if not isinstance(kind, str) or kind not in _BY_TYPE:
        raise UnusableKey("kty is none of oct, RSA, EC and OKP")
    if kid is not None and not isinstance(kid, str):
        raise UnusableKey("kid is no text")
    if use not in (None, "sig"):
        raise UnusableKey("use is not sig")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise UnusableKey("verify is not among key_ops")
    if "d" in jwk:
        raise UnusableKey("it is a private key, which belongs to its owner alone")
    try:
        material = _ALGORITHMS[_BY_TYPE[kind]].from_jwk(dict(jwk))
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:  # whatever is in it
        raise UnusableKey(f"it can't be read ({type(error).__name__})") from None
    possible = _possible(material) & frozenset(accepted)
    if algorithm is not None:
        possible &= {algorithm} if isinstance(algorithm, str) else frozenset()
    if not possible:
        raise UnusableKey("it is for none of the accepted algorithms")
    return Key(kid, possible, material)


def from_text(text: str, accepted: Collection[str]) -> Key:
    """A key as it is configured: a JWK, a public key in PEM, or, for HS256 and its like, the secret itself.

    Raises UnusableKey.
    """
    if text.lstrip().startswith("{"):
        try:
            jwk = json.loads(text)
        except ValueError:
            raise UnusableKey("it begins as a JWK does, and is no JSON") from None
        return from_jwk(jwk, accepted)
    material: object = text.encode()
    if "-----BEGIN" in text:
        try:
            material = load_pem_public_key(text.encode())
        except ValueError:
            raise UnusableKey("it is no public key in PEM (a certificate or a private key isn't one)") from None
    possible = _possible(material) & frozenset(accepted)
    if not possible:
        raise UnusableKey("it is for none of the accepted algorithms, or too short for them")
    return Key(None, possible, material)


def _possible(material: object) -> frozenset[str]:
    """All that such a key can be used with."""
    match material:
        case bytes():
            return frozenset(name for length, name in _BY_LENGTH if len(material) >= length)
        case RSAPublicKey() if MIN_RSA_BITS <= material.key_size <= MAX_RSA_BITS:
            return _RSA
        case EllipticCurvePublicKey() if material.curve.name in _CURVES:
            return frozenset({_CURVES[material.curve.name]})
        case Ed25519PublicKey():
            return frozenset({"EdDSA"})
    return frozenset()
