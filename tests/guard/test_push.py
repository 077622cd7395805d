"""Who may send later: signed with the shared key, for one session, soon, once; or the ops token."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from proxy.config import Secret
from proxy.errors import AuthRequired, Replayed, SignatureInvalid
from proxy.guard.push import Pusher, Pushers
from proxy.store.memory import MemoryStore
from proxy.upstream.signing import Signer, SigningSettings

KEY, OLD_KEY = "k" * 64, "o" * 64
OPS = "ops-token-of-some-length-0123456789"
NOW = 1_700_000_000.0
OWNED = "a" * 64


def pushers(ops_token: str | None = OPS, **signing: Any) -> Pushers:
    settings = SigningSettings(**({"key": Secret(KEY), "previous": {"k0": Secret(OLD_KEY)}} | signing))
    signer = Signer(settings, b"session key")
    token = None if ops_token is None else Secret(ops_token)
    return Pushers(signer.claims, token, {"shop"}, MemoryStore(), clock=lambda: NOW)


def claims(**more: Any) -> dict[str, Any]:
    good = {"aud": "sidegate/push", "site": "shop", "sub": OWNED, "jti": "j1", "exp": int(NOW) + 60}
    return {name: value for name, value in (good | more).items() if value is not None}


def bearer(key: str = KEY, algorithm: str = "HS256", **more: Any) -> str:
    return f"Bearer {jwt.encode(claims(**more), key, algorithm=algorithm)}"


def test_a_good_token_is_for_one_session() -> None:
    assert pushers().identify(bearer()) == Pusher("shop", OWNED, "j1", NOW + 60)


@pytest.mark.parametrize("more", [{"aud": ["x", "sidegate/push"]}, {"exp": NOW + 300}, {"nbf": NOW}, {"iss": "n8n"}])
def test_what_else_is_fine(more: dict[str, Any]) -> None:
    assert pushers().identify(bearer(**more)).owned == OWNED


def test_a_key_that_is_being_rotated_out_is_still_good() -> None:
    assert pushers().identify(bearer(OLD_KEY)).owned == OWNED


@pytest.mark.parametrize(
    "more",
    [
        {"aud": None}, {"aud": "n8n"}, {"aud": "sidegate/access"}, {"aud": []}, {"aud": 1},
        {"site": None}, {"site": "blog"}, {"site": 1}, {"sub": None}, {"sub": ""},
        {"jti": None}, {"jti": ""}, {"jti": "j" * 257},
        {"exp": None}, {"exp": int(NOW)}, {"exp": int(NOW) + 301}, {"exp": True},
        {"exp": "soon"}, {"exp": float("nan")}, {"exp": float("inf")}, {"nbf": NOW + 1},
    ],
)  # fmt: skip
def test_a_signed_token_that_says_anything_else_is_refused(more: dict[str, Any]) -> None:
    token = jwt.PyJWS().encode(json.dumps(claims(**more)).encode(), KEY, algorithm="HS256")
    with pytest.raises(SignatureInvalid):
        pushers().identify(f"Bearer {token}")


@pytest.mark.parametrize(
    "token",
    [
        bearer("x" * 64),
        bearer(algorithm="HS512"),
        "Bearer " + jwt.encode(claims(), "", algorithm="none"),
        bearer() + "x",
        "Bearer x.y.z",
        "Bearer ä",
        "Bearer " + "x" * 5000,
        f"Bearer {OPS}x",
    ],
)
def test_another_key_another_algorithm_and_noise_are_refused(token: str) -> None:
    with pytest.raises(SignatureInvalid):
        pushers().identify(token)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dXNlcg==", f"Token {OPS}"])
def test_without_a_bearer_token_one_is_asked_for(header: str | None) -> None:
    with pytest.raises(AuthRequired):
        pushers().identify(header)


async def test_the_ops_token_may_send_to_any_session_more_than_once() -> None:
    ours = pushers()
    assert ours.identify(f"bearer {OPS}") == Pusher()
    await ours.spend(Pusher())
    await ours.spend(Pusher())


def test_without_an_ops_token_there_is_none() -> None:
    for token in (OPS, "None", ""):
        with pytest.raises((SignatureInvalid, AuthRequired)):
            pushers(ops_token=None).identify(f"Bearer {token}")


def test_with_a_private_key_nobody_else_can_sign_and_old_secrets_count_no_more() -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    ours = pushers(algorithm="EdDSA", key=Secret(pem))
    for token in (bearer(pem, "EdDSA"), bearer(OLD_KEY), bearer(public)):
        with pytest.raises(SignatureInvalid):
            ours.identify(token)
    assert ours.identify(f"Bearer {OPS}") == Pusher()


@pytest.mark.parametrize("old", ["", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"])
def test_an_old_key_that_is_no_secret_verifies_nothing(old: str) -> None:
    header, payload, _ = bearer().removeprefix("Bearer ").split(".")
    signature = base64.urlsafe_b64encode(hmac.digest(old.encode(), f"{header}.{payload}".encode(), "sha256"))
    token = f"{header}.{payload}.{signature.decode().rstrip('=')}"
    with pytest.raises(SignatureInvalid):
        pushers(previous={"k0": Secret(old)}).identify(f"Bearer {token}")


async def test_a_token_is_good_once_whatever_its_jti_looks_like() -> None:
    ours = pushers()
    for jti in ("j1", "ä ö\n", "j" * 256):
        pusher = ours.identify(bearer(jti=jti))
        await ours.spend(pusher)
        with pytest.raises(Replayed):
            await ours.spend(pusher)


async def test_a_used_token_is_remembered_for_as_long_as_it_would_be_good() -> None:
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0])
    ours = Pushers(lambda _: claims(exp=NOW + 300), None, {"shop"}, store, clock=lambda: NOW + now[0])
    pusher = ours.identify("Bearer x")
    await ours.spend(pusher)
    now[0] = 299.9
    with pytest.raises(Replayed):
        await ours.spend(ours.identify("Bearer x"))
    now[0] = 300.0
    with pytest.raises(SignatureInvalid):
        ours.identify("Bearer x")


def test_a_token_for_the_workflow_sends_nothing() -> None:
    """The relay token has the same key, and the workflow's audience."""
    relay = jwt.encode(claims(aud="n8n", exp=int(time.time()) + 60), KEY, algorithm="HS256")
    with pytest.raises(SignatureInvalid):
        pushers().identify(f"Bearer {relay}")
