"""Python's clients of streams, unchanged: httpx-sse and websockets."""

from __future__ import annotations

import json

import httpx
import httpx_sse
import pytest
import websockets

from tests.clients.world import API_KEY, completions
from tests.sidegate import ORIGIN
from tests.upstreams import stream

TEXT = "Grüße, 世界 😀"
HEADERS = {"Authorization": f"Bearer {API_KEY}"}


async def test_httpx_sse_gets_the_events_with_their_ids() -> None:
    async with (
        completions(stream("Grüße, ", "世界 😀")) as (url, _),
        httpx.AsyncClient(headers=HEADERS) as http,
        httpx_sse.aconnect_sse(http, "POST", f"{url}/v1/messages", json={"message": "hello"}) as source,
    ):
        events = [event async for event in source.aiter_sse()]
    assert [events[0].event, events[-1].event] == ["start", "done"]
    assert "".join(event.json()["text"] for event in events if event.event == "delta") == TEXT
    assert [int(event.id.rpartition(":")[2]) for event in events] == list(range(len(events)))


async def test_httpx_sse_is_told_of_a_refusal_before_the_stream() -> None:
    async with (
        completions(stream("x")) as (url, _),
        httpx.AsyncClient() as http,
        httpx_sse.aconnect_sse(http, "POST", f"{url}/v1/messages", json={"message": "hello"}) as source,
    ):
        assert source.response.status_code == 401
        with pytest.raises(httpx_sse.SSEError):
            [event async for event in source.aiter_sse()]


async def test_websockets_asks_twice_over_one_connection() -> None:
    async with (
        completions(stream("Grüße, ", "世界 😀")) as (url, _),
        websockets.connect(
            f"{url.replace('http', 'ws')}/v1/ws",
            subprotocols=[websockets.Subprotocol("sidegate.v1")],
            additional_headers=HEADERS,
            origin=websockets.Origin(ORIGIN),
        ) as socket,
    ):
        assert socket.subprotocol == "sidegate.v1"
        for number in ("m1", "m2"):
            await socket.send(json.dumps({"type": "message", "id": number, "message": "hello"}))
            text = ""
            while (frame := json.loads(await socket.recv()))["type"] != "done":
                assert frame["reply_to"] == number
                text += frame.get("text", "")
            assert text == TEXT
