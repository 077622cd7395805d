"""What every answer carries, who may read it from a page, and how sessions, pages and the owner's listener answer."""

from __future__ import annotations

import re
from typing import Any

import pytest

from proxy.edge.headers import SECURITY, Cors, security_headers
from proxy.model import Site
from tests.sidegate import JWT_KEY, ORIGIN, Visitor, sidegate

ECHO = {"kind": "echo", "delay": 0}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/page/page.js", 404),
        ("PUT", "/v1/messages", 405),
        ("POST", "/v1/messages", 401),
        ("OPTIONS", "/v1/messages", 204),
    ],
)
async def test_every_answer_has_the_security_headers_and_a_request_id(method: str, path: str, status: int) -> None:
    async with sidegate(ECHO) as visitor:
        headers = visitor.headers | (PREFLIGHT if method == "OPTIONS" else {})
        async with visitor.http.request(method, visitor.url + path, headers=headers) as response:
            assert response.status == status
            assert response.headers.items() >= SECURITY.items()
            assert len(response.headers["X-Request-Id"]) == 32
            assert "Server" not in response.headers
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert "Origin" in response.headers["Vary"]
            if status >= 400:
                problem = await response.json(content_type="application/problem+json")
                assert problem["status"] == status
                assert problem["request_id"] == response.headers["X-Request-Id"]
                assert problem.keys() >= {"type", "title", "code"}
            if status == 405:
                assert "POST" in response.headers["Allow"]
            if status == 401:
                assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", f"{ORIGIN}.evil.example"])
async def test_a_foreign_page_can_neither_preflight_nor_read(origin: str | None) -> None:
    async with sidegate(ECHO) as visitor:
        del visitor.headers["Origin"]
        headers = visitor.headers | ({} if origin is None else {"Origin": origin})
        async with visitor.http.options(f"{visitor.url}/v1/messages", headers=headers | PREFLIGHT) as response:
            assert response.status == 403
            assert "Access-Control-Allow-Origin" not in response.headers
        if origin is not None:
            async with visitor.http.post(f"{visitor.url}/v1/session", headers=headers) as response:
                assert response.status == 403
                assert (await response.json(content_type=None))["code"] == "origin_denied"
                assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_preflight_names_methods_and_headers_and_never_a_wildcard() -> None:
    async with (
        sidegate(ECHO) as visitor,
        visitor.http.options(f"{visitor.url}/v1/messages", headers=visitor.headers | PREFLIGHT) as response,
    ):
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        assert "*" not in "".join(value for name, value in response.headers.items() if name.startswith("Access-"))
        assert "Access-Control-Allow-Credentials" not in response.headers


def test_credentials_are_allowed_only_where_the_site_says_so() -> None:
    sites = [
        Site("a", frozenset({"https://a.example"}), "u"),
        Site("b", frozenset({"https://b.example"}), "u", False, True),
    ]
    cors = Cors(sites)
    assert "Access-Control-Allow-Credentials" not in cors.headers("https://a.example")
    assert cors.headers("https://b.example")["Access-Control-Allow-Credentials"] == "true"
    assert cors.headers("https://c.example") == cors.headers(None) == {"Vary": "Origin"}


def test_transport_security_is_promised_in_production_only() -> None:
    assert "Strict-Transport-Security" in security_headers(production=True)
    assert "Strict-Transport-Security" not in security_headers(production=False)


async def test_a_host_that_is_not_ours_is_refused_everywhere_but_at_the_health_check() -> None:
    async with sidegate(ECHO, listen={"host": "127.0.0.1", "port": 0, "allowed_hosts": ["chat.example"]}) as visitor:
        for path in ("/v1/session", "/v1/messages", "/v1/session/ticket"):
            async with visitor.http.post(visitor.url + path, headers=visitor.headers) as response:
                assert (await response.json(content_type=None))["code"] == "host_denied"
        async with visitor.http.options(f"{visitor.url}/v1/session", headers=visitor.headers | PREFLIGHT) as response:
            assert response.status == 403
        async with visitor.http.get(f"{visitor.url}/health") as response:
            assert await response.json() == {"status": "ok", "version": "0.1.0"}
        await visitor.session(Host="chat.example")


async def post(visitor: Visitor, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
    async with visitor.http.post(visitor.url + path, json=body, headers=visitor.headers | headers) as response:
        return response.status, await response.json(content_type=None)


async def test_a_session_says_which_files_its_site_takes() -> None:
    async with sidegate(ECHO, uploads={"max_files": 2, "max_bytes": 5000, "types": ["text/plain"]}) as visitor:
        opened = await visitor.session()
        assert opened["uploads"] == {
            "max_files": 2,
            "max_bytes": 5000,
            "types": dict.fromkeys(("txt", "text", "log"), "text/plain"),
        }
    model = {"kind": "openai", "url": "http://127.0.0.1:1/v1/chat/completions", "model": "m"}
    for upstream, uploads in ((ECHO, {"max_files": 0}), (model, {})):
        async with sidegate(upstream, uploads=uploads) as visitor:
            assert "uploads" not in await visitor.session()


async def test_a_session_is_opened_refreshed_and_its_old_refresh_token_refused() -> None:
    async with sidegate(ECHO) as visitor:
        opened = await visitor.session()
        assert opened.pop("uploads")["types"]["jpeg"] == "image/jpeg"
        assert opened.keys() == {"session_id", "access_token", "expires_in", "refresh_token", "refresh_expires_in"}
        assert (opened["expires_in"], opened["refresh_expires_in"]) == (900, 604_800)
        del visitor.headers["Authorization"]
        body = {"refresh_token": opened["refresh_token"]}
        status, refreshed = await post(visitor, "/v1/session/refresh", body)
        assert (status, refreshed["session_id"]) == (200, opened["session_id"])
        status, problem = await post(visitor, "/v1/session/refresh", body)
        assert (status, problem["code"]) == (401, "session_invalid")
        status, problem = await post(visitor, "/v1/session/refresh", {"refresh_token": 1})
        assert (status, problem["code"]) == (400, "bad_request")


async def test_the_cookie_is_for_this_server_alone_and_serves_as_credential() -> None:
    async with sidegate(ECHO, session={"cookie": True, "cookie_name": "sid"}) as visitor:
        async with visitor.http.post(f"{visitor.url}/v1/session", headers=visitor.headers) as response:
            cookie = response.cookies["sid"]
            assert cookie["httponly"]
            assert cookie["samesite"] == "Lax"
            assert cookie["max-age"] == "86400"
            assert not cookie["secure"]  # plain HTTP in development
        headers = {"Cookie": f"sid={cookie.value}", "Sec-Fetch-Site": "same-origin"}
        assert (await visitor.events(headers=headers))[-1].name == "done"


@pytest.mark.parametrize("name", ["sid", "__Host-sid"])
async def test_a_cookie_for_pages_of_other_sites_is_partitioned_and_secure(name: str) -> None:
    session = {"cookie": True, "cookie_name": name, "cookie_embedded": name == "sid"}
    rest = "SameSite=None; Partitioned" if name == "sid" else "SameSite=Lax"
    async with sidegate(ECHO, session=session) as visitor:
        url = f"{visitor.url}/v1/session"
        async with visitor.http.post(url, headers=visitor.headers) as response:
            (cookie,) = response.headers.getall("Set-Cookie")
        assert re.fullmatch(rf"{name}=[\w.-]+; Max-Age=86400; Path=/; HttpOnly; Secure; {rest}", cookie)
        headers = visitor.headers | {"Cookie": cookie.partition(";")[0], "Sec-Fetch-Site": "same-site"}
        async with visitor.http.delete(url, headers=headers) as response:
            assert response.status == 204
            assert response.headers["Set-Cookie"] == f"{name}=; Max-Age=0; Path=/; HttpOnly; Secure; {rest}"


async def test_a_session_of_one_site_cannot_be_refreshed_from_another_sites_page() -> None:
    sites = {
        "shop": {"origins": [ORIGIN], "upstream": "support"},
        "blog": {"origins": ["https://blog.example"], "upstream": "support"},
    }
    async with sidegate(ECHO, sites=sites) as visitor:
        opened = await visitor.session()
        body = {"refresh_token": opened["refresh_token"]}
        status, problem = await post(visitor, "/v1/session/refresh", body, Origin="https://blog.example")
        assert (status, problem["code"]) == (401, "session_invalid")
        status, problem = await visitor.problem(headers={"Origin": "https://blog.example"})
        assert (status, problem["code"]) == (401, "session_invalid")


async def test_a_ticket_buys_no_ticket() -> None:
    async with sidegate(ECHO) as visitor:
        await visitor.session()
        _, ticket = await post(visitor, "/v1/session/ticket")
        del visitor.headers["Authorization"]
        status, problem = await post(visitor, f"/v1/session/ticket?ticket={ticket['ticket']}")
        assert (status, problem["code"]) == (401, "session_invalid")


async def test_the_chat_page_is_served_where_it_is_switched_on() -> None:
    async with sidegate(ECHO, sites={"shop": {"upstream": "support", "page": True}}) as visitor:
        for path, kind in (("/", "text/html"), ("/page/page.js", "text/javascript"), ("/page/page.css", "text/css")):
            async with visitor.http.get(visitor.url + path) as response:
                assert (response.status, response.content_type) == (200, kind)
                assert "script-src 'self'" in response.headers["Content-Security-Policy"]
                assert "unsafe" not in response.headers["Content-Security-Policy"]
        for path in ("/page/nothing.js", "/page/index.html.bak", "/page/__init__.py"):
            async with visitor.http.get(visitor.url + path) as response:
                assert response.status == 404
        visitor.headers["Origin"] = visitor.url
        await visitor.session()
        assert (await visitor.events())[-1].name == "done"


async def test_the_owner_sees_how_it_is() -> None:
    async with sidegate(ECHO) as visitor:
        await visitor.session()
        await visitor.events()
        answers = {}
        for path in ("/livez", "/readyz", "/health"):
            async with visitor.http.get(visitor.ops_url + path) as response:
                assert response.status == 200
                answers[path] = await response.json()
        assert answers["/livez"] == {"status": "ok"}
        assert answers["/readyz"] == {"status": "ready"}
        assert answers["/health"] == {
            "status": "ok",
            "version": "0.1.0",
            "environment": "development",
            "services": {"redis": "off", "upstreams": {"support": "ok"}, "breaker": {"support": "closed"}},
            "replicas": 1,
            "sse_connections": 0,
            "ws_connections": 0,
            "active_sessions": 1,
            "workers": 1,
        }
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            assert response.content_type == "text/plain"
            assert 'sidegate_answers_total{outcome="done",site="shop"} 1.0' in await response.text()
        async with visitor.http.get(f"{visitor.ops_url}/metrics", headers={"Accept": "application/json"}) as response:
            summary = await response.json()
            assert summary["metrics"]["sidegate_answers_total"] == 1
            assert summary["active_sessions"] == 1
        visitor.live.draining = True
        async with visitor.http.get(f"{visitor.ops_url}/readyz") as response:
            assert (response.status, await response.json()) == (503, {"status": "draining"})
        async with visitor.http.get(f"{visitor.ops_url}/health") as response:
            assert (await response.json())["status"] == "draining"


async def test_metrics_and_health_want_the_ops_token_where_there_is_one() -> None:
    async with sidegate(ECHO, ops={"port": 0, "token": {"env": "JWT_SECRET_KEY"}}) as visitor:
        for path in ("/health", "/metrics"):
            for headers, status in (
                ({}, 401),
                ({"Authorization": "Bearer wrong"}, 401),
                ({"Authorization": f"Basic {JWT_KEY}"}, 401),
                ({"Authorization": f"Bearer {JWT_KEY}"}, 200),
            ):
                async with visitor.http.get(visitor.ops_url + path, headers=headers) as response:
                    assert response.status == status
        for path in ("/livez", "/readyz"):
            async with visitor.http.get(visitor.ops_url + path) as response:
                assert response.status == 200
