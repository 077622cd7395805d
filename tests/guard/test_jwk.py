"""Keys of others: what they may be used for. Wycheproof's JWS vectors say what a good and what a forged one is."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from proxy.guard.jwk import Key, UnusableKey, from_jwk, from_text
from proxy.wire.jws import Malformed, parse
from tests.corpora import packed

ALL = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
SECRET = b"s" * 64
# RFC 7520's own keys have no `alg`; the vectors' say PS256 for a signature by PS384, and ES521, which is no algorithm.
CONTRADICTED = {"Figure20", "Figure27"}
# Called valid, but has a `?` in its header: RFC 7515 section 5.2 allows no character that isn't base64url.
NOT_VALID = {"InvalidCharacterInsertedInHeader"}


def accepts(row: dict[str, Any], jwk: dict[str, Any]) -> bool:
    try:
        jws = parse(row["text"])
        key = from_jwk(jwk, ALL)
    except (Malformed, UnusableKey):
        return False
    if not isinstance(jws.header.get("alg"), str) or jws.header.get("kid") not in (None, key.id):
        return False
    return key.verifies(str(jws.header["alg"]), jws.signed, jws.signature)


def test_wycheproof_nothing_forged_passes_and_nothing_valid_is_refused() -> None:
    rows = packed("jwt_wycheproof")
    assert len(rows) >= 100
    wrong = []
    for row in rows:
        jwk = row["key"]
        if row["comment"] in CONTRADICTED:
            assert not accepts(row, jwk)
            jwk = {name: value for name, value in jwk.items() if name != "alg"}
        if accepts(row, jwk) is not (row["label"] == "allow" and row["comment"] not in NOT_VALID):
            wrong.append((row["label"], row["comment"], row["tcId"]))
    assert wrong == []


def jwk(key: Any, **more: Any) -> dict[str, Any]:  # Any: the libraries' private keys, and JSON
    kinds: list[tuple[Any, Any]] = [(rsa.RSAPrivateKey, RSAAlgorithm), (ec.EllipticCurvePrivateKey, ECAlgorithm)]
    algorithm = next((algorithm for kind, algorithm in kinds if isinstance(key, kind)), OKPAlgorithm)
    made: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    # The library names what its keys can do; here each test says so.
    return {name: value for name, value in made.items() if name not in ("alg", "use", "key_ops")} | more


def oct_key(secret: bytes, **more: Any) -> dict[str, Any]:
    return {"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode().rstrip("="), **more}


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def verifies(key: Key, signing: Any, algorithm: str) -> bool:
    jws = parse(jwt.encode({"sub": "a"}, signing, algorithm=algorithm))
    return key.verifies(algorithm, jws.signed, jws.signature)


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [
        (RSA, "RS256"), (RSA, "PS512"), (P256, "ES256"), (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"), (ED25519, "EdDSA"),
    ],
)  # fmt: skip
def test_a_public_key_verifies_whether_it_is_a_jwk_or_a_pem(private: Any, algorithm: str) -> None:
    for key in (from_jwk(jwk(private), ALL), from_text(json.dumps(jwk(private)), ALL), from_text(pem(private), ALL)):
        assert verifies(key, private, algorithm)
        assert not key.verifies(algorithm, b"x", b"y" * 64)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_shared_secret_verifies(algorithm: str) -> None:
    for key in (from_text(SECRET.decode(), ALL), from_jwk(oct_key(SECRET), ALL)):
        assert verifies(key, SECRET, algorithm)


def test_a_public_key_is_never_a_shared_secret() -> None:
    for key in (from_text(pem(RSA), ALL), from_jwk(jwk(RSA), ALL)):
        assert not key.algorithms & {"HS256", "HS384", "HS512"}
        assert not key.verifies("HS256", b"signed", b"signature")
    with pytest.raises(UnusableKey, match="none of the accepted"):
        from_text(pem(RSA), ["HS256"])


def test_a_key_serves_the_accepted_algorithms_only() -> None:
    key = from_jwk(jwk(RSA), ["RS256", "ES256"])
    assert key.algorithms == {"RS256"}
    assert verifies(key, RSA, "RS256")
    assert not verifies(key, RSA, "RS512")
    assert from_jwk(jwk(RSA, alg="PS256"), ALL).algorithms == {"PS256"}


REFUSED = {
    "for encryption": jwk(RSA, use="enc"),
    "for anything else": jwk(RSA, use=7),
    "not for verifying": jwk(RSA, key_ops=["sign"]),
    "key_ops is no list": jwk(RSA, key_ops="verify"),
    "another algorithm": jwk(RSA, alg="RSA-OAEP"),
    "an algorithm that is no text": jwk(RSA, alg=["RS256"]),
    "another kind's algorithm": jwk(RSA, alg="HS256"),
    "a kid that is no text": jwk(RSA, kid=1),
    "no kind": {"k": "AAAA"},
    "an unknown kind": jwk(RSA) | {"kty": "RSA2"},
    "a kind that is no text": jwk(RSA) | {"kty": ["RSA"]},
    "a private key": json.loads(RSAAlgorithm.to_jwk(RSA)) | {"key_ops": ["verify"]},
    "a short RSA key": jwk(rsa.generate_private_key(65537, 1024)),
    "a huge RSA key": {"kty": "RSA", "e": "AQAB", "n": base64.urlsafe_b64encode(b"\xff" * 1025).decode().rstrip("=")},
    "a curve that isn't ours": jwk(ec.generate_private_key(ec.SECP256K1())),
    "an Edwards curve that isn't ours": jwk(ed448.Ed448PrivateKey.generate()),
    "a point that isn't on the curve": jwk(P256) | {"y": "A" * 43},
    "no modulus": {"kty": "RSA", "e": "AQAB"},
    "a modulus that is no text": {"kty": "RSA", "e": "AQAB", "n": 7},
    "an Edwards key without a value": {"kty": "OKP", "crv": "Ed25519"},
    "a short secret": oct_key(b"short"),
    "an empty secret": oct_key(b""),
}


@pytest.mark.parametrize("key", REFUSED.values(), ids=REFUSED.keys())
def test_a_key_that_is_not_for_this_is_refused(key: dict[str, Any]) -> None:
    with pytest.raises(UnusableKey):
        from_jwk(key, ALL)


@pytest.mark.parametrize(
    "text",
    [
        "", "short", "{", "{}", "[]",
        RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ],
)  # fmt: skip
def test_a_text_that_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UnusableKey) as caught:
        from_text(text, ALL)
    assert len(text) < 8 or text not in str(caught.value)


def test_no_key_shows_in_a_repr() -> None:
    assert "hunter2" not in repr(from_text("hunter2" * 10, ALL))
