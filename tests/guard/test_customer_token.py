"""Tokens of the customer's provider: RFC 8725 point by point, and every forgery in the corpora."""

from __future__ import annotations

import base64
import json
import string
from typing import Any

import hypothesis
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.config import Secret
from proxy.errors import AuthFailed, CredentialEnded
from proxy.guard import customer_token
from proxy.guard.customer_token import CustomerTokens, Holder, JwtSettings, owner_of
from proxy.guard.jwks import RemoteKeys, StaticKey
from tests.clients import Clock
from tests.corpora import packed
from tests.idp import identity_provider
from tests.upstreams import Webhook

SECRET = "a shared secret of at least sixty-four bytes, so that HS512 takes it."
RSA = rsa.generate_private_key(65537, 2048)
PUBLIC = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
NOW = 1_700_000_000


def settings(**given: Any) -> JwtSettings:  # Any: as a configuration file has them
    if isinstance(given.get("key"), str):
        given["key"] = Secret(given["key"])
    written = {"key": Secret(PUBLIC), "issuer": "https://idp.example", "audience": "chat"} | given
    return JwtSettings(**{name: value for name, value in written.items() if value is not None})


def tokens(**given: Any) -> CustomerTokens:  # Any: see above
    written = settings(**given)
    key = written.static_key()
    assert key is not None
    return CustomerTokens(written, StaticKey(key), Clock(NOW))


def shared(**given: Any) -> CustomerTokens:  # Any: see above
    return tokens(key=SECRET, algorithms=["HS256"], **given)


def good(**more: Any) -> dict[str, Any]:  # Any: JSON
    claims = {"iss": "https://idp.example", "aud": "chat", "sub": "ann", "iat": NOW, "exp": NOW + 600} | more
    return {name: value for name, value in claims.items() if value is not None}


def signed(claims: object = None, header: dict[str, Any] | None = None, key: Any = RSA, alg: str = "RS256") -> str:
    """By the provider's key, whatever the claims are."""
    payload = json.dumps(good() if claims is None else claims).encode()
    return jwt.PyJWS().encode(payload, key, algorithm=alg, headers=header)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


async def test_a_good_token_speaks_for_its_subject() -> None:
    holder = await tokens().verify(signed())
    assert holder == Holder("jwt:https://idp.example#ann", NOW + 610, NOW, good())


GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "two audiences, one of them ours": ({"aud": ["other", "chat"]}, {}),
    "one of our two audiences": ({"aud": "app"}, {"audience": ("chat", "app")}),
    "no audience asked for": ({"aud": None}, {"audience": None}),
    "no issuer asked for": ({"iss": None}, {"issuer": None}),
    "a fraction of a second": ({"exp": NOW + 0.5}, {}),
    "just expired, within the leeway": ({"exp": NOW - 9}, {}),
    "just before its time, within the leeway": ({"nbf": NOW + 10, "iat": NOW + 10}, {}),
    "neither iat nor nbf": ({"iat": None}, {}),
    "what has to be there is there": ({"email": "a@b"}, {"required": ("email", "iat")}),
    "other claims": ({"scope": "chat", "nested": {"a": [1]}}, {}),
}


@pytest.mark.parametrize(("claims", "given"), GOOD.values(), ids=GOOD.keys())
async def test_what_is_valid_is_not_refused(claims: dict[str, Any], given: dict[str, Any]) -> None:
    assert (await tokens(**given).verify(signed(good(**claims)))).owner.endswith("#ann")


BAD_CLAIMS: dict[str, tuple[object, dict[str, Any]]] = {
    "another issuer": (good(iss="https://evil.example"), {}),
    "an issuer that only begins like ours": (good(iss="https://idp.example/"), {}),
    "no issuer": (good(iss=None), {}),
    "an issuer that is no text": (good(iss=["https://idp.example"]), {"issuer": None}),
    "an endless issuer": (good(iss="i" * 256), {"issuer": None}),
    "another audience": (good(aud="admin"), {}),
    "no audience": (good(aud=None), {}),
    "an audience that is no text": (good(aud={"chat": 1}), {}),
    "audiences that are no texts": (good(aud=[["chat"], 1]), {}),
    "no subject": (good(sub=None), {}),
    "an empty subject": (good(sub=""), {}),
    "a subject that is no text": (good(sub=7), {}),
    "an endless subject": (good(sub="s" * 256), {}),
    "a subject with a NUL": (good(sub="a\0b"), {}),
    "no end": (good(exp=None), {}),
    "an end that is text": (good(exp=str(NOW + 600)), {}),
    "an end that is a truth value": (good(exp=True), {}),
    "a beginning that is text": (good(nbf="now"), {}),
    "a claim that has to be there is missing": (good(), {"required": ("email",)}),
    "a claim that has to be there is null": ({**good(), "email": None}, {"required": ("email",)}),
    "claims that are no object": ([good()], {}),
}


@pytest.mark.parametrize(("claims", "given"), BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
async def test_a_signed_token_that_says_the_wrong_thing_is_refused(claims: object, given: dict[str, Any]) -> None:
    with pytest.raises(AuthFailed) as caught:
        await tokens(**given).verify(signed(claims))
    assert caught.value.is_guess


@pytest.mark.parametrize("claims", [{"exp": NOW - 10}, {"nbf": NOW + 11}, {"iat": NOW + 11}, {"exp": 0}])
async def test_a_token_out_of_its_time_is_refused_and_is_no_guess(claims: dict[str, Any]) -> None:
    with pytest.raises(CredentialEnded) as caught:
        await tokens().verify(signed(good(**claims)))
    assert not caught.value.is_guess


async def test_without_leeway_times_are_to_the_second() -> None:
    ours = tokens(leeway=0)
    await ours.verify(signed(good(exp=NOW + 1)))
    with pytest.raises(CredentialEnded):
        await ours.verify(signed(good(exp=NOW)))


async def test_claims_that_are_not_json_are_refused() -> None:
    token = jwt.PyJWS().encode(b"not json", RSA, algorithm="RS256")
    with pytest.raises(AuthFailed, match="not JSON"):
        await tokens().verify(token)


# RFC 8725, section by section. Where the defence is in the configuration, a test below shows that it is asked for.
HEADERS: dict[str, dict[str, Any]] = {
    "3.1 none": {"alg": "none"},
    "3.1 None": {"alg": "None"},
    "3.1 nOnE": {"alg": "nOnE"},
    "3.1 no algorithm": {},
    "3.1 an algorithm that is no text": {"alg": ["RS256"]},
    "3.1 an algorithm that isn't accepted": {"alg": "RS512"},
    "3.1 a public key as a shared secret": {"alg": "HS256"},
    "3.2 an unknown algorithm": {"alg": "RS1"},
    "3.10 critical extensions": {"alg": "RS256", "crit": ["exp"], "exp": 1},
    "3.10 an unencoded payload": {"alg": "RS256", "b64": False},
    "3.10 a kid that is no text": {"alg": "RS256", "kid": 1},
    "3.10 an endless kid": {"alg": "RS256", "kid": "k" * 256},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
async def test_rfc_8725_a_header_that_asks_for_something_else_is_refused(header: dict[str, Any]) -> None:
    head = f"{encoded(header)}.{encoded(good())}"
    by_secret = jwt.PyJWS().encode(json.dumps(good()).encode(), SECRET, algorithm="HS256").rpartition(".")[2]
    for signature in ("", "AAAA", signed().rpartition(".")[2], by_secret):
        with pytest.raises(AuthFailed):
            await tokens().verify(f"{head}.{signature}")


async def test_rfc_8725_3_1_a_public_key_is_no_shared_secret() -> None:
    head = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(good())}"
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    for secret in (PUBLIC.encode(), PUBLIC.strip().encode()):
        signature = base64.urlsafe_b64encode(algorithm.sign(head.encode(), secret)).decode().rstrip("=")
        with pytest.raises(AuthFailed):
            await tokens().verify(f"{head}.{signature}")


async def test_rfc_8725_3_3_every_signature_is_checked() -> None:
    token = signed()
    head, _, signature = token.rpartition(".")
    other = rsa.generate_private_key(65537, 2048)
    changed = f"{token.split('.')[0]}.{encoded(good(sub='bob'))}.{signature}"
    for forged in (f"{head}.", f"{head}.{signature[:-4]}", changed, signed(key=other)):
        with pytest.raises(AuthFailed):
            await tokens().verify(forged)


@pytest.mark.parametrize("text", ["", "x", "a.b", f"{signed()}.x.y", signed().replace(".", ".\n", 1), f"{signed()}="])
async def test_rfc_8725_3_4_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(AuthFailed):
        await tokens().verify(text)


@pytest.mark.parametrize("secret", ["short", "s" * 31])
def test_rfc_8725_3_5_a_short_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="too short"):
        settings(key=secret, algorithms=["HS256"])


async def test_rfc_8725_3_6_what_is_encrypted_or_compressed_is_no_token() -> None:
    head, payload, signature = signed().split(".")
    for token in (
        f"{head}.{payload}.{signature}.AAAA.AAAA",
        f"{encoded({'alg': 'dir', 'enc': 'A256GCM', 'zip': 'DEF'})}....",
    ):
        with pytest.raises(AuthFailed, match="three parts"):
            await tokens().verify(token)


@pytest.mark.parametrize("payload", [b'{"sub": "\xff"}', '{"sub": "a"}'.encode("utf-16"), b'\xef\xbb\xbf{"sub": "a"}'])
async def test_rfc_8725_3_7_claims_are_utf_8(payload: bytes) -> None:
    with pytest.raises(AuthFailed, match="not JSON"):
        await tokens().verify(jwt.PyJWS().encode(payload, RSA, algorithm="RS256"))


async def test_rfc_8725_3_8_and_3_9_issuer_subject_and_audience_are_compared_as_they_are() -> None:
    for claims in ({"iss": "HTTPS://IDP.example"}, {"aud": "CHAT"}, {"aud": " chat"}, {"iss": "https://idp.example\0"}):
        with pytest.raises(AuthFailed):
            await tokens().verify(signed(good(**claims)))
    ann, other = [(await tokens().verify(signed(good(sub=name)))).owner for name in ("ann", "Ann")]
    assert ann != other


async def test_rfc_8725_3_10_addresses_and_keys_in_a_header_are_never_looked_at() -> None:
    async with identity_provider() as evil:
        own = evil.key_set()["keys"][0]
        header = {"jku": evil.url, "x5u": evil.url, "jwk": own, "x5c": ["AAAA"]}
        with pytest.raises(AuthFailed):
            await tokens(algorithms=["ES256", "RS256"]).verify(evil.token(header=header))
        assert (await tokens().verify(signed(header=header))).owner.endswith("#ann")
        assert evil.asked == 0


async def test_rfc_8725_3_11_the_type_is_checked_where_one_is_named() -> None:
    ours = tokens(type="at+jwt")
    for kind in ("at+jwt", "application/AT+JWT"):
        await ours.verify(signed(header={"typ": kind}))
    for header in ({"typ": "JWT"}, {"typ": "id+jwt"}, {"typ": ["at+jwt"]}):
        with pytest.raises(AuthFailed):
            await ours.verify(f"{encoded({'alg': 'RS256', **header})}.{encoded(good())}.{signed().rpartition('.')[2]}")


TOKEN = signed(key=SECRET, alg="HS256")


@given(place=st.integers(0, len(TOKEN) - 1), change=st.sampled_from(string.ascii_letters + string.digits + "-_.=+/ ?"))
@hypothesis.settings(deadline=None)
async def test_a_token_that_differs_in_any_character_is_refused(place: int, change: str) -> None:
    hypothesis.assume(TOKEN[place] != change)
    with pytest.raises(AuthFailed):
        await shared().verify(TOKEN[:place] + change + TOKEN[place + 1 :])


@given(st.text(alphabet=string.printable))
@hypothesis.settings(deadline=None)
async def test_whatever_is_presented_is_refused_and_nothing_breaks(text: str) -> None:
    for token in (text, f"{text}..", f"{encoded({'alg': 'HS256'})}.{text}.AAAA", f"{encoded({'alg': text})}.e30.AAAA"):
        with pytest.raises(AuthFailed):
            await shared().verify(token)


async def test_nothing_forged_in_the_corpora_passes() -> None:
    rows = [row["text"] for row in packed("jwt_patt")]
    assert len(rows) >= 20
    for ours in (tokens(issuer=None, audience=None), shared(issuer=None, audience=None)):
        for token in rows:
            with pytest.raises(AuthFailed):
                await ours.verify(token)


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "https://evil.example/k", "\0", "k2"])
async def test_a_made_up_kid_leads_nowhere(kid: str) -> None:
    async with identity_provider() as provider:
        keys = RemoteKeys(provider.url, ["ES256"], lambda _: None)
        ours = CustomerTokens(settings(key=None, jwks_url=provider.url, algorithms=["ES256"]), keys, Clock(NOW))
        await ours.verify(provider.token(iat=NOW, exp=NOW + 600))
        with pytest.raises(AuthFailed, match="not known"):
            await ours.verify(provider.token(header={"kid": kid}, iat=NOW, exp=NOW + 600))
        web = provider.web
        assert isinstance(web, Webhook)
        assert {asked.path for asked in web.asked} == {"/webhook/chat"}
        await keys.close()


async def test_good_signatures_are_remembered_and_their_times_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(customer_token, "MAX_VERIFIED", 2)
    clock = Clock(NOW)
    written = settings()
    key = written.static_key()
    assert key is not None
    ours = CustomerTokens(written, StaticKey(key), clock)
    many = [signed(good(sub=f"s{number}")) for number in range(4)]
    for token in [*many, many[-1], *many]:
        await ours.verify(token)
    clock.advance(610)
    for token in many:
        with pytest.raises(CredentialEnded):
            await ours.verify(token)


def test_two_people_never_have_one_name() -> None:
    names = [("a", "b#c"), ("a#b", "c"), ("a%23b", "c"), (None, "a#b#c"), ("a", "b"), ("b", "a")]
    assert len({owner_of(issuer, subject) for issuer, subject in names}) == len(names)


WRONG = {
    "two sources": {"jwks_url": "https://idp.example/keys"},
    "a shared secret with a key set": {"key": None, "jwks_url": "https://idp.example/keys", "algorithms": ["HS256"]},
    "shared and public": {"key": SECRET, "algorithms": ["HS256", "RS256"]},
    "no algorithm": {"algorithms": []},
    "none": {"algorithms": ["none"]},
    "another kind of key": {"algorithms": ["ES256"]},
    "no address": {"key": None, "jwks_url": "idp.example"},
    "a file": {"key": None, "jwks_url": "file:///etc/passwd"},
    "an address with a password": {"key": None, "jwks_url": "https://a:b@idp.example/"},
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG.keys())
def test_settings_that_would_let_somebody_in_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    assert SECRET not in str(caught.value)


def test_without_a_key_it_is_off() -> None:
    assert not JwtSettings(jwks_url=None).is_on
    assert JwtSettings().static_key() is None
    assert settings().is_on
    assert settings(key=None, jwks_url="https://idp.example/keys").is_on
