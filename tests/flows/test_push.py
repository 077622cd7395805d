"""Sent later: from the ops listener to a session's open connections, kept until it comes, filtered, nobody else's."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import orjson
import pytest

from proxy.edge.live import Live
from proxy.telemetry import Metrics
from proxy.upstream.signing import owned_id
from tests.flows.test_processes import replicas
from tests.servers import RedisServer
from tests.sidegate import BROWSER, JWT_KEY, SESSION_KEY, Event, Visitor, parse_sse, sidegate

ECHO = {"kind": "echo", "delay": 0}
OPS_TOKEN = "d8f0a2c4e6b8091a3c5e7f92b4d6f8a0"


def owned(session: dict[str, Any], site: str = "shop") -> str:
    """What the workflow knows the session as."""
    return owned_id(SESSION_KEY.encode(), site, session["session_id"])


def token(to: str, key: str = JWT_KEY, **more: Any) -> str:
    claims = {
        "aud": "sidegate/push", "site": "shop", "sub": to, "jti": uuid.uuid4().hex, "exp": int(time.time()) + 60, **more
    }  # fmt: skip
    return jwt.encode(claims, key, algorithm="HS256")


def ops(folder: Path) -> dict[str, Any]:
    file = folder / "ops_token"
    file.write_text(OPS_TOKEN)
    return {"port": 0, "token": {"file": str(file)}}


async def push(
    visitor: Visitor, to: str, message: str = "later", *, bearer: str | None = None, **more: Any
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {bearer or token(to)}"}
    body = {"sessionId": to, "message": message, **more}
    async with visitor.http.post(f"{visitor.ops_url}/push", json=body, headers=headers) as response:
        fields: dict[str, Any] = orjson.loads(await response.read())
        assert response.headers["X-Request-Id"]
        return response.status, fields


class Listener:
    """An open event channel."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.body = b""

    async def take(self, number: int) -> list[Event]:
        """The first so many events since it was opened."""
        async with asyncio.timeout(10):
            while len(events := parse_sse(self.body[: self.body.rfind(b"\n\n") + 2].decode())) < number:
                piece = await self.response.content.readany()
                assert piece, "the channel has ended"
                self.body += piece
        return events

    async def end(self) -> list[Event]:
        async with asyncio.timeout(10):
            self.body += await self.response.read()
        return parse_sse(self.body.decode())


@asynccontextmanager
async def listening(visitor: Visitor, query: str = "", **headers: str) -> AsyncIterator[Listener]:
    """Open once its first bytes are here: from then on the server knows of it."""
    async with visitor.http.get(f"{visitor.url}/v1/events{query}", headers=visitor.headers | headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        listener = Listener(response)
        async with asyncio.timeout(10):
            listener.body += await response.content.readany()
        yield listener


async def test_a_push_reaches_an_open_channel_and_an_open_socket_at_once() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        async with (
            listening(visitor) as channel,
            visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket,
        ):
            await socket.send_json({"type": "ping"})
            assert (await socket.receive_json(timeout=10))["type"] == "pong"
            status, sent = await push(visitor, to, "Here is Anna.", data={"agent": "Anna", "n": 1})
            assert (status, sent["delivered"]) == (202, True)
            told = {"id": sent["id"], "text": "Here is Anna.", "data": {"agent": "Anna", "n": 1}}
            assert await channel.take(1) == [Event("push", told, sent["id"])]
            assert await socket.receive_json(timeout=10) == {"type": "push", **told}
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            assert 'sidegate_pushes_total{outcome="delivered",site="shop"} 1.0' in await response.text()


async def test_a_push_comes_through_a_socket_whose_answer_is_still_under_way() -> None:
    async with sidegate({"kind": "echo", "delay": 20}, streams={"on_disconnect": "cancel"}) as visitor:
        to = owned(await visitor.session())
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            await socket.send_json({"type": "message", "message": "a b c"})
            assert (await socket.receive_json(timeout=10))["type"] == "start"
            await push(visitor, to)
            while (frame := await socket.receive_json(timeout=10))["type"] != "push":
                assert frame["type"] == "delta"
            assert frame["text"] == "later"


@pytest.mark.parametrize("by", ["header", "query"])
async def test_it_is_kept_until_the_client_comes_and_replayed_behind_what_it_saw(by: str) -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        sent = [(await push(visitor, to, f"{number}"))[1] for number in range(5)]
        assert [answer["delivered"] for answer in sent] == [False] * 5
        async with listening(visitor) as channel:
            events = await channel.take(5)
        assert [event.fields["text"] for event in events] == list("01234")
        assert [event.id for event in events] == [answer["id"] for answer in sent]
        for at, event in enumerate(events[:-1]):
            headers = {"Last-Event-ID": event.id} if by == "header" else {}
            async with listening(visitor, "" if headers else f"?after={event.id}", **headers) as channel:
                assert await channel.take(4 - at) == events[at + 1 :]


async def test_cut_after_every_push_and_back_again_each_comes_exactly_once() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        found: list[Event] = []
        for number in range(10):
            await push(visitor, to, f"while away {number}")
            last = {"Last-Event-ID": found[-1].id} if found else {}
            async with listening(visitor, **last) as channel:
                await push(visitor, to, f"while here {number}")
                found += await channel.take(2)
        assert [event.fields["text"] for event in found] == [
            text for number in range(10) for text in (f"while away {number}", f"while here {number}")
        ]


async def test_a_socket_gets_what_was_kept_behind_what_it_saw() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        first = (await push(visitor, to, "one"))[1]["id"]
        await push(visitor, to, "two")
        for query, texts in (("", ["one", "two"]), (f"?after={first}", ["two"])):
            async with visitor.http.ws_connect(f"{visitor.url}/v1/ws{query}", headers=visitor.headers) as socket:
                assert [(await socket.receive_json(timeout=10))["text"] for _ in texts] == texts


async def test_another_session_never_sees_it() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        await push(visitor, to, "theirs, kept")
        await visitor.session()  # from here on another visitor
        other = owned(await visitor.session())
        async with listening(visitor) as channel:
            await push(visitor, to, "theirs, live")
            assert (await push(visitor, other, "ours"))[1]["delivered"]
            assert [event.fields["text"] for event in await channel.take(1)] == ["ours"]


async def test_answers_of_the_session_are_announced_and_can_be_joined() -> None:
    async with sidegate(ECHO) as visitor:
        await visitor.session()
        async with listening(visitor) as channel:
            answer_id = (await visitor.events("hello"))[0].fields["answer_id"]
            (start,) = await channel.take(1)
            assert (start.name, start.fields) == ("start", {"answer_id": answer_id})
            assert start.id.startswith("push:")
            headers = visitor.headers | {"Accept": "application/json"}
            async with visitor.http.get(f"{visitor.url}/v1/answers/{answer_id}", headers=headers) as response:
                assert (await response.json())["status"] == "done"
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            await socket.send_json({"type": "ping"})  # on a socket a `start` belongs to a message of its own
            assert (await socket.receive_json(timeout=10))["type"] == "pong"


async def test_a_refused_message_is_no_answer_to_announce() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        async with listening(visitor) as channel:
            assert (await visitor.problem("x" * 3000))[0] == 413
            await push(visitor, to)
            assert [event.name for event in await channel.take(1)] == ["push"]


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"key": "x" * 40}, 401, "signature_invalid"),
        ({"exp": int(time.time()) - 1}, 401, "signature_invalid"),
        ({"exp": int(time.time()) + 3600}, 401, "signature_invalid"),
        ({"aud": "n8n"}, 401, "signature_invalid"),
        ({"site": "blog"}, 401, "signature_invalid"),
        ({"to": "b" * 64}, 401, "signature_invalid"),
    ],
)
async def test_a_bad_token_is_refused_and_nothing_is_sent(more: dict[str, Any], status: int, code: str) -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        bad = token(**{"to": to} | more)
        answered, fields = await push(visitor, to, "never", bearer=bad)
        assert (answered, fields["code"]) == (status, code)
        await push(visitor, to, "mark")
        async with listening(visitor) as channel:
            assert [event.fields["text"] for event in await channel.take(1)] == ["mark"]


async def test_without_a_token_one_is_asked_for() -> None:
    async with (
        sidegate(ECHO) as visitor,
        visitor.http.post(f"{visitor.ops_url}/push", json={"sessionId": "a" * 64, "message": "x"}) as response,
    ):
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await response.json())["code"] == "auth_required"


async def test_a_token_is_good_once() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        once = token(to)
        assert (await push(visitor, to, " ", bearer=once))[0] == 400  # what can't be read doesn't use it up
        assert (await push(visitor, to, "first", bearer=once))[0] == 202
        status, fields = await push(visitor, to, "second", bearer=once)
        assert (status, fields["code"]) == (409, "replayed")
        async with listening(visitor) as channel:
            await push(visitor, to, "mark")
            assert [event.fields["text"] for event in await channel.take(2)] == ["first", "mark"]


async def test_the_ops_token_sends_too_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    async with sidegate(ECHO, ops=ops(tmp_path)) as visitor:
        to = owned(await visitor.session())
        assert (await push(visitor, to, "one", bearer=OPS_TOKEN))[0] == 202
        assert (await push(visitor, to, "two", bearer=OPS_TOKEN))[0] == 202
        assert (await push(visitor, to, "three", bearer=OPS_TOKEN[:-1]))[0] == 401


async def test_with_several_sites_the_ops_token_names_one(tmp_path: Path) -> None:
    sites = {name: {"origins": [f"https://{name}.example"], "upstream": "support"} for name in ("shop", "blog")}
    async with sidegate(ECHO, sites=sites, ops=ops(tmp_path)) as visitor:
        to = owned(await visitor.session())
        for more in ({}, {"site": "nope"}, {"site": 1}):
            status, fields = await push(visitor, to, bearer=OPS_TOKEN, **more)
            assert (status, fields["code"]) == (400, "bad_request")
        # Another site's filters are not a way in: a session is only found at its own site.
        assert (await push(visitor, to, "past the filters", bearer=OPS_TOKEN, site="blog"))[0] == 202
        assert (await push(visitor, to, "ours", bearer=OPS_TOKEN, site="shop"))[0] == 202
        async with listening(visitor) as channel:
            assert [event.fields["text"] for event in await channel.take(1)] == ["ours"]


async def test_all_of_it_has_passed_the_sites_filters() -> None:
    filters = {"redact": [{"pattern": "[0-9]{4}-?[0-9]{4}", "replacement": "[number]"}], "max_chars": 50}
    async with sidegate(ECHO, filters=filters) as visitor:
        to = owned(await visitor.session())
        data = {"card 1234-5678": ["it is 1234-5678", 12345678, 5.5, None, True, {"a": "b"}]}
        async with listening(visitor) as channel:
            assert (await push(visitor, to, "Yours is 1234-5678.", data=data))[0] == 202
            (event,) = await channel.take(1)
            assert event.fields["text"] == "Yours is [number]."
            assert event.fields["data"] == {
                "card [number]": ["it is [number]", "[number]", 5.5, None, True, {"a": "b"}]
            }  # fmt: skip
            # Longer than allowed after redaction alone: nothing of it leaves.
            status, fields = await push(visitor, to, "1234-5678" + "x" * 41, data={"long": "1234-5678" + "x" * 43})
            assert (status, fields["code"]) == (502, "output_blocked")
            await push(visitor, to, "mark")
            assert (await channel.take(2))[1].fields["text"] == "mark"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        ({"message": None}, 400, "bad_request"),
        ({"message": " "}, 400, "bad_request"),
        ({"message": ["x"]}, 400, "bad_request"),
        ({"message": "x" * 20_001}, 413, "too_large"),
        ({"sessionId": None}, 400, "bad_request"),
        ({"sessionId": "not-the-owned-one"}, 400, "bad_request"),
        ({"data": []}, 400, "bad_request"),
        ({"data": {str(n): n for n in range(33)}}, 400, "bad_request"),
        ({"data": {"x": "x" * 5000}}, 400, "bad_request"),
        ({"padding": "x" * 70_000}, 413, "too_large"),
    ],
)
async def test_what_is_no_push_is_refused(body: bytes | dict[str, Any], status: int, code: str) -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        if isinstance(body, dict):
            body = orjson.dumps({"sessionId": to, "message": "x", **body})
        headers = {"Authorization": f"Bearer {token(to)}", "Content-Type": "application/json"}
        async with visitor.http.post(f"{visitor.ops_url}/push", data=body, headers=headers) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (status, code)


async def test_the_longest_text_that_is_allowed_passes() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        async with listening(visitor) as channel:
            assert (await push(visitor, to, "x" * 20_000))[0] == 202
            assert (await channel.take(1))[0].fields["text"] == "x" * 20_000


async def test_the_public_listener_takes_no_pushes() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        headers = {"Authorization": f"Bearer {token(to)}"}
        body = {"sessionId": to, "message": "x"}
        async with visitor.http.post(f"{visitor.url}/push", json=body, headers=headers) as response:
            assert response.status == 404


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": "Bearer x"}, 401, "session_invalid"),
        ({"Authorization": ""}, 401, "auth_required"),
        ({"Origin": "https://evil.example"}, 403, "origin_denied"),
        ({"User-Agent": "another browser"}, 401, "session_invalid"),
    ],
)
async def test_only_the_session_may_listen(headers: dict[str, str], status: int, code: str) -> None:
    async with sidegate(ECHO) as visitor:
        await visitor.session()
        async with visitor.http.get(f"{visitor.url}/v1/events", headers=visitor.headers | headers) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (status, code)


async def test_a_ticket_opens_one_channel() -> None:
    async with sidegate(ECHO) as visitor:
        await visitor.session()
        async with visitor.http.post(f"{visitor.url}/v1/session/ticket", headers=visitor.headers) as response:
            ticket = (await response.json())["ticket"]
        del visitor.headers["Authorization"]
        async with listening(visitor, f"?ticket={ticket}"):
            pass
        async with visitor.http.get(f"{visitor.url}/v1/events?ticket={ticket}", headers=BROWSER) as response:
            assert response.status == 401


async def test_a_silent_channel_shows_that_it_lives() -> None:
    async with sidegate(ECHO, streams={"heartbeat": 0.05}) as visitor:
        await visitor.session()
        async with listening(visitor) as channel, asyncio.timeout(10):
            assert channel.response.headers["X-Accel-Buffering"] == "no"
            assert "no-transform" in channel.response.headers["Cache-Control"]
            while b": ping" not in channel.body:
                channel.body += await channel.response.content.readany()


async def test_a_client_that_leaves_is_no_longer_counted() -> None:
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        async with listening(visitor):
            assert visitor.live.sse == 1
        async with asyncio.timeout(10):
            while visitor.live.sse:  # noqa: ASYNC110 - its end is in another task of this process
                await asyncio.sleep(0.01)
        assert not (await push(visitor, to))[1]["delivered"]


async def test_shutting_down_tells_whoever_listens() -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(20):
        async with sidegate(ECHO) as visitor:
            await visitor.session()
            visitor.http = http
            response = await http.get(f"{visitor.url}/v1/events", headers=visitor.headers)
            assert await response.content.readany()
        (event,) = parse_sse((await response.read()).decode())
        assert (event.name, event.fields["code"], event.fields["retry_after"]) == ("error", "draining", 1)


async def test_what_is_logged_of_a_push_has_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="sidegate.audit")
    async with sidegate(ECHO) as visitor:
        to = owned(await visitor.session())
        sent = (await push(visitor, to, "very private", data={"more": "secret things"}))[1]
        await push(visitor, to, "very private", bearer=token(to, key="x" * 40))
        records = [vars(record) for record in caplog.records]
    fields = next(record["fields"] for record in records if record["msg"] == "PUSH")
    assert fields.pop("request_id")
    assert fields == {"site": "shop", "session": to, "push": sent["id"], "chars": 12, "delivered": False}
    assert [record["fields"]["code"] for record in records if record["msg"] == "DENIED"] == ["signature_invalid"]
    assert "private" not in repr(records)
    assert "secret things" not in repr(records)


async def test_it_reaches_the_replica_that_holds_the_connection(tmp_path: Path) -> None:
    with RedisServer() as redis:
        async with (
            replicas(2, tmp_path, limit=1000, store={"url": redis.url}) as (one, two),
            aiohttp.ClientSession() as http,
        ):
            here, there = (Visitor(http, server.url, server.ops_url, Live(Metrics())) for server in (one, two))
            to = owned(await here.session())
            there.headers = here.headers
            once = token(to)
            async with (
                listening(there) as channel,
                http.ws_connect(f"{one.url}/v1/ws", headers=here.headers) as socket,
            ):
                status, sent = await push(here, to, "through the other", bearer=once)
                assert (status, sent["delivered"]) == (202, True)
                assert (await channel.take(1))[0].fields["text"] == "through the other"
                assert (await socket.receive_json(timeout=10))["text"] == "through the other"
                assert (await push(there, to, "again", bearer=once))[0] == 409
                answer_id = (await here.events("hello"))[0].fields["answer_id"]
                start = (await channel.take(2))[1]
                assert (start.name, start.fields) == ("start", {"answer_id": answer_id})
            assert not (await push(there, to, "kept"))[1]["delivered"]
            async with listening(here, **{"Last-Event-ID": start.id}) as channel:
                assert [event.fields["text"] for event in await channel.take(1)] == ["kept"]
