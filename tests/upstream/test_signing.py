"""The upstream's token holds what it should, for as long as it should, under every algorithm."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import ValidationError

from proxy.config import Secret
from proxy.model import Count, Request, Session, Site, Verdict
from proxy.upstream.signing import Signer, SigningSettings, owned_id
from tests.clients import Clock, request

KEY = "a key of at least thirty-two bytes"
SESSION_KEY = b"session key"
NOW = 1_700_000_000
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ENCRYPTED = ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


def pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def settings(**given: Any) -> SigningSettings:  # Any: as a configuration file has them
    return SigningSettings(**{"key": Secret(KEY)} | given)


def signer(**given: Any) -> Signer:  # Any: see above
    return Signer(settings(**given), SESSION_KEY, Clock(NOW + 0.9))


def claims(token: str, key: str = KEY, algorithm: str = "HS256") -> dict[str, Any]:  # Any: PyJWT's own
    return jwt.decode(token, key, [algorithm], audience="n8n", issuer="sidegate", options={"verify_exp": False})


def counted(*remaining: int) -> Request:
    return replace(
        request(),
        counts=tuple(Count("ip", 60, 60, left, 1) for left in remaining),
        verdict=Verdict({"spam": 0.5, "prompt_injection": 2}, ("spam", "prompt_injection"), {"card": 1}),
    )


def test_the_token_says_who_asks_and_what_was_asked() -> None:
    body = b'{"chatInput":"hello"}'
    token = signer().sign(counted(17, 4), body)
    got = claims(token)
    assert len(got.pop("jti")) == 32
    assert got == {
        "iss": "sidegate",
        "aud": "n8n",
        "sub": owned_id(SESSION_KEY, "shop", "s1"),
        "iat": NOW,
        "exp": NOW + 60,
        "site": "shop",
        "route": "support",
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "verdict": {"score": 2, "flags": ["spam", "prompt_injection"], "masked": {"card": 1}, "remaining": 4},
    }
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "k1", "typ": "JWT"}


def test_without_limits_there_is_no_remaining() -> None:
    assert claims(signer().sign(request(), b""))["verdict"] == {
        "score": 0,
        "flags": [],
        "masked": {},
        "remaining": None,
    }


def test_no_two_tokens_have_the_same_id() -> None:
    one = signer()
    assert len({claims(one.sign(request(), b""))["jti"] for _ in range(100)}) == 100


def test_the_token_ends_when_it_was_set_to() -> None:
    token = Signer(settings(lifetime=1), SESSION_KEY, Clock(NOW)).sign(request(), b"")
    assert claims(token)["exp"] == NOW + 1


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", RSA), ("ES256", P256), ("EdDSA", ED25519)])
def test_a_private_key_signs_what_its_public_key_verifies(algorithm: str, key: PrivateKey) -> None:
    token = signer(algorithm=algorithm, key=Secret(pem(key)), key_id="k2").sign(request(), b"")
    assert claims(token, public(key), algorithm)["site"] == "shop"
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": "k2", "typ": "JWT"}


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("HS256", ""),
        ("HS256", pem(P256)),
        ("HS256", '{"kty":"oct","k":"AAAA"}'),
        ("RS256", KEY),
        ("RS256", pem(P256)),
        ("RS256", pem(rsa.generate_private_key(65537, 1024))),
        ("RS256", public(RSA)),
        ("ES256", pem(RSA)),
        ("ES256", pem(ec.generate_private_key(ec.SECP384R1()))),
        ("EdDSA", pem(P256)),
        ("EdDSA", ENCRYPTED),
    ],
)
def test_a_key_that_does_not_fit_the_algorithm_stops_the_start_unseen(algorithm: str, key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(algorithm=algorithm, key=Secret(key))
    assert not key or key[:40] not in str(caught.value)


@pytest.mark.parametrize("given", [{"lifetime": 0}, {"lifetime": 61}, {"algorithm": "none"}, {"key_id": ""}])
def test_what_would_make_a_token_unsafe_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_a_short_secret_makes_no_noise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        token = signer(key=Secret("short")).sign(request(), b"")
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        assert claims(token, "short")["site"] == "shop"


def test_the_previous_keys_are_known_by_name_but_only_the_current_one_signs() -> None:
    rotated = signer(key_id="k2", previous={"k1": Secret("the key before this one, also long enough")})
    assert rotated.key_ids == ("k2", "k1")
    assert claims(rotated.sign(request(), b""))["site"] == "shop"


@pytest.mark.parametrize("previous", [{"k1": Secret(KEY)}, {f"old{n}": Secret(KEY) for n in range(11)}])
def test_previous_keys_are_few_and_have_other_names(previous: dict[str, Secret]) -> None:
    with pytest.raises(ValidationError):
        settings(previous=previous)


def test_the_owned_id_depends_on_site_session_owner_and_key_and_on_nothing_else() -> None:
    ids = {
        owned_id(key, *names)
        for key in (b"one", b"two")
        for names in (("a", "bc"), ("ab", "c"), ("a", "b"), ("a", "b", "c"), ("a", "b", "d"), ("a", "bc", "d"))
    }
    assert len(ids) == 12
    assert all(len(name) == 64 and int(name, 16) for name in ids)
    assert owned_id(b"one", "a", "b") == (
        "65f65d80265cf74467c8c0c3b1761faa360c0ad5e3879680d278359e9692a344"  # openssl dgst -sha256 -hmac one
    )


def test_the_signer_owns_by_the_verified_session() -> None:
    who = request(site=Site("b", frozenset(), "u"), session=Session("other", "b", "", 0))
    assert signer().owned(who) == owned_id(SESSION_KEY, "b", "other")
    owned = request(site=Site("b", frozenset(), "u"), session=Session("other", "b", "", 0, "key:bot"))
    assert signer().owned(owned) == owned_id(SESSION_KEY, "b", "other", "key:bot")
