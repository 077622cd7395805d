"""Attacks on sessions, one row each: refused with the right code, counted, and no secret of anybody's in the log.

To add one, write a function that attacks and returns what it got, and name it in ATTACKS.
"""

from __future__ import annotations

import base64
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jwt
import orjson
import pytest

from proxy.guard.session import Sessions
from tests.sidegate import BROWSER, ORIGIN, SESSION_KEY, Visitor, sidegate

ECHO = {"kind": "echo", "delay": 0}
SITES = {name: {"origins": [f"https://{name}.example"], "upstream": "support"} for name in ("shop", "blog")}
FORM = "application/x-www-form-urlencoded"
THIEF = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"}
Got = tuple[int, str]


@dataclass
class World:
    """A visitor with a session by token and cookie, and with an answer; `ahead` moves the guard's clock."""

    visitor: Visitor
    ahead: list[float]
    opened: dict[str, Any] = field(default_factory=dict)
    cookie: str = ""
    answer_id: str = ""
    secrets: list[str] = field(default_factory=list)

    async def open(self, **headers: str) -> dict[str, Any]:
        async with self.visitor.http.post(f"{self.visitor.url}/v1/session", headers=BROWSER | headers) as response:
            opened: dict[str, Any] = await response.json()
            assert response.status == 200, opened
            cookie = response.cookies["chat_session_id"].value
        opened["cookie"] = cookie
        self.secrets += [opened[name] for name in ("access_token", "refresh_token", "cookie", "csrf_token")]
        return opened

    async def send(self, path: str, method: str = "POST", json: Any = None, **headers: str) -> Got:
        """A request of the visitor's browser, with other headers where given; an empty one is left out."""
        usual = BROWSER | ({"Sec-Fetch-Site": "same-origin"} if "Cookie" in headers else {})
        sent = {name: value for name, value in (usual | headers).items() if value}
        body = {"json": json} if json is not None else {}
        async with self.visitor.http.request(method, self.visitor.url + path, headers=sent, **body) as response:
            if response.status < 400:
                return response.status, ""
            return response.status, (await response.json(content_type=None))["code"]

    async def ask(self, **headers: str) -> Got:
        return await self.send("/v1/messages", json={"message": "hello"}, **headers)

    def bearer(self, token: str) -> dict[str, str]:
        self.secrets.append(token)
        return {"Authorization": f"Bearer {token}"}

    @property
    def own(self) -> dict[str, str]:
        return self.bearer(self.opened["access_token"])

    @property
    def own_cookie(self) -> dict[str, str]:
        return {"Cookie": f"chat_session_id={self.cookie}"}

    async def ticket(self) -> str:
        url = f"{self.visitor.url}/v1/session/ticket"
        async with self.visitor.http.post(url, headers=BROWSER | self.own) as response:
            ticket: str = (await response.json())["ticket"]
        self.secrets.append(ticket)
        return ticket

    async def denied(self) -> dict[str, float]:
        """How many refusals the guard has counted, by code."""
        async with self.visitor.http.get(f"{self.visitor.ops_url}/metrics") as response:
            text = await response.text()
        found: dict[str, float] = {}
        for code, number in re.findall(r'sidegate_denied_total\{code="(\w+)",mode="enforce".*\} (\S+)', text):
            found[code] = found.get(code, 0) + float(number)
        for status, number in re.findall(r'sidegate_requests_total\{.*status="(\d+)"\} (\S+)', text):
            found[status] = found.get(status, 0) + float(number)
        return found


@asynccontextmanager
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    ahead = [0.0]
    monkeypatch.setattr("proxy.parts.Sessions", partial(Sessions, clock=lambda: time.time() + ahead[0]))
    async with sidegate(ECHO, sites=SITES, session={"cookie": True}) as visitor:
        one = World(visitor, ahead)
        one.opened = await one.open()
        one.cookie = one.opened["cookie"]
        visitor.headers |= one.own
        one.answer_id = (await visitor.events("a secret question"))[0].fields["answer_id"]
        yield one


def forged(key: bytes, algorithm: str = "HS256", /, **claims: Any) -> str:
    now = int(time.time())
    usual = {
        "aud": "sidegate/access", "sid": "s1", "site": "shop", "fp": "", "iat": now, "exp": now + 900, "end": now + 900,
        "jti": "j", "own": "", "key": "", "born": now, "many": False,
    }  # fmt: skip
    return jwt.encode(usual | claims, key, algorithm=algorithm, headers={"typ": "sidegate+jwt"})


def our_key() -> bytes:
    return hmac.digest(SESSION_KEY.encode(), b"sidegate session tokens", "sha256")


def again(token: str, **claims: Any) -> dict[str, Any]:
    """What a good token says, with some of it changed."""
    return jwt.decode(token, options={"verify_signature": False}) | claims


async def without_anything(w: World) -> Got:
    return await w.ask()


async def an_expired_token(w: World) -> Got:
    w.ahead[0] = 901
    return await w.ask(**w.own)


async def a_token_that_is_not_valid_yet(w: World) -> Got:
    """Signed with our own key: nothing but its time speaks against it."""
    later = again(w.opened["access_token"], nbf=int(time.time()) + 60)
    return await w.ask(**w.bearer(forged(our_key(), **later)))


async def a_token_without_a_signature(w: World) -> Got:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"sidegate+jwt"}').decode().rstrip("=")
    return await w.ask(**w.bearer(f"{head}.{w.opened['access_token'].split('.')[1]}."))


async def another_key(w: World) -> Got:
    return await w.ask(**w.bearer(forged(b"x" * 32, **again(w.opened["access_token"]))))


async def the_configured_key_instead_of_the_derived_one(w: World) -> Got:
    return await w.ask(**w.bearer(forged(SESSION_KEY.encode(), **again(w.opened["access_token"]))))


async def another_algorithm(w: World) -> Got:
    return await w.ask(**w.bearer(forged(our_key() * 2, "HS512", **again(w.opened["access_token"]))))


async def a_longer_life(w: World) -> Got:
    head, _, signature = w.opened["access_token"].split(".")
    claims = orjson.dumps(again(w.opened["access_token"], exp=2**40, end=2**40))
    return await w.ask(**w.bearer(f"{head}.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{signature}"))


async def the_session_id_as_a_token(w: World) -> Got:
    return await w.ask(Authorization=f"Bearer {w.opened['session_id']}")


async def a_refresh_token_as_access_token(w: World) -> Got:
    return await w.ask(**w.bearer(w.opened["refresh_token"]))


async def an_access_token_as_cookie(w: World) -> Got:
    return await w.ask(Cookie=f"chat_session_id={w.opened['access_token']}")


async def a_session_of_another_site(w: World) -> Got:
    blog = await w.open(Origin="https://blog.example")
    return await w.ask(**w.bearer(blog["access_token"]))


async def a_page_of_another_site_of_ours(w: World) -> Got:
    return await w.ask(**w.own, Origin="https://blog.example")


async def a_replayed_refresh_token(w: World) -> Got:
    body = {"refresh_token": w.opened["refresh_token"]}
    assert await w.send("/v1/session/refresh", json=body) == (200, "")
    return await w.send("/v1/session/refresh", json=body)


async def going_on_after_a_replayed_refresh_token(w: World) -> Got:
    await a_replayed_refresh_token(w)
    return await w.ask(**w.own)


async def a_refresh_token_from_another_browser(w: World) -> Got:
    return await w.send("/v1/session/refresh", json={"refresh_token": w.opened["refresh_token"]}, **THIEF)


async def a_replayed_ticket(w: World) -> Got:
    path = f"/v1/answers/{w.answer_id}?ticket={await w.ticket()}"
    assert await w.send(path, "GET", Accept="application/json") == (200, "")
    return await w.send(path, "GET", Accept="application/json")


async def a_ticket_that_is_too_old(w: World) -> Got:
    ticket = await w.ticket()
    w.ahead[0] = 31
    return await w.send(f"/v1/events?ticket={ticket}", "GET")


async def a_ticket_from_another_browser(w: World) -> Got:
    return await w.send(f"/v1/events?ticket={await w.ticket()}", "GET", **THIEF)


async def a_ticket_for_another_ticket(w: World) -> Got:
    return await w.send(f"/v1/session/ticket?ticket={await w.ticket()}")


async def a_stolen_token_from_another_browser(w: World) -> Got:
    return await w.ask(**w.own, **THIEF)


async def a_stolen_cookie_from_another_browser(w: World) -> Got:
    return await w.ask(**w.own_cookie, **THIEF)


async def cookie_tossing(w: World) -> Got:
    mine = await w.open()
    return await w.ask(Cookie=f"chat_session_id={mine['cookie']}; chat_session_id={w.cookie}")


async def a_session_that_was_left(w: World) -> Got:
    assert await w.send("/v1/session", "DELETE", **w.own) == (204, "")
    return await w.ask(**w.own_cookie)


async def a_foreign_page(w: World) -> Got:
    return await w.ask(**w.own_cookie, Origin="https://evil.example")


async def a_page_that_sends_no_origin(w: World) -> Got:
    return await w.ask(**w.own_cookie, Origin="", Referer=f"{ORIGIN}/")


async def a_page_of_the_site_that_was_framed_elsewhere(w: World) -> Got:
    return await w.ask(**w.own_cookie, **{"Sec-Fetch-Site": "cross-site"})


async def a_form_of_the_sites_page(w: World) -> Got:
    return await w.send("/v1/session/ticket", **w.own_cookie, **{"Content-Type": FORM})


async def a_form_with_another_sessions_proof(w: World) -> Got:
    other = await w.open()
    proof = {"Content-Type": FORM, "X-CSRF-Token": other["csrf_token"]}
    return await w.send("/v1/session/ticket", **w.own_cookie, **proof)


async def handshake(w: World, path: str = "/v1/ws", **headers: str) -> Got:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": base64.b64encode(b"x" * 16).decode()}
    return await w.send(path, "GET", **upgrade, **key, **headers)


async def a_foreign_page_s_websocket(w: World) -> Got:
    return await handshake(w, **w.own_cookie, Origin="https://evil.example")


async def a_websocket_of_an_opaque_page(w: World) -> Got:
    return await handshake(w, **w.own_cookie, Origin="null")


async def a_websocket_by_cookie_without_an_origin(w: World) -> Got:
    return await handshake(w, **w.own_cookie, Origin="")


async def a_websocket_with_a_used_ticket(w: World) -> Got:
    ticket = await w.ticket()
    await w.send(f"/v1/answers/none?ticket={ticket}", "GET")
    return await handshake(w, f"/v1/ws?ticket={ticket}")


async def a_token_in_the_url(w: World) -> Got:
    return await w.send(f"/v1/events?access_token={w.opened['access_token']}", "GET")


async def another_sessions_answer(w: World) -> Got:
    other = await w.open()
    return await w.send(f"/v1/answers/{w.answer_id}", "GET", **w.bearer(other["access_token"]))


async def stopping_another_sessions_answer(w: World) -> Got:
    other = await w.open()
    return await w.send(f"/v1/answers/{w.answer_id}", "DELETE", **w.bearer(other["access_token"]))


async def another_sessions_answer_by_ticket(w: World) -> Got:
    w.opened = await w.open()
    return await w.send(f"/v1/answers/{w.answer_id}?ticket={await w.ticket()}", "GET")


Attack = Callable[[World], Awaitable[Got]]
INVALID, FAILED, DENIED = (401, "session_invalid"), (401, "auth_failed"), (403, "origin_denied")
ATTACKS: dict[Attack, Got] = {
    without_anything: (401, "auth_required"),
    an_expired_token: INVALID,
    a_token_that_is_not_valid_yet: INVALID,
    a_token_without_a_signature: FAILED,  # by its header it is none of ours
    another_key: INVALID,
    the_configured_key_instead_of_the_derived_one: INVALID,
    another_algorithm: FAILED,
    a_longer_life: INVALID,
    the_session_id_as_a_token: INVALID,
    a_refresh_token_as_access_token: INVALID,
    an_access_token_as_cookie: INVALID,
    a_session_of_another_site: INVALID,
    a_page_of_another_site_of_ours: INVALID,
    a_replayed_refresh_token: INVALID,
    going_on_after_a_replayed_refresh_token: INVALID,
    a_refresh_token_from_another_browser: INVALID,
    a_replayed_ticket: INVALID,
    a_ticket_that_is_too_old: INVALID,
    a_ticket_from_another_browser: INVALID,
    a_ticket_for_another_ticket: INVALID,
    a_stolen_token_from_another_browser: INVALID,
    a_stolen_cookie_from_another_browser: INVALID,
    cookie_tossing: INVALID,
    a_session_that_was_left: INVALID,
    a_foreign_page: DENIED,
    a_page_that_sends_no_origin: DENIED,
    a_page_of_the_site_that_was_framed_elsewhere: DENIED,
    a_form_of_the_sites_page: DENIED,
    a_form_with_another_sessions_proof: DENIED,
    a_foreign_page_s_websocket: DENIED,
    a_websocket_of_an_opaque_page: DENIED,
    a_websocket_by_cookie_without_an_origin: DENIED,
    a_websocket_with_a_used_ticket: INVALID,
    a_token_in_the_url: (400, "bad_request"),
    another_sessions_answer: (404, "bad_request"),
    stopping_another_sessions_answer: (404, "bad_request"),
    another_sessions_answer_by_ticket: (404, "bad_request"),
}
# Refused behind the guard: they are counted with the requests.
BEHIND = {a_ticket_for_another_ticket, another_sessions_answer, stopping_another_sessions_answer}
BEHIND |= {another_sessions_answer_by_ticket}


@pytest.mark.parametrize(("attack", "refusal"), ATTACKS.items(), ids=[attack.__name__ for attack in ATTACKS])
async def test_it_is_refused_counted_and_no_secret_is_logged(
    attack: Attack, refusal: Got, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with world(monkeypatch) as w:
        before = await w.denied()
        assert await attack(w) == refusal
        after = await w.denied()
        assert after[str(refusal[0])] > before.get(str(refusal[0]), 0)
        if attack not in BEHIND:
            assert after[refusal[1]] > before.get(refusal[1], 0)
    logged = "\n".join(repr(vars(record)) for record in caplog.records)
    assert "request" in logged
    for secret in [*w.secrets, SESSION_KEY, "a secret question"]:
        assert secret not in logged


async def test_what_is_refused_above_works_where_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(monkeypatch) as w:
        form = {"Content-Type": FORM, "X-CSRF-Token": w.opened["csrf_token"]}
        assert await w.ask(**w.own) == await w.ask(**w.own_cookie) == (200, "")
        assert await w.send("/v1/session/ticket", **w.own_cookie, **form) == (200, "")
        assert await w.ask(**w.bearer(forged(our_key(), **again(w.opened["access_token"])))) == (200, "")
        for path, headers in (("/v1/ws", w.own_cookie), (f"/v1/ws?ticket={await w.ticket()}", {})):
            async with w.visitor.http.ws_connect(w.visitor.url + path, headers=BROWSER | headers) as socket:
                await socket.send_json({"type": "ping"})
                assert (await socket.receive_json(timeout=10))["type"] == "pong"


async def test_an_id_that_the_client_brings_is_never_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(monkeypatch) as w:
        fixed = "chosen-by-the-attacker"
        for headers in ({"Cookie": f"chat_session_id={fixed}"}, w.own_cookie, {"X-Session-Id": fixed}):
            url = f"{w.visitor.url}/v1/session?session_id={fixed}"
            body = {"session_id": fixed, "sessionId": fixed}
            async with w.visitor.http.post(url, json=body, headers=BROWSER | headers) as response:
                opened, cookie = await response.json(), response.cookies["chat_session_id"].value
            assert opened["session_id"] not in (fixed, w.opened["session_id"])
            assert cookie not in (fixed, w.cookie)


async def test_over_a_websocket_another_sessions_answers_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(monkeypatch) as w:
        other = await w.open()
        headers = BROWSER | w.bearer(other["access_token"])
        async with w.visitor.http.ws_connect(f"{w.visitor.url}/v1/ws", headers=headers) as socket:
            for kind in ("resume", "stop"):
                await socket.send_json({"type": kind, "answer_id": w.answer_id})
                frame = await socket.receive_json(timeout=10)
                assert (frame["type"], frame["code"]) == ("error", "bad_request")
                assert "secret" not in str(frame)


async def test_another_sessions_idempotency_key_and_channel_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(monkeypatch) as w:
        key = {"Idempotency-Key": "k1"}
        first = (await w.visitor.events("hello", headers=key))[0].fields["answer_id"]
        assert (await w.visitor.events("hello", headers=key))[0].fields["answer_id"] == first
        other = await w.open()
        w.visitor.headers |= w.bearer(other["access_token"])
        assert (await w.visitor.events("hello", headers=key))[0].fields["answer_id"] != first
        async with w.visitor.http.get(f"{w.visitor.url}/v1/events", headers=w.visitor.headers) as channel:
            told = b""
            while b"event: start" not in told:
                told += await channel.content.readany()
            assert first.encode() not in told
            assert w.answer_id.encode() not in told
