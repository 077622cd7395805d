"""What goes upstream beside the body is ours; of the visitor's, the little that is named here."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.config import Secret
from proxy.upstream import build
from proxy.upstream.headers import BasicAuth, HeaderAuth, request_headers, visitor_headers
from tests.clients import client, request
from tests.upstream.script import answer, n8n, owned, plain, says, serving

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def heard(**given: Any) -> dict[str, str]:  # Any: as a configuration file has them
    """The headers of a request as the upstream got them."""
    async with serving(says(plain(b"hello"))) as server, build(n8n(server.url, **given), owned) as upstream:
        assert await answer(upstream) == ("hello", None)
    return {name: value for name, value in server.heard[0].headers.items() if name not in ("Host", "Content-Length")}


async def test_these_headers_go_upstream_and_no_others() -> None:
    assert await heard() == {
        "Accept": "application/json, text/plain;q=0.9, */*;q=0.8",
        "Accept-Encoding": "identity",
        "Authorization": "Bearer tok.e.n",
        "Content-Type": "application/json",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Host": "chat.example",
        "X-Forwarded-Proto": "https",
        "X-Request-Id": "r1",
        "traceparent": request_headers(request())["traceparent"],
    }


async def test_without_auth_there_is_no_token() -> None:
    assert "Authorization" not in await heard(auth="none")


async def test_header_auth_goes_beside_the_token() -> None:
    auth = HeaderAuth(kind="header", name="X-N8N-API-KEY", value=Secret("a key"))
    headers = await heard(auth=auth)
    assert (headers["X-N8N-API-KEY"], headers["Authorization"]) == ("a key", "Bearer tok.e.n")


async def test_header_auth_that_is_authorization_takes_the_tokens_place() -> None:
    headers = await heard(auth=HeaderAuth(kind="header", name="authorization", value=Secret("Token x")))
    assert headers["Authorization"] == "Token x"
    assert "authorization" not in headers


async def test_basic_auth_takes_the_tokens_place() -> None:
    headers = await heard(auth=BasicAuth(kind="basic", user="jürgen", password=Secret("a:b")))
    assert headers["Authorization"] == "Basic asO8cmdlbjphOmI="


async def test_a_visitor_without_a_user_agent_has_none_upstream() -> None:
    async with serving(says(plain(b"hello"))) as server, build(n8n(server.url), owned) as upstream:
        await answer(upstream, request(user_agent="", host=""))
    assert "User-Agent" not in server.heard[0].headers
    assert "X-Forwarded-Host" not in server.heard[0].headers


async def test_what_a_visitor_calls_itself_can_neither_break_the_request_nor_bloat_it() -> None:
    name = "Mozilla\r\nX-Evil: 1\0 \udcff é" + "x" * 5000
    async with serving(says(plain(b"hello"))) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream, request(user_agent=name, host="h\r\nX-Evil: 1")) == ("hello", None)
    headers = server.heard[0].headers
    assert headers["User-Agent"].startswith("MozillaX-Evil: 1  x")
    assert len(headers["User-Agent"]) <= 1024
    assert headers["X-Forwarded-Host"] == "hX-Evil: 1"
    assert "X-Evil" not in headers


def test_the_clients_trace_goes_on() -> None:
    assert request_headers(request(traceparent=TRACE))["traceparent"] == TRACE


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        TRACE.upper(),
        TRACE + "-more",
        TRACE + "\n",
        "ff" + TRACE[2:],
        "00-" + "0" * 32 + TRACE[35:],
        TRACE[:36] + "0" * 16 + "-01",
    ],
)
def test_without_a_valid_trace_one_begins_that_the_request_id_leads_to(given: str | None) -> None:
    headers = request_headers(request(traceparent=given))
    assert headers["traceparent"] != given
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", headers["traceparent"])
    assert headers == request_headers(request(traceparent=given))


def test_the_visitors_address_is_the_only_one_that_is_told() -> None:
    assert visitor_headers(request(ip="2001:db8::1"))["X-Forwarded-For"] == "2001:db8::1"
    assert "10.0.0.1" not in str(visitor_headers(request(referer="http://10.0.0.1/", origin="http://10.0.0.1")))
    assert client().ip == "192.0.2.7"


@pytest.mark.parametrize(
    "auth",
    [
        "token",
        {"kind": "digest"},
        {"kind": "header", "name": "X: y", "value": Secret("secret")},
        {"kind": "header", "name": "", "value": Secret("secret")},
        {"kind": "header", "name": "Host", "value": Secret("secret")},
        {"kind": "header", "name": "x-forwarded-for", "value": Secret("secret")},
        {"kind": "header", "name": "Transfer-Encoding", "value": Secret("secret")},
        {"kind": "header", "name": "X-Key", "value": Secret("secret\r\nX-Evil: 1")},
        {"kind": "header", "name": "X-Key", "value": Secret("")},
        {"kind": "basic", "user": "a:b", "password": Secret("secret")},
        {"kind": "basic", "user": "a"},
    ],
)
def test_credentials_that_no_request_can_carry_stop_the_start_unseen(auth: object) -> None:
    with pytest.raises(ValidationError) as caught:
        n8n("http://n8n/", auth=auth)
    assert "secret\r" not in str(caught.value)
