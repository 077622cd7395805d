"""An execution that asks its visitor back through @n8n/chat: who may answer, what passes both ways, and the buttons."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from proxy.guard.keys import hash_of, new_key
from proxy.streams.executions import Executions
from proxy.streams.seal import Sealer
from tests.asking import DONE, HEARTBEAT, Chat, N8n, asking, asks, begin, chat, refused
from tests.sidegate import JWT_KEY, ORIGIN, SESSION_KEY, Visitor, sidegate
from tests.upstreams import plain, webhook

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


async def pressed(visitor: Visitor, link: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    async with visitor.http.request(method, link, headers=visitor.headers | headers) as response:
        return response.status, await response.text(), response.headers


async def test_a_question_is_asked_and_the_answer_reaches_n8n() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait("What is your name?")
        assert await widget.next() == "What is your name?"
        await widget.say("Bob")
        said = await n8n.words()
        assert (said["action"], said["chatInput"]) == ("sendMessage", "Bob")
        for frame in ("Hello, Bob", "n8n|continue", DONE):
            n8n.frames.put_nowait(frame)
        assert [await widget.next() for _ in range(3)] == ["Hello, Bob", "n8n|continue", 1000]
        assert widget.beats == 1
        query, headers = n8n.opened[0]
        assert query == {
            "sessionId": n8n.asked[0]["sessionId"],
            "executionId": "49",
            "isPublic": "true",
            "token": "d5" * 32,
        }
        assert said["sessionId"] == query["sessionId"] != "v1"
        assert headers["User-Agent"] == visitor.headers["User-Agent"]
        assert "Origin" not in headers


async def test_nothing_of_n8ns_leaves_with_what_the_widget_is_given() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor:
        query = await begin(visitor)
        assert query["executionId"] != "49"
        assert "d5d5" not in str(query)


async def test_only_the_browser_that_began_an_execution_goes_on_with_it() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor:
        mine, other = await begin(visitor), await begin(visitor, session="v2", **FIREFOX)
        for stolen in (
            mine | {"executionId": "49"},
            mine | {"executionId": other["executionId"]},
            mine | {"token": "d5" * 32},
            mine | {"token": other["token"]},
            mine | {"token": mine["token"][:-1] + ("A" if mine["token"][-1] != "A" else "B")},
            mine | {"token": mine["token"] + "="},
            mine | {"sessionId": "v2"},
            other,
            {},
        ):
            assert await refused(visitor, stolen) == 404
        assert await refused(visitor, mine, **FIREFOX) == 404
        assert await refused(visitor, mine, **{"Accept-Language": "fr-FR"}) == 404
        assert await refused(visitor, mine, Origin="https://evil.example") == 403
        assert n8n.opened == []
        assert await refused(visitor, mine) == 101


async def test_another_sites_execution_is_refused_from_this_sites_page() -> None:
    n8n = N8n()
    sites = {
        "shop": {"origins": [ORIGIN], "upstream": "support"},
        "bank": {"origins": ["https://bank.example"], "upstream": "support"},
    }
    async with asking(n8n, sites=sites) as visitor:
        query = await begin(visitor)
        assert await refused(visitor, query, Origin="https://bank.example") == 403
        assert await refused(visitor, query | {"token": "x"}) == 404
        assert await refused(visitor, query) == 101


async def test_in_another_network_it_is_another_browser() -> None:
    n8n = N8n()
    async with asking(n8n, listen={"host": "127.0.0.1", "port": 0, "trusted_proxies": ["127.0.0.1"]}) as visitor:
        query = await begin(visitor, **{"X-Forwarded-For": "192.0.2.7"})
        assert await refused(visitor, query, **{"X-Forwarded-For": "198.51.100.7"}) == 404
        assert await refused(visitor, query, **{"X-Forwarded-For": "192.0.2.99"}) == 101


async def test_on_a_page_of_our_own_origin_a_cookie_tells_the_browser() -> None:
    n8n = N8n()
    here = {"Sec-Fetch-Site": "same-origin"}
    async with asking(n8n) as visitor:
        fields = {"action": "sendMessage", "sessionId": "v1", "chatInput": "hello"}
        queries, kept = [], {"Cookie": "sidegate_asked=made-up"}
        for _ in range(2):
            headers = visitor.headers | here | kept
            async with visitor.http.post(f"{visitor.url}/chat/shop", json=fields, headers=headers) as response:
                started = await response.json()
                cookies = [one for one in response.headers.getall("Set-Cookie") if one.startswith("sidegate_asked=")]
            assert [one.split("; ")[1:] for one in cookies] == [
                [f"Path={path}", "HttpOnly", "SameSite=Strict"] for path in ("/chat", "/webhook-waiting")
            ]
            kept = {"Cookie": cookies[0].partition(";")[0]}
            queries.append({"sessionId": "v1", "executionId": started["executionId"], "token": started["resumeToken"]})
        for query in queries:  # both: the second keeps the first one's cookie
            assert await refused(visitor, query) == 404
            assert await refused(visitor, query, Cookie="sidegate_asked=" + "A" * 32) == 404
            assert await refused(visitor, query, Cookie="sidegate_asked=") == 404
            async with chat(visitor, query, **kept) as widget:
                n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link())))
                link = (await widget.next())["buttons"][0]["link"]
            assert (await pressed(visitor, link))[0] == 404
            assert (await pressed(visitor, link, **kept))[0] == 200


async def test_what_the_visitor_types_is_judged_like_any_message() -> None:
    n8n = N8n()
    limits = [{"per": "session", "limit": 4, "window": 3600}]
    async with asking(n8n, limits=limits) as visitor, chat(visitor, await begin(visitor)) as widget:
        await widget.say("<script>alert(1)</script>")
        refusal = await widget.next()
        assert (refusal["type"], refusal["code"]) == ("error", "content_blocked")
        assert refusal["message"] == "That message can't be sent."
        await widget.say("x" * 2001)
        assert (await widget.next())["code"] == "too_large"
        await widget.say("I am ada@acme.test")
        assert (await n8n.words())["chatInput"] == "I am [EMAIL_1]"
        n8n.frames.put_nowait("Is [EMAIL_1] right? Or mail eve.adams@other.test <img src=//evil.example>")
        assert await widget.next() == "Is ada@acme.test right? Or mail [EMAIL] &lt;img src=//evil.example>"
        await widget.say("yes")
        await n8n.words()
        await widget.say("yes, yes")
        assert (await widget.next())["code"] == "rate_limited"
        for bad in ("no JSON", "[]", '{"action":"loadPreviousSession"}', '{"action":"sendMessage","chatInput":1}'):
            await widget.socket.send_str(bad)
            assert (await widget.next())["code"] == "bad_request"
        await widget.say("look", files=[{"name": "a.txt", "type": "text/plain", "data": "data:;base64,eA=="}])
        assert (await widget.next())["code"] == "bad_request"
        await widget.socket.send_str('{"type":"heartbeat-ack"}')
        assert n8n.heard.empty()


async def test_a_budget_counts_answers_to_questions() -> None:
    n8n = N8n()
    budgets = [{"per": "session", "executions": 2, "window": 3600}]
    async with asking(n8n, budgets=budgets) as visitor, chat(visitor, await begin(visitor)) as widget:
        await widget.say("one")
        await n8n.words()
        await widget.say("two")
        assert (await widget.next())["code"] == "budget_exhausted"


@pytest.mark.parametrize("beat", [HEARTBEAT, '{"type":"heartbeat"}'])
async def test_heartbeats_of_n8n_are_answered_here_in_their_own_form(beat: str) -> None:
    async def beating(n8n: N8n, socket: web.WebSocketResponse) -> None:
        await socket.send_str(beat)
        await asyncio.Event().wait()  # the test's end ends it

    n8n = N8n(talk=beating)
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        ack = await n8n.heard.get()
        assert ack == ("n8n|heartbeat-ack" if beat == HEARTBEAT else '{"type":"heartbeat-ack"}')
        await widget.socket.close()
        await n8n.gone.wait()
        assert n8n.heard.empty()  # nobody is there, and n8n isn't told that somebody is


async def test_a_button_comes_to_us_and_n8n_gets_what_it_signed() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link()), ("Decline", n8n.link("false"))))
        question = await widget.next()
        assert (question["type"], question["text"], question["blockUserInput"]) == ("with-buttons", "May I?", False)
        links = {one["text"]: one["link"] for one in question["buttons"]}
        assert all(link.startswith(f"{visitor.url}/webhook-waiting/") for link in links.values())
        assert "bdbd" not in str(links)
        status, body, headers = await pressed(visitor, links["Approve"])
        assert (status, body) == (200, "Thank you. You can go back to the chat.\n")
        assert headers["Access-Control-Allow-Origin"] == ORIGIN
        assert headers["Content-Type"].startswith("text/plain")
        assert "inner-secret" not in str(headers) + body
        target, sent = n8n.pressed[0]
        assert target == f"GET /webhook-waiting/49/n-approve?approved=true&signature={'bd' * 32}"
        assert sent["User-Agent"] == visitor.headers["User-Agent"]
        assert (await pressed(visitor, links["Decline"], "POST"))[0] == 200
        assert n8n.pressed[1][0].startswith("GET /webhook-waiting/49/n-approve?approved=false&")


async def test_a_button_works_in_a_tab_of_the_same_browser_and_nowhere_else() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link())))
        link = (await widget.next())["buttons"][0]["link"]
        tab = {"User-Agent": visitor.headers["User-Agent"], "Accept-Language": visitor.headers["Accept-Language"]}
        navigation = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
        for headers, status in (
            (FIREFOX | {"Origin": ORIGIN}, 404),
            (tab | FIREFOX | navigation, 404),
            (tab | {"Origin": "https://evil.example"}, 403),
            (tab | {"Sec-Fetch-Site": "cross-site"}, 403),
            (tab | navigation | {"Sec-Purpose": "prefetch"}, 400),
            (tab | navigation, 200),
        ):
            async with visitor.http.get(link, headers=headers) as response:
                assert response.status == status
                assert response.content_type == "text/plain"
        last = "A" if link[-1] != "A" else "B"
        token = (await begin(visitor))["token"]
        for bad in (
            link[:-1] + last,
            f"{visitor.url}/webhook-waiting/{token}",
            n8n.link().replace("https://n8n.internal:5678", visitor.url),
        ):
            status, body, _ = await pressed(visitor, bad)
            assert (status, body) == (404, "This question is not open here.\n")
        assert len(n8n.pressed) == 1
        async with visitor.http.options(link, headers=visitor.headers) as response:
            assert response.status == 204


@pytest.mark.parametrize(
    ("button", "status", "says"),
    [
        ((409, "inner-secret"), 409, "answered already"),
        ((404, "inner-secret"), 404, "not open any more"),
        ((401, "inner-secret"), 404, "not open any more"),
        ((500, "inner-secret"), 502, "failed to answer"),
        ((307, "inner-secret"), 502, "failed to answer"),
        ((200, ""), 400, "works in a browser"),
    ],
)
async def test_what_n8n_says_of_a_button_is_a_sentence_of_ours(button: tuple[int, str], status: int, says: str) -> None:
    n8n = N8n(button=button)
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link())))
        link = (await widget.next())["buttons"][0]["link"]
        got, body, headers = await pressed(visitor, link)
        assert got == status
        assert says in body
        assert "inner-secret" not in body + str(headers)


async def test_pressing_buttons_is_limited_like_messages() -> None:
    n8n = N8n()
    limits = [{"per": "session", "limit": 2, "window": 3600}]
    async with asking(n8n, limits=limits) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link())))
        link = (await widget.next())["buttons"][0]["link"]
        assert (await pressed(visitor, link))[0] == 200
        status, _, headers = await pressed(visitor, link)
        assert status == 429
        assert "Retry-After" in headers


async def test_links_to_elsewhere_and_to_other_executions_are_left_out() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        for link in (n8n.link(execution="50"), "https://evil.example/", "javascript:alert(1)", "https://[", "/x"):
            n8n.frames.put_nowait(n8n.question("May I?", ("Approve", link), blockUserInput=True))
            assert await widget.next() == "May I?"


async def test_captions_and_texts_pass_the_filters() -> None:
    n8n = N8n()
    filters = {"phrases": {"block": ["inner-secret"]}}
    async with asking(n8n, filters=filters) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait(n8n.question("<b>ok</b>", ("To mail eve.adams@acme.test", n8n.link()), (" ", n8n.link())))
        question = await widget.next()
        assert [one["text"] for one in question["buttons"]] == ["To mail [EMAIL]"]
        for frame in ("so: inner-secret", n8n.question("May I?", ("inner-secret", n8n.link()))):
            n8n.frames.put_nowait(frame)
            refusal = await widget.next()
            assert (refusal["type"], refusal["code"]) == ("error", "output_blocked")
            assert "inner-secret" not in str(refusal)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"with-buttons","text":"x","buttons":"none"}',
        '{"type":"with-but\u200btons","text":"x","buttons":[{"text":"a","link":"/webhook-waiting/1"}]}',
        '{"type":"unknown"}',
        ' {"a":1}',
    ],
)
async def test_a_text_is_never_taken_for_a_frame_of_n8ns(text: str) -> None:
    n8n = N8n()
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait(text)
        frame = await widget.next()
        assert frame["type"] == "message"
        assert isinstance(frame["text"], str)


async def test_a_report_of_n8ns_is_a_sentence_and_the_conversation_goes_on() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait('{"type":"error","message":"inner-secret"}')
        assert (await widget.next())["message"] == "The assistant failed to answer."
        n8n.frames.put_nowait("Again: your name?")
        assert await widget.next() == "Again: your name?"


async def _rejects(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await socket.send_str("Connection rejected")
    await socket.close(code=1008)


async def _closes(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await socket.send_str(HEARTBEAT)
    await socket.close(code=1008, message=b"inner-secret")


async def _breaks_off(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await socket.send_str(HEARTBEAT)
    assert socket._req is not None
    assert socket._req.transport is not None
    socket._req.transport.abort()


async def _huge(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await socket.send_str(HEARTBEAT)
    await socket.send_str("x" * 300_000)


async def _endless(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await socket.send_str(HEARTBEAT)
    while True:
        await socket.send_str("n8n|continue " * 1000)


async def _silent(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await asyncio.Event().wait()  # ended by who connected


async def _stalls(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await socket.send_str(HEARTBEAT)
    await asyncio.Event().wait()  # ended by who connected


async def _binary(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await socket.send_str(HEARTBEAT)
    await socket.send_bytes(b"inner-secret")


@pytest.mark.parametrize(
    ("talk", "code", "close"),
    [
        (_rejects, "bad_request", 1011),
        (_closes, "upstream_error", 1011),
        (_breaks_off, "upstream_error", 1011),
        (_huge, "upstream_error", 1011),
        (_endless, "upstream_error", 1011),
        (_binary, "upstream_error", 1011),
        (_silent, "upstream_timeout", 1011),
        (_stalls, "upstream_timeout", 1011),
    ],
)
async def test_what_n8n_breaks_is_told_in_a_sentence_and_the_socket_is_closed(talk: Any, code: str, close: int) -> None:
    n8n = N8n(talk=talk)
    upstream = {"timeouts": {"connect": 5, "first_byte": 5, "idle": 0.2, "total": 60}, "max_answer_bytes": 65_536}
    async with asking(n8n, upstream=upstream) as visitor, chat(visitor, await begin(visitor)) as widget:
        while isinstance(frame := await widget.next(), str):
            pass
        assert (frame["type"], frame["code"]) == ("error", code)
        assert "inner-secret" not in str(frame)
        assert await widget.next() == close


async def test_an_open_circuit_and_an_n8n_that_is_gone_are_told() -> None:
    n8n = N8n()
    upstream = {"breaker": {"failures": 1, "cooldown": 3600}}
    async with asking(n8n, upstream=upstream) as visitor:
        query = await begin(visitor)
        n8n.started = {"nothing": True}
        n8n.talk = _closes_at_once
        async with chat(visitor, query) as widget:
            assert (await widget.next())["code"] == "upstream_error"
        async with chat(visitor, query) as widget:
            assert (await widget.next())["code"] == "upstream_unavailable"


async def _closes_at_once(n8n: N8n, socket: web.WebSocketResponse) -> None:
    await _breaks_off(n8n, socket) if not n8n.opened else await socket.close(code=1011)


@pytest.mark.parametrize(
    "started",
    [
        {"executionStarted": True, "executionId": "../49", "resumeToken": "d5"},
        {"executionStarted": True, "executionId": "49", "resumeToken": ["d5"]},
        {"executionStarted": True, "executionId": "49", "resumeToken": "a&b=c"},
        {"executionStarted": True, "executionId": None},
        {"executionStarted": "yes", "executionId": "49"},
    ],
)
async def test_an_answer_that_lies_about_its_execution_is_a_failure(started: object) -> None:
    n8n = N8n(started=started)
    async with asking(n8n) as visitor:
        fields = {"action": "sendMessage", "sessionId": "v1", "chatInput": "hello"}
        async with visitor.http.post(f"{visitor.url}/chat/shop", json=fields, headers=visitor.headers) as response:
            assert response.status == 502
            assert "execution" not in await response.text()


async def test_an_execution_without_a_token_as_older_versions_have_it_is_gone_on_with() -> None:
    n8n = N8n(started={"executionStarted": True, "executionId": 49})
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait("And?")
        assert await widget.next() == "And?"
        assert "token" not in n8n.opened[0][0]


async def test_a_page_that_reads_a_stream_is_told_that_it_cannot_be_asked() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor:
        fields = {"action": "sendMessage", "sessionId": "v1", "chatInput": "hello"}
        headers = visitor.headers | {"Accept": "text/plain"}
        async with visitor.http.post(f"{visitor.url}/chat/shop", json=fields, headers=headers) as response:
            lines = [orjson.loads(line) for line in (await response.read()).splitlines()]
        assert lines[-1]["type"] == "error"
        assert "d5d5" not in str(lines)


async def test_other_faces_cannot_be_asked_either() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor:
        await visitor.session()
        assert (await visitor.events())[-1].fields["code"] == "upstream_error"


async def test_a_frame_that_is_too_large_or_binary_closes_the_socket() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor:
        query = await begin(visitor)
        async with chat(visitor, query) as widget:
            await widget.socket.send_str("x" * 70_000)
            assert await widget.next() == 1009
        async with chat(visitor, query) as widget:
            await widget.socket.send_bytes(b"x")
            assert await widget.next() == 1003


async def test_connections_of_a_session_are_capped() -> None:
    n8n = N8n()
    async with asking(n8n, connections={"per_session": 1}) as visitor:
        query = await begin(visitor)
        async with chat(visitor, query):
            assert await refused(visitor, query) == 429
        async with visitor.http.get(f"{visitor.url}/chat", params=query, headers=visitor.headers) as response:
            assert response.status == 426


async def test_a_visitor_who_leaves_and_comes_back_goes_on_and_nothing_was_cancelled() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor:
        query = await begin(visitor)
        async with chat(visitor, query) as widget:
            n8n.frames.put_nowait("Name?")
            assert await widget.next() == "Name?"
        await n8n.gone.wait()
        async with chat(visitor, query) as widget:
            n8n.frames.put_nowait("Name?")
            assert await widget.next() == "Name?"
        assert n8n.opened[0][0] == n8n.opened[1][0]


async def test_a_session_that_is_ended_loses_its_executions() -> None:
    n8n = N8n()
    async with asking(n8n, ops={"port": 0, "token": {"env": "JWT_SECRET_KEY"}}) as visitor:
        query = await begin(visitor)
        ops = {"Authorization": f"Bearer {JWT_KEY}"}
        async with chat(visitor, query) as widget:
            n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link())))
            link = (await widget.next())["buttons"][0]["link"]
            url = f"{visitor.ops_url}/admin/sessions?site=shop&all=true"
            async with visitor.http.delete(url, headers=ops) as response:
                assert response.status in (200, 204), await response.text()
            assert (await widget.next())["code"] == "session_invalid"
            assert await widget.next() == 1008
        assert await refused(visitor, query) == 401
        assert (await pressed(visitor, link))[0] == 401
        assert n8n.pressed == []


async def test_a_server_that_ends_sends_visitors_away() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait("Name?")
        assert await widget.next() == "Name?"
        visitor.live.cut()
        assert (await widget.next())["code"] == "draining"
        assert await widget.next() == 1001
        await n8n.gone.wait()


async def test_leaving_the_server_ends_its_conversations_in_time() -> None:
    n8n = N8n()
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        async with asking(n8n) as visitor:
            query = await begin(visitor)
            widget = Chat(await http.ws_connect(f"{visitor.url}/chat", params=query, headers=visitor.headers))
            n8n.frames.put_nowait("Name?")
            assert await widget.next() == "Name?"
            failure = tasks.create_task(widget.next())
        assert (await failure)["code"] == "draining"
        await n8n.gone.wait()


async def test_what_n8n_said_counts_with_the_next_message() -> None:
    n8n = N8n()
    budgets = [{"per": "session", "tokens": 30_000, "window": 3600}]
    async with asking(n8n, budgets=budgets) as visitor, chat(visitor, await begin(visitor)) as widget:
        for number in range(9):
            n8n.frames.put_nowait(f"{number} " + "word " * 3000)
            await widget.next()
            await widget.say(f"go on {number}")
            if isinstance(frame := await _either(n8n, widget), dict) and frame.get("code"):
                assert frame["code"] == "budget_exhausted"
                break
        else:
            raise AssertionError("nothing was counted")


async def _either(n8n: N8n, widget: Chat) -> Any:
    """What n8n hears of a message, or what the widget does."""
    async with asyncio.TaskGroup() as tasks:
        ends = {tasks.create_task(n8n.words()), tasks.create_task(widget.next())}
        done, left = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
    return done.pop().result()


async def test_a_crash_of_a_filter_lets_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    n8n = N8n()
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait("one")
        assert await widget.next() == "one"

        def crash(*_: object) -> None:
            raise RuntimeError("made for this test")

        monkeypatch.setattr("proxy.edge.waiting.filtered_text", crash)
        n8n.frames.put_nowait("two")
        assert (await widget.next())["code"] == "output_blocked"


async def test_our_token_goes_along_where_the_upstream_takes_one_and_redirects_are_not_followed() -> None:
    n8n = N8n(talk=asks)
    async with asking(n8n, upstream={"auth": "jwt"}) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait("And?")
        assert await widget.next() == "And?"
        assert n8n.opened[0][1]["Authorization"].startswith("Bearer ey")

    async def elsewhere(http: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{n8n.port}/webhook/chat"})

    n8n.chat = elsewhere  # type: ignore[method-assign]  # for this test
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        assert (await widget.next())["code"] == "upstream_error"
        assert len(n8n.asked) == 2


async def test_an_upstream_that_the_configuration_lost_has_no_open_questions() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor:
        query = await begin(visitor)
    async with (
        asking(
            n8n,
            upstreams={"other": {"kind": "echo"}},
            sites={"shop": {"origins": [ORIGIN], "upstream": "other"}},
        ) as visitor,
        chat(visitor, query) as widget,
    ):
        assert (await widget.next())["message"] == "This question is not open any more."


async def test_any_replica_goes_on_with_what_another_began() -> None:
    n8n = N8n()
    async with asking(n8n) as one:
        upstream = {"kind": "n8n", "url": f"http://127.0.0.1:{n8n.port}/webhook/chat", "auth": "none"}
        async with sidegate(upstream) as other, chat(other, await begin(one)) as widget:
            n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link())))
            link = (await widget.next())["buttons"][0]["link"]
            assert link.startswith(one.url)  # where the widget's messages go
            assert (await pressed(other, link.replace(one.url, other.url)))[0] == 200


async def test_a_key_that_the_widget_sends_with_messages_alone_is_enough_and_sets_the_end() -> None:
    n8n = N8n()
    key = new_key("embed")
    sites = {
        "shop": {
            "origins": [ORIGIN],
            "upstream": "support",
            "auth": ["embed_key", "api_key"],
            "embed_keys": [{"hash": hash_of(key)}],
        }
    }
    bot, expires = new_key("api"), datetime.now(UTC) + timedelta(hours=2)
    keys = {"api": [{"name": "bot", "hash": hash_of(bot), "site": "shop", "expires": expires.isoformat()}]}
    async with asking(n8n, sites=sites, keys=keys) as visitor:
        query = await begin(visitor, **{"X-Embed-Key": key})
        async with chat(visitor, query) as widget:
            n8n.frames.put_nowait("Name?")
            assert await widget.next() == "Name?"
        query = await begin(visitor, Authorization=f"Bearer {bot}")
        assert await refused(visitor, query, **FIREFOX) == 404
        assert await refused(visitor, query) == 101
        begun = Executions(Sealer(SESSION_KEY.encode())).begun(query["token"])
        assert begun is not None
        assert begun.session.owner == "key:bot"
        assert begun.session.ends <= expires.timestamp()


async def test_what_is_said_while_n8n_is_still_being_reached_is_not_lost() -> None:
    go = asyncio.Event()

    async def slowly(n8n: N8n, socket: web.WebSocketResponse) -> None:
        await go.wait()  # set below
        await asks(n8n, socket)

    n8n = N8n(talk=slowly)
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        await widget.say("Bob")
        go.set()
        assert (await n8n.words())["chatInput"] == "Bob"


async def test_a_text_is_said_in_full_even_where_it_is_no_json_for_n8n() -> None:
    n8n, visitor_text = N8n(), "{'a': \"b\"}\n😀"
    async with asking(n8n) as visitor, chat(visitor, await begin(visitor)) as widget:
        await widget.say(visitor_text)
        assert (await n8n.words())["chatInput"] == visitor_text


async def test_a_workflow_whose_answer_is_broken_json_is_no_question() -> None:
    broken = plain(b'{"executionStarted":true,"executionId":"49",')
    fields = {"action": "sendMessage", "sessionId": "v1", "chatInput": "hello"}
    async with (
        webhook(lambda asked: broken) as hook,
        sidegate({"kind": "n8n", "url": hook.url}) as visitor,
        visitor.http.post(f"{visitor.url}/chat/shop", json=fields, headers=visitor.headers) as response,
    ):
        assert response.status == 502


async def test_an_n8n_that_nobody_reaches_is_told() -> None:
    n8n = N8n()
    async with asking(n8n) as visitor:
        query = await begin(visitor)
        async with chat(visitor, query) as widget:
            n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link())))
            link = (await widget.next())["buttons"][0]["link"]
    with socket.socket() as bound:  # nobody listens there
        bound.bind(("127.0.0.1", 0))
        upstream = {"kind": "n8n", "url": f"http://127.0.0.1:{bound.getsockname()[1]}/n8n/webhook/chat"}
        async with sidegate(upstream) as visitor, chat(visitor, query) as widget:
            assert (await widget.next())["code"] == "upstream_error"
            end = link.rpartition("/")[2]
            assert (await pressed(visitor, f"{visitor.url}/webhook-waiting/{end}"))[0] == 502


async def test_a_button_that_n8n_does_not_answer_is_given_up() -> None:
    n8n = N8n()
    upstream = {"timeouts": {"connect": 5, "first_byte": 0.3, "idle": 60, "total": 60}}
    async with asking(n8n, upstream=upstream) as visitor, chat(visitor, await begin(visitor)) as widget:
        n8n.frames.put_nowait(n8n.question("May I?", ("Approve", n8n.link())))
        link = (await widget.next())["buttons"][0]["link"]
        n8n.delay = asyncio.Event()
        status, body, _ = await pressed(visitor, link)
        assert (status, body) == (504, "The assistant took too long to answer.\n")
