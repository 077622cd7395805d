"""@n8n/chat's address: its two forms of answer, whose conversation it is, what it shows of failures, its history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from proxy.guard.keys import hash_of, new_key
from tests.sidegate import BROWSER, ORIGIN, Visitor, sidegate
from tests.upstreams import BEGIN, HEAD, Asked, Script, Step, Webhook, chunk, item, plain, stream, webhook

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
PAGE, BOT = new_key("embed"), new_key("api")
STREAMING = {"Accept": "text/plain"}
MEMORY = orjson.dumps(
    {
        "data": [
            {"lc": 1, "id": ["langchain_core", "messages", "SystemMessage"], "kwargs": {"content": "inner-secret"}},
            {"lc": 1, "id": ["langchain_core", "messages", "HumanMessage"], "kwargs": {"content": "I am [EMAIL_1]"}},
            {"lc": 1, "id": ["langchain_core", "messages", "AIMessage"], "kwargs": {"content": "Hi <img src=x>"}},
        ]
    }
)


@asynccontextmanager
async def world(
    script: Script | Callable[[Asked], Script], *, history: bool = False, **more: Any
) -> AsyncIterator[tuple[Visitor, Webhook]]:
    """Any: configuration as written."""
    async with webhook(script if callable(script) else lambda asked: script) as hook:
        upstream = {"kind": "n8n", "url": hook.url, "history": history}
        async with sidegate(upstream, **more) as visitor:
            yield visitor, hook


async def post(visitor: Visitor, fields: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
    """Status, headers and JSON, or the lines of a stream."""
    url = f"{visitor.url}/chat/shop"
    async with visitor.http.post(url, json=fields, headers=visitor.headers | (headers or {})) as response:
        body = await response.read()
        if response.content_type == "application/x-ndjson":
            return response.status, response.headers, [orjson.loads(line) for line in body.splitlines()]
        return response.status, response.headers, orjson.loads(body)


def message(text: str = "hello", visitor: str = "v1", **more: Any) -> dict[str, Any]:
    return {"action": "sendMessage", "sessionId": visitor, "chatInput": text, **more}


def loading(visitor: str = "v1") -> dict[str, Any]:
    return {"action": "loadPreviousSession", "sessionId": visitor}


async def test_a_plain_answer_is_what_the_widget_shows() -> None:
    async with world(stream("Good ", "day")) as (visitor, hook):
        status, headers, answer = await post(visitor, message(metadata={"page": "/a"}))
        assert (status, answer) == (200, {"output": "Good day"})
        assert headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "X-RateLimit-Limit" in headers
        sent = hook.asked[0].json
        assert sent["action"] == "sendMessage"
        assert sent["chatInput"] == "hello"
        assert isinstance(sent["metadata"], dict)
        assert (sent["metadata"]["page"], sent["metadata"]["site"]) == ("/a", "shop")


async def test_a_stream_is_n8ns_lines_without_its_nodes() -> None:
    async with world(stream("Good ", "day")) as (visitor, _):
        status, headers, lines = await post(visitor, message(), STREAMING)
        assert status == 200
        assert headers["Cache-Control"] == "no-store, no-transform"
        assert [line["type"] for line in lines][:1] + [line["type"] for line in lines][-1:] == ["begin", "end"]
        assert "".join(line.get("content", "") for line in lines) == "Good day"
        assert {line["metadata"]["nodeName"] for line in lines} == {"Sidegate"}


async def test_by_get_it_is_the_same() -> None:
    async with world(stream("Good ", "day")) as (visitor, hook):
        query = message() | {"metadata": "[object Object]"}
        async with visitor.http.get(f"{visitor.url}/chat/shop", params=query, headers=visitor.headers) as response:
            assert await response.json() == {"output": "Good day"}
        query = loading()
        async with visitor.http.get(f"{visitor.url}/chat/shop", params=query, headers=visitor.headers) as response:
            assert await response.json() == {"data": []}
        assert len(hook.asked) == 1


async def test_a_picture_in_a_foreign_page_runs_no_workflow() -> None:
    async with world(stream("x")) as (visitor, hook):
        headers = FIREFOX | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        async with visitor.http.get(f"{visitor.url}/chat/shop", params=message(), headers=headers) as response:
            assert response.status == 403
        assert hook.asked == []


async def test_a_visitors_id_counts_in_one_browser_and_never_reaches_n8n() -> None:
    async with world(stream("x")) as (visitor, hook):
        for headers in ({}, {}, FIREFOX, {"Accept-Language": "fr-FR"}):
            await post(visitor, message(), headers)
        await post(visitor, message(visitor="v2"))
        first, again, other_browser, other_language, other_id = [asked.json["sessionId"] for asked in hook.asked]
        assert first == again
        assert len({first, other_browser, other_language, other_id}) == 4
        assert all(b'"v1"' not in asked.body for asked in hook.asked)


async def test_a_visitors_id_counts_in_one_network() -> None:
    async with world(stream("x"), listen={"host": "127.0.0.1", "port": 0, "trusted_proxies": ["127.0.0.1"]}) as (
        visitor,
        hook,
    ):
        for address in ("192.0.2.7", "192.0.2.99", "198.51.100.7"):
            await post(visitor, message(), {"X-Forwarded-For": address})
        first, near, far = [asked.json["sessionId"] for asked in hook.asked]
        assert first == near
        assert first != far


async def test_on_a_page_of_our_own_origin_a_cookie_tells_browsers_apart() -> None:
    here = {"Sec-Fetch-Site": "same-origin"}
    async with world(stream("x")) as (visitor, hook):
        _, headers, _ = await post(visitor, loading(), here)
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "Path=/chat/shop" in cookie
        kept = {"Cookie": cookie.partition(";")[0]}
        for more in (kept, kept | FIREFOX, {}, {"Cookie": "sidegate_widget=made-up"}):
            await post(visitor, message(), here | more)
        first, again, second_browser, made_up = [asked.json["sessionId"] for asked in hook.asked]
        assert first == again
        assert len({first, second_browser, made_up}) == 3
        _, headers, _ = await post(visitor, message())
        assert "Set-Cookie" not in headers


async def test_the_chat_pages_own_cookie_has_no_say() -> None:
    async with world(stream("x"), session={"cookie": True}) as (visitor, hook):
        status, _, _ = await post(visitor, message(), {"Cookie": "chat_session_id=ended"})
        assert (status, len(hook.asked)) == (200, 1)


async def test_a_site_with_keys_wants_one_with_every_message() -> None:
    sites = {
        "shop": {
            "origins": [ORIGIN],
            "upstream": "support",
            "auth": ["embed_key", "api_key"],
            "embed_keys": [{"hash": hash_of(PAGE)}],
        }
    }
    keys = {"api": [{"name": "bot", "hash": hash_of(BOT), "site": "shop"}]}
    async with world(stream("x"), sites=sites, keys=keys) as (visitor, hook):
        status, _, answer = await post(visitor, message())
        assert (status, answer["code"]) == (401, "auth_required")
        assert (await post(visitor, loading()))[2] == {"data": []}
        assert hook.asked == []
        assert (await post(visitor, message(), {"X-Embed-Key": "guessed"}))[0] == 401
        assert (await post(visitor, message(), {"X-Embed-Key": PAGE}))[0] == 200
        for visitor_id in ("v1", "v2"):
            for browser in ({}, FIREFOX):
                key = {"Authorization": f"Bearer {BOT}"}
                assert (await post(visitor, message(visitor=visitor_id), key | browser))[0] == 200
        _, one, one_again, two, _ = [asked.json["sessionId"] for asked in hook.asked]
        assert one == one_again  # who has a key of its own may be anywhere
        assert one != two


@pytest.mark.parametrize("headers", [{}, STREAMING])
async def test_a_refusal_is_a_sentence_that_the_widget_shows(headers: dict[str, str]) -> None:
    sections: dict[str, Any] = {"limits": [{"per": "session", "limit": 1, "window": 3600}]}
    async with world(stream("x"), **sections) as (visitor, hook):
        await post(visitor, message())
        status, told, answer = await post(visitor, message(), headers)
        assert "Retry-After" in told
        sentence = "Too many messages. Please wait a moment."
        if headers:
            assert status == 200
            assert [(line["type"], line["content"]) for line in answer] == [("error", sentence)]
        else:
            assert (status, answer["message"]) == (429, sentence)
        status, _, answer = await post(visitor, message("<script>alert(1)</script>", "v2"), headers)
        assert "can't be sent" in str(answer)
        for name, bad in (("action", "x"), ("sessionId", ""), ("chatInput", 1), ("metadata", []), ("files", ["x"])):
            status, _, answer = await post(visitor, message() | {name: bad}, headers)
            assert status == (200 if headers else 400)
            assert "field" in str(answer) or "Files" in str(answer)
        assert len(hook.asked) == 1


@pytest.mark.parametrize("headers", [{}, STREAMING])
async def test_a_failure_is_a_sentence_and_nothing_of_n8n(headers: dict[str, str]) -> None:
    async with world(plain(b"inner-secret", "500 Internal Server Error")) as (visitor, _):
        status, _, answer = await post(visitor, message(), headers)
        assert status == (200 if headers else 502)
        assert "The assistant failed to answer." in str(answer)
        assert "inner-secret" not in str(answer)


async def test_an_answer_that_breaks_off_ends_in_an_error() -> None:
    async with world([Step(HEAD + chunk(BEGIN) + chunk(item("Good "))), Step()]) as (visitor, _):
        _, _, lines = await post(visitor, message(), STREAMING)
        assert [line["type"] for line in lines] == ["begin", "item", "error"]
        status, _, answer = await post(visitor, message())
        assert (status, answer["code"]) == (502, "upstream_error")


async def test_other_methods_pages_and_sites_are_told_so() -> None:
    async with world(stream("x")) as (visitor, _):
        async with visitor.http.put(f"{visitor.url}/chat/shop", headers=visitor.headers) as response:
            assert response.status == 405
            assert "message" in await response.json()
        async with visitor.http.post(f"{visitor.url}/chat/none", json=message(), headers=visitor.headers) as response:
            assert response.status == 400
        status, headers, _ = await post(visitor, message(), {"Origin": "https://evil.example"})
        assert status == 403
        assert "Access-Control-Allow-Origin" not in headers
        asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        for origin, expected in ((ORIGIN, 204), ("https://evil.example", 403)):
            headers = BROWSER | asking | {"Origin": origin}
            async with visitor.http.options(f"{visitor.url}/chat/shop", headers=headers) as response:
                assert response.status == expected


def remembering(asked: Asked) -> Script:
    return plain(MEMORY) if asked.json["action"] == "loadPreviousSession" else stream("x")


async def test_history_is_n8ns_memory_filtered_and_with_the_visitors_own_values() -> None:
    async with world(remembering, history=True) as (visitor, hook):
        await post(visitor, message("I am ada@acme.test"))
        _, _, answer = await post(visitor, loading())
        assert [(one["id"][-1], one["kwargs"]["content"]) for one in answer["data"]] == [
            ("HumanMessage", "I am ada@acme.test"),
            ("AIMessage", "Hi &lt;img src=x>"),
        ]
        asked = [one.json["sessionId"] for one in hook.asked]
        assert asked[0] == asked[1]
        _, _, answer = await post(visitor, loading(), FIREFOX)
        assert hook.asked[2].json["sessionId"] != asked[0]
        assert "ada@acme.test" not in str(answer)


async def test_without_a_memory_to_ask_nothing_is_asked() -> None:
    async with world(remembering) as (visitor, hook):
        assert (await post(visitor, loading()))[2] == {"data": []}
        assert hook.asked == []


@pytest.mark.parametrize(
    "reply",
    [
        plain(b"{}", "500 Internal Server Error"),
        plain(b"<html>"),
        plain(b'{"data":{}}'),
        plain(b"x" * 600_000),
        [Step()],
    ],
)
async def test_a_history_that_cannot_be_had_is_an_empty_one_and_no_failure_of_the_upstream(reply: Script) -> None:
    def script(asked: Asked) -> Script:
        return reply if asked.json["action"] == "loadPreviousSession" else stream("x")

    async with world(script, history=True) as (visitor, _):
        for _ in range(7):
            status, _, answer = await post(visitor, loading())
            assert (status, answer) == (200, {"data": []})
        assert (await post(visitor, message()))[2] == {"output": "x"}


async def test_histories_are_limited_like_openings_and_then_empty() -> None:
    limits = [{"per": "ip", "limit": 2, "window": 3600}]
    async with world(remembering, history=True, limits=limits) as (visitor, hook):
        found = [len((await post(visitor, loading()))[2]["data"]) for _ in range(3)]
        assert found == [2, 2, 0]
        assert len(hook.asked) == 2


async def test_a_crash_before_the_history_is_an_empty_history(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("made for this test")

    monkeypatch.setattr("proxy.guard.session.Sessions.adopt", crash)
    async with world(remembering, history=True) as (visitor, _):
        assert (await post(visitor, loading()))[2] == {"data": []}
        status, _, lines = await post(visitor, message(), STREAMING)
        assert (status, lines[0]["type"]) == (200, "error")
