"""Keys and tokens over real sockets: what passes, what is refused with which code, and that no secret is logged."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from proxy.guard.keys import hash_of, new_key
from proxy.guard.session import TOKEN_HEADER
from tests.flows.test_replicas import AT_ONCE, pair
from tests.idp import ISSUER, Provider, claims, identity_provider
from tests.idp import new_key as new_private_key
from tests.sidegate import BROWSER, Visitor, sidegate
from tests.upstreams import Script, Step, plain, stream, webhook

BOT, SCREEN, OLD, BLOGGER = (new_key("api") for _ in range(4))
PAGE, OLD_PAGE = (new_key("embed") for _ in range(2))
ECHO: dict[str, Any] = {"kind": "echo", "delay": 0}
SERVER = {"User-Agent": "backend/1.0"}  # no browser: neither Origin nor Sec-Fetch-Site
SITES = {
    "shop": {
        "origins": ["https://shop.example"],
        "auth": ["embed_key", "api_key", "jwt"],
        "embed_keys": [{"hash": hash_of(PAGE)}, {"hash": hash_of(OLD_PAGE), "expires": "2020-01-01"}],
    },
    "blog": {"origins": ["https://blog.example"], "auth": ["anonymous", "api_key"]},
}
API = [
    {"name": "bot", "hash": hash_of(BOT), "site": "shop"},
    {"name": "screen", "hash": hash_of(SCREEN), "site": "shop", "scopes": ["read"], "owner": "bot"},
    {"name": "old", "hash": hash_of(OLD), "site": "shop", "expires": "2020-01-01"},
    {"name": "blogger", "hash": hash_of(BLOGGER), "site": "blog"},
]


@asynccontextmanager
async def world(script: Script | None = None, **more: Any) -> AsyncIterator[tuple[Visitor, Provider]]:
    """A production Sidegate whose visitor is a server, and the provider of its tokens."""
    async with identity_provider() as provider:
        provider.script = script
        provider_settings = {
            "jwks_url": provider.url, "issuer": ISSUER, "audience": "chat", "algorithms": ["ES256"],
            "site_claim": "site",
        }  # fmt: skip
        keys = {"api": API, "jwt": provider_settings, "failures": {"limit": more.pop("failures", 1000)}}
        sections = {"environment": "production", "sites": SITES, "keys": keys, **more}
        async with sidegate(ECHO, **sections) as visitor:
            visitor.headers = dict(SERVER)
            yield visitor, provider


def bearer(credential: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}", **more}


def token(provider: Provider, **more: Any) -> str:
    return provider.token(**({"site": "shop"} | more))


async def call(visitor: Visitor, method: str, path: str, headers: dict[str, str], **more: Any) -> tuple[int, Any]:
    async with visitor.http.request(method, visitor.url + path, headers=headers, **more) as response:
        return response.status, await response.json(content_type=None) if response.status != 204 else None


async def ask(visitor: Visitor, headers: dict[str, str], text: str = "hello") -> tuple[int, Any]:
    accept = {"Accept": "application/json", **headers}
    return await call(visitor, "POST", "/v1/messages", accept, json={"message": text})


async def opened(visitor: Visitor, headers: dict[str, str]) -> tuple[int, Any]:
    return await call(visitor, "POST", "/v1/session", headers)


async def test_an_api_key_asks_directly_and_its_owner_alone_reads_the_answer() -> None:
    async with world() as (visitor, provider):
        headers = bearer(BOT, **SERVER, **{"X-Sidegate-Conversation": "c1"})
        status, answer = await ask(visitor, headers)
        assert (status, answer["text"]) == (200, "You said: hello")
        path = f"/v1/answers/{answer['answer_id']}"
        reading = {"Accept": "application/json", "X-Sidegate-Conversation": "c1", **SERVER}
        assert (await call(visitor, "GET", path, reading | bearer(BOT)))[0] == 200
        assert (await call(visitor, "GET", path, reading | bearer(SCREEN)))[0] == 200  # the same owner
        for other in (
            reading | bearer(token(provider)),
            reading | bearer(BLOGGER),
            reading | bearer(BOT) | {"X-Sidegate-Conversation": "c2"},
            {name: value for name, value in (reading | bearer(BOT)).items() if name != "X-Sidegate-Conversation"},
        ):
            assert (await call(visitor, "GET", path, other))[0] == 404
            assert (await call(visitor, "DELETE", path, other))[0] == 404


async def test_a_customers_token_asks_directly_for_its_subject() -> None:
    async with world() as (visitor, provider):
        status, answer = await ask(visitor, bearer(token(provider), **SERVER))
        assert status == 200
        path, accept = f"/v1/answers/{answer['answer_id']}", {"Accept": "application/json", **SERVER}
        assert (await call(visitor, "GET", path, accept | bearer(token(provider, jti="another"))))[0] == 200
        assert (await call(visitor, "GET", path, accept | bearer(token(provider, sub="bob"))))[0] == 404
        assert provider.asked == 1


async def test_a_session_may_be_opened_by_each_of_them_and_lives_on_its_own() -> None:
    async with world() as (visitor, provider):
        page = {**BROWSER, "X-Embed-Key": PAGE}
        for headers in (
            page,
            bearer(BOT, **SERVER),
            bearer(token(provider), **BROWSER),
            page | bearer(token(provider)),
        ):
            status, session = await opened(visitor, headers)
            assert status == 200, session
            facts = BROWSER if "Origin" in headers else SERVER
            assert (await ask(visitor, bearer(session["access_token"], **facts)))[0] == 200
            refresh = {"refresh_token": session["refresh_token"]}
            status, again = await call(visitor, "POST", "/v1/session/refresh", facts, json=refresh)
            assert (status, again["session_id"]) == (200, session["session_id"])
            status, ticket = await call(visitor, "POST", "/v1/session/ticket", bearer(again["access_token"], **facts))
            assert status == 200
            path = f"/v1/answers/none?ticket={ticket['ticket']}"
            assert (await call(visitor, "GET", path, {"Accept": "application/json", **facts}))[0] == 404


async def test_a_socket_takes_them_too() -> None:
    async with world() as (visitor, provider):
        for credential in (BOT, token(provider)):
            async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=bearer(credential, **SERVER)) as socket:
                await socket.send_json({"type": "message", "message": "hello"})
                async with asyncio.timeout(10):
                    frames = [await socket.receive_json() for _ in range(2)]
                assert [frame["type"] for frame in frames] == ["start", "delta"]


async def test_two_sites_tell_their_callers_apart_by_the_key() -> None:
    async with world() as (visitor, _):
        assert (await ask(visitor, bearer(BLOGGER, **SERVER)))[0] == 200
        for site, status in (("blog", 200), ("shop", 401)):
            assert (await ask(visitor, bearer(BLOGGER, **SERVER, **{"X-Sidegate-Site": site})))[0] == status


def forged(header: dict[str, Any], signature: str = "", **more: Any) -> str:
    def part(value: object) -> str:
        text = json.dumps(value, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    return f"{part(header)}.{part(claims(site='shop', **more))}.{signature}"


def confused(provider: Provider) -> str:
    """Signed by HMAC, with the public key for a secret."""
    secret = json.dumps(provider.key_set()["keys"][0]).encode()
    head = forged({"alg": "HS256", "kid": "k1"}).removesuffix(".")
    signature = hmac.digest(secret, head.encode(), "sha256")
    return f"{head}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


# What: who asks how, and the answer. A row is a function of the provider, since its keys are new each time.
ASKING: dict[str, tuple[Any, int, str]] = {
    "nothing": (lambda _: {}, 403, "origin_denied"),
    "a browser without anything": (lambda _: BROWSER, 401, "auth_required"),
    "alg none": (lambda _: bearer(forged({"alg": "none"})), 401, "auth_failed"),
    "alg none, with a signature": (lambda _: bearer(forged({"alg": "none"}, "AAAA")), 401, "auth_failed"),
    "no signature": (lambda p: bearer(token(p).rpartition(".")[0] + "."), 401, "auth_failed"),
    "key confusion": (lambda p: bearer(confused(p)), 401, "auth_failed"),
    "kid injection": (lambda p: bearer(token(p, header={"kid": "../../dev/null"})), 401, "auth_failed"),
    "kid of SQL": (lambda p: bearer(token(p, header={"kid": "' UNION SELECT 'x"})), 401, "auth_failed"),
    "a key in the header": (
        lambda p: bearer(Provider().token(site="shop", header={"jwk": p.key_set()["keys"][0]})), 401, "auth_failed",
    ),
    "another provider's key": (lambda _: bearer(Provider().token(site="shop")), 401, "auth_failed"),
    "expired": (lambda p: bearer(token(p, exp=1)), 401, "auth_failed"),
    "not yet valid": (lambda p: bearer(token(p, nbf=4_000_000_000)), 401, "auth_failed"),
    "another audience": (lambda p: bearer(token(p, aud="admin")), 401, "auth_failed"),
    "another issuer": (lambda p: bearer(token(p, iss="https://evil.example")), 401, "auth_failed"),
    "another site": (lambda p: bearer(token(p, site="blog")), 401, "auth_failed"),
    "nobody": (lambda p: bearer(token(p, sub=None)), 401, "auth_failed"),
    "an unknown API key": (lambda _: bearer(new_key("api")), 401, "auth_failed"),
    "an expired API key": (lambda _: bearer(OLD), 401, "auth_failed"),
    "an API key's hash": (lambda _: bearer(hash_of(BOT)), 401, "auth_failed"),
    "another site's API key": (lambda _: bearer(BLOGGER, **{"X-Sidegate-Site": "shop"}), 401, "auth_failed"),
    "an API key from a foreign page": (lambda _: bearer(BOT, Origin="https://evil.example"), 403, "origin_denied"),
    "an API key from another site's page": (lambda _: bearer(BOT, Origin="https://blog.example"), 401, "auth_failed"),
    "an API key that may only read": (lambda _: bearer(SCREEN), 403, "forbidden_scope"),
    "an embed key as a bearer token": (lambda _: bearer(PAGE), 401, "auth_failed"),
    "an embed key instead of a session": (lambda _: {**BROWSER, "X-Embed-Key": PAGE}, 401, "auth_required"),
    "an endless token": (lambda _: bearer("a" * 7000), 401, "auth_failed"),
    "a made-up session": (lambda _: bearer(jwt.encode({}, "x" * 32, headers=TOKEN_HEADER)), 401, "session_invalid"),
    "another kind of Authorization": (lambda _: {"Authorization": "Basic Ym90OmJvdA=="}, 401, "auth_failed"),
}  # fmt: skip
OPENING: dict[str, tuple[Any, int, str]] = {
    "a browser without anything": (lambda _: BROWSER, 401, "auth_required"),
    "an unknown embed key": (lambda _: {**BROWSER, "X-Embed-Key": new_key("embed")}, 401, "auth_failed"),
    "an expired embed key": (lambda _: {**BROWSER, "X-Embed-Key": OLD_PAGE}, 401, "auth_failed"),
    "an embed key from a foreign page": (
        lambda _: {**BROWSER, "Origin": "https://evil.example", "X-Embed-Key": PAGE}, 403, "origin_denied",
    ),
    "an embed key from another site's page": (
        lambda _: {**BROWSER, "Origin": "https://blog.example", "X-Embed-Key": PAGE}, 401, "auth_failed",
    ),
    "an embed key from no page": (lambda _: {**SERVER, "X-Embed-Key": PAGE}, 403, "origin_denied"),
    "an API key as an embed key": (lambda _: {**BROWSER, "X-Embed-Key": BOT}, 401, "auth_failed"),
    "an API key that may only read": (lambda _: bearer(SCREEN), 403, "forbidden_scope"),
    "a forged token": (lambda _: bearer(Provider().token(site="shop"), **BROWSER), 401, "auth_failed"),
}  # fmt: skip
SECRETS = (BOT, SCREEN, OLD, BLOGGER, PAGE, OLD_PAGE)


def secrets_in(caplog: pytest.LogCaptureFixture, sent: list[str]) -> list[str]:
    told = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    parts = [piece for value in sent for piece in (value, *value.split(".")) if len(piece) > 12]
    return [part for part in (*SECRETS, *parts) if part in told]


@pytest.mark.parametrize("route", ["asking", "opening"])
async def test_each_attack_is_refused_with_its_code_counted_and_told_without_the_secret(
    route: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rows, send = (ASKING, ask) if route == "asking" else (OPENING, opened)
    async with world() as (visitor, provider):
        sent: list[str] = []
        for name, (headers, status, code) in rows.items():
            written = headers(provider)
            before = await denied(visitor)
            got = await send(visitor, SERVER | written if "Origin" not in written else written)
            assert (name, got[0], got[1]["code"]) == (name, status, code)
            after = await denied(visitor)
            assert (name, sum(after.values())) == (name, sum(before.values()) + 1)
            sent += [value.removeprefix("Bearer ") for key, value in written.items() if key in ("Authorization",)]
        assert secrets_in(caplog, sent) == []
        failures = [record for record in caplog.records if record.getMessage() == "AUTH_FAILED"]
        assert len(failures) >= sum(code in ("auth_failed", "forbidden_scope") for _, _, code in rows.values())
        assert (await ask(visitor, bearer(BOT, **SERVER)))[0] == 200


async def denied(visitor: Visitor) -> dict[str, float]:
    """Refusals by the guard, by their labels; without those that are only observed."""
    async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {
        line.split(" ")[0]: float(line.split(" ")[1])
        for line in lines
        if line.startswith("sidegate_denied_total") and "enforce" in line
    }


@pytest.mark.parametrize("name", ["access_token", "token", "api_key", "key", "jwt", "X-API-Key", "x-embed-key"])
async def test_a_credential_in_a_url_is_refused_and_not_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with world() as (visitor, _):
        for headers in (SERVER, bearer(BOT, **SERVER)):
            path = f"/v1/messages?{name}={BOT}"
            status, problem = await call(visitor, "POST", path, headers, json={"message": "hello"})
            assert (status, problem["code"]) == (400, "bad_request")
        assert secrets_in(caplog, []) == []


PROVIDERS: dict[str, Script] = {
    "down": plain(b"", "503 Service Unavailable"),
    "hanging up": [Step()],
    "huge": plain(b"x" * 100_000),
    "garbage": plain(b"\x00\xff{"),
    "redirecting": plain(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:1/keys"),
}


@pytest.mark.parametrize("script", PROVIDERS.values(), ids=PROVIDERS.keys())
async def test_without_keys_no_token_passes_and_clients_are_told_to_come_back(script: Script) -> None:
    async with world(script) as (visitor, provider):
        async with visitor.http.post(
            f"{visitor.url}/v1/messages", headers=bearer(token(provider), **SERVER), json={"message": "hello"}
        ) as response:
            problem = await response.json(content_type=None)
            assert (response.status, problem["code"]) == (503, "upstream_unavailable")
            assert response.headers["Retry-After"] == "5"
        assert (await ask(visitor, bearer(BOT, **SERVER)))[0] == 200


async def test_keys_are_rotated_without_a_gap() -> None:
    async with world() as (visitor, provider):
        assert (await ask(visitor, bearer(token(provider), **SERVER)))[0] == 200
        provider.keys["k2"] = new_private_key()
        status, problem = await ask(visitor, bearer(token(provider, kid="k2"), **SERVER))
        assert (status, problem["code"]) == (401, "auth_failed")  # the set was read less than half a minute ago
        assert (await ask(visitor, bearer(token(provider), **SERVER)))[0] == 200
        assert provider.asked == 1


async def test_who_brings_too_many_bad_ones_is_told_to_wait_and_good_tokens_pass() -> None:
    async with world(failures=5) as (visitor, provider):
        good = token(provider)
        for _ in range(5):
            assert (await ask(visitor, bearer(new_key("api"), **SERVER)))[1]["code"] == "auth_failed"
        for credential in (new_key("api"), Provider().token(), BOT):
            status, problem = await ask(visitor, bearer(credential, **SERVER))
            assert (status, problem["code"]) == (429, "rate_limited")
            assert 0 < problem["retry_after"] <= 60
        assert (await ask(visitor, bearer(good, **SERVER)))[0] == 200


async def test_replicas_share_what_was_refused_and_whose_a_conversation_is(tmp_path: Path) -> None:
    sites = {"shop": {"origins": ["https://shop.example"], "auth": ["api_key", "jwt"]}}
    async with identity_provider() as provider:
        jwt_settings = {"jwks_url": provider.url, "issuer": ISSUER, "audience": "chat", "algorithms": ["ES256"]}
        keys = {"api": API[:2], "jwt": jwt_settings, "failures": {"limit": 4}}
        async with pair(tmp_path, sites=sites, keys=keys) as two:
            status, answer = await ask(two.a, bearer(BOT, **SERVER), AT_ONCE)
            assert status == 200
            path, accept = f"/v1/answers/{answer['answer_id']}", {"Accept": "application/json", **SERVER}
            assert (await call(two.b, "GET", path, accept | bearer(SCREEN)))[0] == 200
            assert (await call(two.b, "GET", path, accept | bearer(token(provider))))[0] == 404
            for visitor in (two.a, two.b) * 2:
                assert (await ask(visitor, bearer(new_key("api"), **SERVER)))[1]["code"] == "auth_failed"
            for visitor in (two.a, two.b):
                assert (await ask(visitor, bearer(new_key("api"), **SERVER)))[1]["code"] == "rate_limited"
                assert (await ask(visitor, bearer(token(provider), **SERVER), AT_ONCE))[0] == 200


async def test_a_key_that_is_taken_away_takes_its_sessions_with_it() -> None:
    successor = {"name": "bot-2", "hash": hash_of(SCREEN), "site": "shop", "owner": "bot"}
    shop = {"shop": {"origins": ["https://shop.example"], "auth": ["api_key"]}}
    async with sidegate(ECHO, sites=shop, keys={"api": [API[0]]}) as visitor:
        session = (await opened(visitor, bearer(BOT, **SERVER)))[1]
        assert (await ask(visitor, bearer(session["access_token"], **SERVER)))[0] == 200
    async with sidegate(ECHO, sites=shop, keys={"api": [successor]}) as visitor:
        status, problem = await ask(visitor, bearer(session["access_token"], **SERVER))
        assert (status, problem["code"]) == (401, "session_invalid")
        assert (await ask(visitor, bearer(BOT, **SERVER)))[1]["code"] == "auth_failed"
        assert (await ask(visitor, bearer(SCREEN, **SERVER)))[0] == 200


async def test_the_workflow_knows_conversations_apart_by_owner_and_name() -> None:
    async with identity_provider() as provider, webhook(lambda _: stream("hi")) as hook:
        jwt_settings = {"jwks_url": provider.url, "issuer": ISSUER, "audience": "chat", "algorithms": ["ES256"]}
        sites = {"shop": {"origins": ["https://shop.example"], "auth": ["api_key", "jwt"]}}
        upstream = {"kind": "n8n", "url": hook.url}
        async with sidegate(upstream, sites=sites, keys={"api": API[:1], "jwt": jwt_settings}) as visitor:
            names = {"X-Sidegate-Conversation": "c1"}
            for headers in (
                bearer(BOT), bearer(BOT, **names), bearer(token(provider), **names), bearer(token(provider, sub="b")),
                bearer(BOT), bearer(token(provider, jti="2"), **names),
            ):  # fmt: skip
                assert (await ask(visitor, SERVER | headers))[0] == 200
        seen = [asked.json["sessionId"] for asked in hook.asked]
        assert len(set(seen[:4])) == 4
        assert seen[4:] == [seen[0], seen[2]]
