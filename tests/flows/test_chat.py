"""A visitor asks, the workflow answers: every transport, and every ending, over real sockets on the real runner."""

from __future__ import annotations

import asyncio
import hashlib
from itertools import pairwise
from typing import Any

import aiohttp
import jwt
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sidegate import JWT_KEY, parse_sse, sidegate, text_of
from tests.upstreams import BEGIN, END, HEAD, LAST, Asked, Script, Step, chunk, item, plain, stream, webhook

LEAVE = {"on_disconnect": "cancel"}  # the answer ends when nobody listens
ANSWER = ["Hello ", "wörld, ", "here is 😀 ", "all."]


def n8n(url: str, **more: Any) -> dict[str, Any]:
    return {"kind": "n8n", "url": url, **more}


async def test_an_answer_comes_as_numbered_events() -> None:
    async with webhook(lambda _: stream(*ANSWER)) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        async with visitor.post() as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["Cache-Control"] == "no-store, no-transform"
            assert response.headers["X-Accel-Buffering"] == "no"
            events = parse_sse(await response.text())
    assert [events[0].name, events[-1].name] == ["start", "done"]
    answer_id = events[0].fields["answer_id"]
    assert [event.id for event in events] == [f"{answer_id}:{number}" for number in range(len(events))]
    assert text_of(events) == "".join(ANSWER)
    assert "AI Agent" not in str(events)


async def test_the_same_answer_comes_as_json_ndjson_and_over_a_websocket() -> None:
    async with webhook(lambda _: stream(*ANSWER)) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        async with visitor.post(accept="application/json") as response:
            collected = await response.json()
            assert collected["text"] == "".join(ANSWER)
            assert collected["answer_id"]
        async with visitor.post(accept="application/x-ndjson") as response:
            assert response.headers["Content-Type"] == "application/x-ndjson"
            lines = [orjson.loads(line) for line in (await response.read()).splitlines()]
            assert [lines[0]["type"], lines[-1]["type"]] == ["start", "done"]
            assert "".join(line.get("text", "") for line in lines) == "".join(ANSWER)
        async with visitor.http.ws_connect(
            f"{visitor.url}/v1/ws", headers=visitor.headers, protocols=["sidegate.v1"]
        ) as socket:
            assert socket.protocol == "sidegate.v1"
            for number in ("one", "two"):
                await socket.send_json({"type": "message", "id": number, "message": "hello"})
                frames = await until_end(socket)
                assert frames[0]["reply_to"] == number
                assert "".join(frame.get("text", "") for frame in frames) == "".join(ANSWER)


async def until_end(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    frames: list[dict[str, Any]] = []
    while not frames or frames[-1]["type"] not in ("done", "error"):
        frames.append(await socket.receive_json(timeout=10))
    return frames


async def test_pieces_reach_the_client_while_the_upstream_still_works() -> None:
    more = asyncio.Event()

    def script(_: Asked) -> Script:
        return [Step(HEAD + chunk(BEGIN) + chunk(item("first "))), Step(wait=more), Step(chunk(item("last")) + LAST)]

    async with webhook(script) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        async with visitor.post() as response:
            early = b""
            while b"first " not in early:
                early += await response.content.readany()
            assert b"last" not in early
            more.set()
            rest = await response.content.read()
            assert b"upstream_error" in rest  # a begin without its end: the answer was cut


async def test_the_upstream_sees_a_signed_request_and_nothing_of_the_clients_bytes() -> None:
    async with webhook(lambda _: stream("ok")) as hook, sidegate(n8n(hook.url)) as visitor:
        opened = await visitor.session()
        extra = {"X-Forwarded-For": "6.6.6.6", "Cookie": "a=b", "X-Evil": "1", "Connection": "keep-alive, X-Evil"}
        await visitor.events("hi", context={"page": "/cart"}, sessionId="mine", action="evil", headers=extra)
    (asked,) = hook.asked
    assert asked.json.keys() == {"action", "sessionId", "chatInput", "metadata"}
    assert asked.json["action"] == "sendMessage"
    assert asked.json["chatInput"] == "hi"
    assert asked.json["sessionId"] not in (opened["session_id"], "mine")
    assert asked.headers["x-forwarded-for"] == "127.0.0.1"
    assert asked.headers["user-agent"].startswith("Mozilla")
    assert not {"cookie", "x-evil", "origin"} & asked.headers.keys()

    scheme, token = asked.headers["authorization"].split()
    claims = jwt.decode(token, JWT_KEY, algorithms=["HS256"], audience="n8n", issuer="sidegate")
    assert scheme == "Bearer"
    assert jwt.get_unverified_header(token)["kid"] == "k1"
    assert claims["sub"] == asked.json["sessionId"]
    assert claims["body_sha256"] == hashlib.sha256(asked.body).hexdigest()
    assert 0 < claims["exp"] - claims["iat"] <= 60
    assert "nbf" not in claims
    assert claims["site"] == "shop"
    assert claims["verdict"].keys() == {"score", "flags", "masked", "remaining"}


async def test_two_sessions_have_two_names_upstream_and_one_session_has_one() -> None:
    async with webhook(lambda _: stream("ok")) as hook, sidegate(n8n(hook.url)) as visitor:
        for _ in range(2):
            await visitor.session()
            for _ in range(2):
                await visitor.events()
    first, second, third, fourth = (asked.json["sessionId"] for asked in hook.asked)
    assert first == second != third == fourth


@pytest.mark.parametrize("transport", ["sse", "ws", "json"])
async def test_a_client_that_leaves_closes_the_upstream(transport: str) -> None:
    never = asyncio.Event()

    def script(_: Asked) -> Script:
        return [Step(HEAD + chunk(BEGIN) + chunk(item("first "))), Step(wait=never)]

    async with webhook(script) as hook, sidegate(n8n(hook.url), streams=LEAVE) as visitor:
        await visitor.session()
        if transport == "ws":
            socket = await visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers)
            await socket.send_json({"type": "message", "message": "hello"})
            assert (await socket.receive_json())["type"] == "start"
            await socket.close()
        elif transport == "sse":
            response = await visitor.post()
            await response.content.readany()
            response.close()
        else:
            asking = asyncio.wait_for(visitor.post(accept="application/json"), 0.3)
            with pytest.raises(TimeoutError):
                await asking
        async with asyncio.timeout(0.5):  # the claim is 100 ms; the rest is for a slow machine
            await hook.asked[0].closed.wait()


async def test_a_client_that_leaves_while_the_upstream_is_silent_closes_it_too() -> None:
    never = asyncio.Event()
    async with webhook(lambda _: [Step(wait=never)]) as hook, sidegate(n8n(hook.url), streams=LEAVE) as visitor:
        await visitor.session()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(visitor.post(), 0.3)
        async with asyncio.timeout(0.5):
            await hook.asked[0].closed.wait()


async def test_a_socket_can_stop_its_answer_and_go_on() -> None:
    never = asyncio.Event()
    scripts = iter([[Step(HEAD + chunk(BEGIN) + chunk(item("first "))), Step(wait=never)], stream("second")])
    async with webhook(lambda _: next(scripts)) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            await socket.send_json({"type": "message", "message": "hello"})
            start = await socket.receive_json()
            await socket.send_json({"type": "ping", "id": "p"})
            await socket.send_json({"type": "stop", "answer_id": start["answer_id"]})
            frames = await until_end(socket)
            assert {"type": "pong", "reply_to": "p"} in frames
            assert frames[-1]["type"] == "done"
            assert frames[-1]["stopped"] is True
            await socket.send_json({"type": "message", "message": "again"})
            assert "second" in str(await until_end(socket))
        await hook.asked[0].closed.wait()


async def test_messages_on_one_socket_are_answered_in_order() -> None:
    async with webhook(lambda asked: stream(str(asked.json["chatInput"]))) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            for number in range(5):
                await socket.send_json({"type": "message", "message": f"m{number}"})
            texts = ["".join(frame.get("text", "") for frame in await until_end(socket)) for _ in range(5)]
    assert texts == ["m0", "m1", "m2", "m3", "m4"]


BAD_FRAMES = {
    "no JSON": "hello",
    "an array": "[]",
    "no type": "{}",
    "unknown type": '{"type":"dance"}',
    "no message": '{"type":"message"}',
    "an id that is no string": '{"type":"message","id":1,"message":"x"}',
    "a foreign answer": '{"type":"stop","answer_id":"x"}',
    "empty": '{"type":"message","message":" "}',
}


async def test_a_bad_frame_gets_an_error_and_the_socket_stays_open() -> None:
    async with sidegate({"kind": "echo", "delay": 0}) as visitor:
        await visitor.session()
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            for frame in BAD_FRAMES.values():
                await socket.send_str(frame)
                answer = await socket.receive_json()
                assert (answer["type"], answer["code"]) == ("error", "bad_request"), frame
                assert answer["request_id"]
            await socket.send_json({"type": "message", "message": "still here"})
            assert "still" in str(await until_end(socket))


async def test_binary_and_oversize_frames_close_the_socket() -> None:
    async with sidegate({"kind": "echo", "delay": 0}) as visitor:
        await visitor.session()
        for payload, code in ((b"x", 1003), ("x" * 70_000, 1009)):
            async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
                await (socket.send_bytes(payload) if isinstance(payload, bytes) else socket.send_str(payload))
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
                assert socket.close_code == code


REFUSED_HANDSHAKES: dict[str, tuple[dict[str, str], int, str]] = {
    "a foreign page": ({"Origin": "https://evil.example"}, 403, "origin_denied"),
    "no session": ({"Authorization": ""}, 401, "auth_required"),
    "a bad token": ({"Authorization": "Bearer x"}, 401, "session_invalid"),
    "another browser": ({"User-Agent": "curl/8"}, 401, "session_invalid"),
}


@pytest.mark.parametrize(("headers", "status", "code"), REFUSED_HANDSHAKES.values(), ids=REFUSED_HANDSHAKES.keys())
async def test_a_socket_is_refused_before_the_upgrade(headers: dict[str, str], status: int, code: str) -> None:
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with sidegate({"kind": "echo", "delay": 0}) as visitor:
        await visitor.session()
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        async with visitor.http.get(
            f"{visitor.url}/v1/ws", headers=visitor.headers | handshake | key | headers
        ) as answer:
            assert answer.status == status
            assert (await answer.json(content_type=None))["code"] == code
        for bad in ({}, handshake, handshake | key | {"Sec-WebSocket-Version": "8"}):
            async with visitor.http.get(f"{visitor.url}/v1/ws", headers=visitor.headers | bad) as answer:
                assert answer.status == 426
                assert answer.headers["Upgrade"] == "websocket"


async def test_a_client_that_leaves_during_the_handshake_costs_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with sidegate({"kind": "echo", "delay": 0}) as visitor:
        await visitor.session()
        port = int(visitor.url.rpartition(":")[2])
        fields = visitor.headers | {
            "Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET /v1/ws HTTP/1.1\r\n{head}\r\n".encode())
            writer.transport.abort()
        await visitor.events()  # by now they have been handled
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.edge.stall.STALLED_AFTER", 0.3)
    flood = [Step(HEAD + chunk(BEGIN)), *(Step(chunk(item("x" * 60_000))) for _ in range(2000))]
    streams = {"on_disconnect": "cancel", "journal_bytes": 16_000_000}
    filters = {"max_chars": 1_000_000}
    for transport in ("sse", "ws"):
        async with (
            webhook(lambda _: flood) as hook,
            sidegate(n8n(hook.url, max_answer_bytes=60_000_000), streams=streams, filters=filters) as visitor,
        ):
            await visitor.session()
            reader, writer = await asyncio.open_connection("127.0.0.1", int(visitor.url.rpartition(":")[2]), limit=1024)
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # streams don't show that it is a socket's
            head = "".join(f"{name}: {value}\r\n" for name, value in visitor.headers.items())
            if transport == "sse":
                body = b'{"message":"x"}'
                start = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{head}Content-Type: application/json\r\n"
                writer.write(f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            else:
                start = "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                writer.write(f"{start}{key}{head}\r\n".encode())
                frame = b'{"type":"message","message":"x"}'
                writer.write((bytes([0x81, len(frame)]) + frame) * 8)  # unmasked, which is taken; 8 MB is no buffer's
            async with asyncio.timeout(20):
                while not hook.asked:  # noqa: ASYNC110 - the server under test has no event for it
                    await asyncio.sleep(0.01)
                while visitor.live.sse or visitor.live.websockets:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            writer.transport.abort()
            assert reader is not None


async def test_a_ticket_opens_one_socket() -> None:
    async with sidegate({"kind": "echo", "delay": 0}) as visitor:
        await visitor.session()
        async with visitor.http.post(f"{visitor.url}/v1/session/ticket", headers=visitor.headers) as response:
            ticket = await response.json()
            assert ticket["expires_in"] == 30
        del visitor.headers["Authorization"]
        url = f"{visitor.url}/v1/ws?ticket={ticket['ticket']}"
        async with visitor.http.ws_connect(url, headers=visitor.headers) as socket:
            await socket.send_json({"type": "message", "message": "hello"})
            assert "hello" in str(await until_end(socket))
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await visitor.http.ws_connect(url, headers=visitor.headers)


async def test_what_the_guard_refuses_never_reaches_the_upstream() -> None:
    async with webhook(lambda _: stream("ok")) as hook, sidegate(n8n(hook.url)) as visitor:
        assert (await visitor.problem())[1]["code"] == "auth_required"
        await visitor.session()
        cases: list[tuple[dict[str, Any], int, str]] = [
            ({"headers": {"Origin": "https://evil.example"}}, 403, "origin_denied"),
            ({"headers": {"Authorization": "Bearer nonsense"}}, 401, "session_invalid"),
            ({"text": "x" * 2001}, 413, "too_large"),
            ({"text": "x" * 70_000}, 413, "too_large"),
            ({"text": "  "}, 400, "bad_request"),
            ({"headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media"),
            ({"headers": {"X-Sidegate-Site": "nope"}}, 400, "bad_request"),
            ({"context": []}, 400, "bad_request"),
            ({"files": ["x"]}, 400, "bad_request"),
        ]
        for more, status, code in cases:
            got, fields = await visitor.problem(**more)
            assert (got, fields["code"]) == (status, code), more
            assert fields["status"] == status
            assert fields["request_id"]
            assert fields["title"]
    assert hook.asked == []


async def test_limits_show_on_every_answer_and_say_when_to_come_back() -> None:
    async with sidegate({"kind": "echo", "delay": 0}, limits=[{"per": "session", "limit": 2, "window": 60}]) as visitor:
        await visitor.session()
        for remaining in ("1", "0"):
            async with visitor.post() as response:
                assert response.headers["X-RateLimit-Remaining"] == remaining
        async with visitor.post() as response:
            assert response.status == 429
            assert 0 < int(response.headers["Retry-After"]) <= 60
            assert (await response.json(content_type=None))["retry_after"] == int(response.headers["Retry-After"])
            assert response.headers["RateLimit-Policy"] == '"session-60s";q=2;w=60'
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            for _ in range(2):
                await socket.send_json({"type": "message", "message": "hello"})
                frame = (await until_end(socket))[-1]
                assert frame["code"] == "rate_limited"
                assert 0 < frame["retry_after"] <= 60


async def test_what_is_only_observed_passes_and_is_counted() -> None:
    limits = [{"per": "session", "limit": 1, "window": 60, "mode": "observe"}]
    async with sidegate(
        {"kind": "echo", "delay": 0}, limits=limits, content={"max_chars": 5, "mode": "observe"}
    ) as visitor:
        await visitor.session()
        for _ in range(3):
            assert (await visitor.events("longer than five"))[-1].name == "done"
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            metrics = await response.text()
    assert 'sidegate_denied_total{code="too_large",mode="observe",stage="shape"} 3.0' in metrics
    assert 'sidegate_denied_total{code="rate_limited",mode="observe",stage="limits"} 2.0' in metrics


UPSTREAM_FAILURES: dict[str, tuple[Script, int, str]] = {
    "a server error": (plain(b'{"message":"Error in secret-node"}', "500 Server Error"), 502, "upstream_error"),
    "our token refused": (
        plain(b"jwt malformed secret-node", "403 Forbidden", "WWW-Authenticate: Basic"), 502, "upstream_error",
    ),
    "not found": (plain(b'{"hint":"secret-node"}', "404 Not Found"), 502, "upstream_error"),
    "a redirect": (plain(b"", "302 Found", "Location: http://127.0.0.1:1/secret-node"), 502, "upstream_error"),
    "garbage": ([Step(b"secret-node\r\n\r\n"), Step()], 502, "upstream_error"),
    "a reset": ([Step()], 502, "upstream_error"),
    "an empty answer": (plain(b""), 502, "upstream_error"),
    "silence": ([Step(wait=asyncio.Event())], 504, "upstream_timeout"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "status", "code"), UPSTREAM_FAILURES.values(), ids=UPSTREAM_FAILURES.keys())
async def test_a_failing_upstream_is_a_clean_error(script: Script, status: int, code: str) -> None:
    timeouts = {"first_byte": 0.3, "idle": 0.3}
    async with webhook(lambda _: script) as hook, sidegate(n8n(hook.url, timeouts=timeouts)) as visitor:
        await visitor.session()
        async with visitor.post(accept="application/json") as response:
            body = await response.text()
            assert response.status == status
            assert orjson.loads(body)["code"] == code
            assert "secret-node" not in body + str(response.headers)
            assert "Basic" not in str(response.headers)


ERROR = b'{"type":"error","content":"secret-node failed"}\n'
MID_STREAM: dict[str, Script] = {
    "an error item": [
        Step(
            HEAD
            + chunk(BEGIN)
            + chunk(item("first "))
            + chunk(b'{"type":"error","content":"secret-node failed"}\n')
            + LAST
        )
    ],
    "a cut": [Step(HEAD + chunk(BEGIN) + chunk(item("first "))), Step()],
    "an end without its end": [Step(HEAD + chunk(BEGIN) + chunk(item("first ")) + LAST)],
    "garbage": [Step(HEAD + chunk(BEGIN) + chunk(item("first ")) + chunk(b"secret-node\n") + LAST)],
    "silence": [Step(HEAD + chunk(BEGIN) + chunk(item("first "))), Step(wait=asyncio.Event())],
}


@pytest.mark.parametrize("script", MID_STREAM.values(), ids=MID_STREAM.keys())
async def test_an_answer_that_breaks_off_ends_in_an_error_event(script: Script) -> None:
    async with webhook(lambda _: script) as hook, sidegate(n8n(hook.url, timeouts={"idle": 0.3})) as visitor:
        await visitor.session()
        events = await visitor.events()
        assert text_of(events) == "first "
        assert events[-1].name == "error"
        assert events[-1].fields["code"] in ("upstream_error", "upstream_timeout")
        assert events[-1].fields.keys() == {"code", "message", "request_id"}
        assert "secret-node" not in str(events)


async def test_the_circuit_opens_and_the_fallback_is_read() -> None:
    breaker = {"failures": 2, "cooldown": 60}
    async with (
        webhook(lambda _: plain(b"", "500 Internal Server Error")) as hook,
        sidegate(n8n(hook.url, breaker=breaker, fallback="We are closed.")) as visitor,
    ):
        await visitor.session()
        assert [(await visitor.problem())[0] for _ in range(3)] == [502, 502, 503]
        async with visitor.post() as response:
            assert 0 < int(response.headers["Retry-After"]) <= 60
            fields = await response.json(content_type=None)
            assert fields["code"] == "upstream_unavailable"
            assert fields["detail"] == "We are closed."
        async with visitor.http.get(f"{visitor.ops_url}/health") as response:
            assert (await response.json())["services"]["breaker"] == {"support": "open"}
    assert len(hook.asked) == 2


async def test_answers_pass_the_filters_whatever_the_transport() -> None:
    filters = {"redact": [{"pattern": r"\d{4}-\d{4}"}], "max_chars": 30}
    pieces = ["call 12", "34-56", "78 now, ", "and much more than that"]
    async with webhook(lambda _: stream(*pieces)) as hook, sidegate(n8n(hook.url), filters=filters) as visitor:
        await visitor.session()
        events = await visitor.events()
        assert text_of(events) == "call [redacted] now, and much more than that"[:30]
        assert events[-1].fields["code"] == "output_blocked"
        status, fields = await visitor.problem(accept="application/json")
        assert (status, fields["code"]) == (502, "output_blocked")


@given(cuts=st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=25, deadline=None)
async def test_however_the_upstreams_bytes_are_cut_the_answer_is_the_same(cuts: list[int]) -> None:
    payload = b"".join([BEGIN, *map(item, ANSWER), b'{"type":"keepalive"}\n', END])
    at = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
    parts = [payload[start:end] for start, end in pairwise(at) if start < end]
    script = [Step(HEAD), *(Step(chunk(part)) for part in parts), Step(LAST)]
    async with webhook(lambda _: script) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        assert text_of(await visitor.events()) == "".join(ANSWER)


async def test_a_slow_upstream_has_its_headers_committed_and_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.edge.chat.COMMIT_AFTER", 0.05)
    go = asyncio.Event()
    async with (
        webhook(lambda _: [Step(wait=go), *stream("late")]) as hook,
        sidegate(n8n(hook.url), streams={"heartbeat": 0.05}) as visitor,
    ):
        await visitor.session()
        for accept, sign in (("text/event-stream", b": ping"), ("application/x-ndjson", b"keepalive")):
            go.clear()
            async with visitor.post(accept=accept) as response:
                early = b""
                while early.count(sign) < 2:
                    early += await response.content.readany()
                assert b"start" in early
                go.set()
                assert b"late" in await response.content.read()


async def test_shutting_down_tells_whoever_is_still_waiting() -> None:
    never = asyncio.Event()

    def script(_: Asked) -> Script:
        return [Step(HEAD + chunk(BEGIN) + chunk(item("first "))), Step(wait=never)]

    async with webhook(script) as hook, aiohttp.ClientSession() as http:
        async with sidegate(n8n(hook.url), drain={"clients": 0.1, "answers": 0}) as visitor:
            await visitor.session()
            response = await http.post(f"{visitor.url}/v1/messages", json={"message": "x"}, headers=visitor.headers)
            socket = await http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers)
            await socket.send_json({"type": "message", "message": "x"})
            assert (await socket.receive_json())["type"] == "start"
        events = parse_sse(await response.text())
        assert (events[-1].name, events[-1].fields["code"]) == ("error", "draining")
        assert (await until_end(socket))[-1]["code"] == "draining"
        close = await socket.receive()
        assert (close.type, close.data) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_a_crash_in_a_stage_is_a_refusal_without_details(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr("proxy.guard.shape.Shape.check", crash)
    async with webhook(lambda _: stream("ok")) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        status, fields = await visitor.problem()
        assert (status, fields["code"]) == (500, "internal")
        assert "secret" not in str(fields)
    assert hook.asked == []
