"""A session that ends, by its visitor, by a thief or by time: all that it has ends with it, within a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest

from proxy.guard.revocation import Revocations
from proxy.streams.answers import Answers
from tests.flows.test_answers import WORDS, Slow, n8n
from tests.sidegate import BROWSER, Visitor, parse_sse, sidegate
from tests.upstreams import Webhook, webhook

WITHIN = 1.0  # seconds


@asynccontextmanager
async def talking(**sections: Any) -> AsyncIterator[tuple[Visitor, Webhook, Slow]]:  # Any: configuration as written
    """A visitor with a session, and a workflow that says a word when it is told to."""
    slow = Slow(WORDS)
    async with webhook(slow.script) as hook, sidegate(n8n(hook.url), **sections) as visitor:
        yield visitor, hook, slow


async def leave(visitor: Visitor) -> None:
    async with visitor.http.delete(f"{visitor.url}/v1/session", headers=visitor.headers) as response:
        assert response.status == 204, await response.text()


async def status(visitor: Visitor, path: str, method: str = "POST", **more: Any) -> tuple[int, str]:
    headers = visitor.headers | more.pop("headers", {})
    async with visitor.http.request(method, visitor.url + path, headers=headers, **more) as response:
        return response.status, (await response.json())["code"]


async def test_who_leaves_takes_every_token_along() -> None:
    async with talking(session={"cookie": True}) as (visitor, _, _slow):
        async with visitor.http.post(f"{visitor.url}/v1/session", headers=visitor.headers) as response:
            opened, cookie = await response.json(), response.cookies["chat_session_id"].value
        visitor.headers["Authorization"] = f"Bearer {opened['access_token']}"
        async with visitor.http.post(f"{visitor.url}/v1/session/ticket", headers=visitor.headers) as response:
            ticket = (await response.json())["ticket"]
        await leave(visitor)
        gone = 401, "session_invalid"
        assert await status(visitor, "/v1/messages", json={"message": "hello"}) == gone
        assert await status(visitor, "/v1/session", "DELETE") == gone
        refresh = {"refresh_token": opened["refresh_token"]}
        assert await status(visitor, "/v1/session/refresh", json=refresh) == gone
        del visitor.headers["Authorization"]
        assert await status(visitor, f"/v1/events?ticket={ticket}", "GET") == gone
        with_cookie = {"Cookie": f"chat_session_id={cookie}", "Sec-Fetch-Site": "same-origin"}
        assert await status(visitor, "/v1/messages", json={"message": "hello"}, headers=with_cookie) == gone


async def test_a_ticket_ends_no_session() -> None:
    async with talking() as (visitor, _, _slow):
        await visitor.session()
        async with visitor.http.post(f"{visitor.url}/v1/session/ticket", headers=visitor.headers) as response:
            ticket = (await response.json())["ticket"]
        url = f"{visitor.url}/v1/session?ticket={ticket}"
        async with visitor.http.delete(url, headers=dict(BROWSER)) as response:
            assert response.status == 401
        async with visitor.http.post(f"{visitor.url}/v1/session/ticket", headers=visitor.headers) as response:
            assert response.status == 200


async def ended(socket: aiohttp.ClientWebSocketResponse) -> None:
    """It says why, and is closed."""
    frame = await socket.receive_json(timeout=10)
    while frame["type"] != "error":
        frame = await socket.receive_json(timeout=10)
    assert frame["code"] == "session_invalid"
    assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
    assert socket.close_code == 1008


async def test_what_is_open_ends_with_its_session_and_the_workflow_is_let_go() -> None:
    async with talking() as (visitor, hook, slow):
        await visitor.session()
        answer = await visitor.post()
        slow.let(1)
        await answer.content.readany()
        channel = await visitor.http.get(f"{visitor.url}/v1/events", headers=visitor.headers)
        await channel.content.readany()
        url = f"{visitor.url}/v1/ws"
        async with (
            visitor.http.ws_connect(url, headers=visitor.headers) as idle,
            visitor.http.ws_connect(url, headers=visitor.headers) as busy,
        ):
            await busy.send_json({"type": "message", "message": "hello"})
            assert (await busy.receive_json(timeout=10))["type"] == "start"
            async with asyncio.timeout(WITHIN):
                await leave(visitor)
                await ended(idle)
                await ended(busy)
                for stream in (answer, channel):
                    last = parse_sse((await stream.read()).decode())[-1]
                    assert (last.name, last.fields["code"]) == ("error", "session_invalid")
                for asked in hook.asked:
                    await asked.closed.wait()


async def test_a_collected_answer_whose_session_ends_is_a_plain_401() -> None:
    async with talking() as (visitor, hook, _), asyncio.TaskGroup() as tasks:
        await visitor.session()
        asking = tasks.create_task(visitor.problem(accept="application/json"))
        async with asyncio.timeout(10):
            while not hook.asked:  # noqa: ASYNC110 - its arrival is in another task
                await asyncio.sleep(0.01)
        await leave(visitor)
        code, problem = await asking
        assert (code, problem["code"]) == (401, "session_invalid")


async def test_a_replayed_refresh_token_ends_all_that_its_session_has() -> None:
    async with talking() as (visitor, _, _slow):
        opened = await visitor.session()
        body = {"refresh_token": opened["refresh_token"]}
        url = f"{visitor.url}/v1/session/refresh"
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            async with visitor.http.post(url, json=body, headers=visitor.headers) as response:
                assert response.status == 200
            assert await status(visitor, "/v1/session/refresh", json=body) == (401, "session_invalid")
            async with asyncio.timeout(WITHIN):
                await ended(socket)
        assert await status(visitor, "/v1/messages", json={"message": "hello"}) == (401, "session_invalid")
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            metrics = await response.text()
        assert 'sidegate_sessions_ended_total{reason="replay",site="shop"} 1.0' in metrics
        assert 'sidegate_denied_total{code="session_invalid",mode="enforce",stage="refresh"} 1.0' in metrics


async def test_what_is_open_when_a_session_is_over_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = [0.0]

    def clock() -> float:
        return time.time() + ahead[0]

    monkeypatch.setattr("proxy.resources.Revocations", partial(Revocations, clock=clock))
    monkeypatch.setattr("proxy.parts.Answers", partial(Answers, now=clock))
    async with talking(session={"lifetime": 60}) as (visitor, _, slow):
        await visitor.session()
        ahead[0] = 56  # a few seconds are left, in which everything has to be open
        answer = await visitor.post()
        slow.let(1)
        channel = await visitor.http.get(f"{visitor.url}/v1/events", headers=visitor.headers)
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            async with asyncio.timeout(20):
                await ended(socket)
            for stream in (answer, channel):
                last = parse_sse((await stream.read()).decode())[-1]
                assert (last.name, last.fields["code"]) == ("error", "session_invalid")


async def test_a_message_that_wants_proof_first_is_a_428_and_on_a_socket_a_challenge() -> None:
    risk = {"mode": "enforce", "messages": 2, "weights": {"messages": 50}}
    async with sidegate({"kind": "echo", "delay": 0}, session={"risk": risk}) as visitor:
        await visitor.session()
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            for number, last in enumerate(("done", "challenge", "challenge")):
                await socket.send_json({"type": "message", "id": f"m{number}", "message": "hello"})
                frame = await socket.receive_json(timeout=10)
                while frame["type"] in ("start", "delta"):
                    frame = await socket.receive_json(timeout=10)
                assert (frame["type"], frame["reply_to"]) == (last, f"m{number}")
            assert frame["code"] == "challenge_required"
            await socket.send_json({"type": "ping"})
            assert (await socket.receive_json(timeout=10))["type"] == "pong"
        code, problem = await visitor.problem()
        assert (code, problem["code"]) == (428, "challenge_required")


async def test_risk_that_is_only_observed_changes_nothing_and_is_counted() -> None:
    risk = {"messages": 2, "weights": {"messages": 100}}
    async with sidegate({"kind": "echo", "delay": 0}, session={"risk": risk}) as visitor:
        await visitor.session()
        for _ in range(3):
            assert (await visitor.events())[-1].name == "done"
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            metrics = await response.text()
        assert 'sidegate_risk_steps_total{mode="observe",site="shop",step="end"} 1.0' in metrics
        assert 'sidegate_denied_total{code="session_invalid",mode="observe",stage="risk"}' in metrics


async def test_with_the_memory_store_a_restart_forgets_who_was_ended() -> None:
    """What it doesn't stop: Redis is for that."""
    for turn in range(2):
        async with sidegate({"kind": "echo", "delay": 0}) as visitor:
            if turn == 0:
                await visitor.session()
                headers = dict(visitor.headers)
                await leave(visitor)
                assert (await visitor.problem())[0] == 401
            else:
                visitor.headers = headers
                assert (await visitor.events())[-1].name == "done"
