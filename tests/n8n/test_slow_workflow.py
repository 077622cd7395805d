"""A workflow that waits for two and a half minutes, behind an nginx that cuts silent connections after one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.n8n.n8n import N8n
from tests.n8n.nginx import nginx
from tests.n8n.sidegate import BROWSER, ORIGIN, parse, sidegate
from tests.n8n.tap import Tap
from tests.n8n.workflows import SLOW_SECONDS

pytestmark = pytest.mark.n8n

QUESTION = {"message": "Hello there"}
ANSWER = "You said: Hello there"
POLL_SECONDS = 5
Ask = Callable[[aiohttp.ClientSession], Awaitable[str]]


async def by_events(http: aiohttp.ClientSession) -> str:
    async with http.post("/v1/messages", json=QUESTION, headers={"Accept": "text/event-stream"}) as response:
        events = [parse(block, 0) for block in (await response.read()).split(b"\n\n") if block]
    told = [event for event in events if event]
    assert told[-1].name == "done"
    return "".join(event.data["text"] for event in told if event.name == "delta")


async def by_lines(http: aiohttp.ClientSession) -> str:
    async with http.post("/v1/messages", json=QUESTION, headers={"Accept": "application/x-ndjson"}) as response:
        events = [orjson.loads(line) for line in (await response.read()).splitlines()]
    assert events[-1]["type"] == "done"
    return "".join(event["text"] for event in events if event["type"] == "delta")


async def by_websocket(http: aiohttp.ClientSession) -> str:
    text = ""
    async with http.ws_connect("/v1/ws", protocols=["sidegate.v1"]) as socket:
        await socket.send_json({"type": "message", **QUESTION})
        async for frame in socket:
            event = orjson.loads(frame.data)
            text += str(event.get("text", ""))
            if event["type"] == "done":
                return text
    raise AssertionError(f"closed with {socket.close_code}")


async def by_polling(http: aiohttp.ClientSession) -> str:
    async with http.post("/v1/messages", json=QUESTION, headers={"Prefer": "respond-async"}) as response:
        assert response.status == 202
        place = response.headers["Location"]
    while True:
        async with http.get(place, headers={"Accept": "application/json"}) as response:
            state = await response.json()
        if state["status"] != "running":
            assert state["status"] == "done"
            return str(state["text"])
        await asyncio.sleep(POLL_SECONDS)


async def by_asking_again(http: aiohttp.ClientSession) -> str:
    """JSON, for which nothing can be sent ahead: each minute nginx says 504; the same key joins the answer again."""
    headers = {"Accept": "application/json", "Idempotency-Key": "this-very-question"}
    for _ in range(SLOW_SECONDS // 60):
        async with http.post("/v1/messages", json=QUESTION, headers=headers) as response:
            assert (response.status, "nginx" in await response.text()) == (504, True)
    async with http.post("/v1/messages", json=QUESTION, headers=headers) as response:
        assert response.status == 200
        return str((await response.json())["text"])


@asynccontextmanager
async def visitor(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Origin": ORIGIN, "User-Agent": BROWSER}
    timeout = aiohttp.ClientTimeout(total=SLOW_SECONDS + 30)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as http:
        async with http.post("/v1/session") as response:
            session = await response.json()
        http.headers["Authorization"] = f"Bearer {session['access_token']}"
        yield http


async def test_it_answers_everybody_once_although_nobody_hears_of_n8n_for_so_long(n8n: N8n, tmp_path: Path) -> None:
    """All clients at the same time: what counts is real time, and one wait is enough."""
    ways: list[Ask] = [by_events, by_lines, by_websocket, by_polling, by_asking_again]

    async def waited(ask: Ask, url: str) -> tuple[str, bool]:
        async with visitor(url) as http:
            asked = time.monotonic()
            return await ask(http), time.monotonic() - asked >= SLOW_SECONDS

    settings = {"SIDEGATE__UPSTREAMS__DEFAULT__TIMEOUTS__FIRST_BYTE": str(SLOW_SECONDS + 30)}
    async with (
        Tap(n8n.port) as tap,
        sidegate(tap.webhook("slow"), tmp_path, **settings) as server,
        nginx(server.url, tmp_path) as front,
        asyncio.TaskGroup() as tasks,
    ):
        asking = [tasks.create_task(waited(way, front)) for way in ways]
        answers = await asyncio.gather(*asking)
        asked = tap.requests
    assert answers == [(ANSWER, True)] * len(ways)
    assert asked == len(ways)
