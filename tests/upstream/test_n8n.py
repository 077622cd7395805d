"""n8n is asked in its own words and answers in ours."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from proxy.errors import BadRequest
from proxy.model import Message
from proxy.upstream import build
from tests.clients import request
from tests.upstream.script import CHUNKED, LAST_CHUNK, answer, chunk, encoded, n8n, owned, plain, says, serving

EVENTS = (
    b'{"type":"begin","metadata":{"nodeId":"n-ai-agent","nodeName":"AI Agent","itemIndex":0,"runIndex":0}}\n',
    b'{"type":"item","content":"You ","metadata":{"nodeId":"n-ai-agent","nodeName":"AI Agent"}}\n',
    '{"type":"item","content":"said: grüße 🎉","metadata":{"nodeName":"AI Agent"}}\n'.encode(),
    b'{"type":"end","metadata":{"nodeId":"n-ai-agent","nodeName":"AI Agent","itemIndex":0,"runIndex":0}}\n',
)


async def test_the_body_is_built_from_the_message_and_the_owned_id() -> None:
    async with build(n8n("http://n8n/"), owned) as upstream:
        assert orjson.loads(encoded(upstream, request("hello"))) == {
            "action": "sendMessage",
            "sessionId": "owned-s1",
            "chatInput": "hello",
            "metadata": {"site": "shop", "requestId": "r1"},
        }


async def test_the_clients_context_is_metadata_and_can_replace_nothing() -> None:
    context: dict[str, object] = {"site": "other", "page": "/checkout"}
    async with build(n8n("http://n8n/"), owned) as upstream:
        body = orjson.loads(encoded(upstream, replace(request(), message=Message("hello", context))))
    assert body["metadata"] == {"site": "shop", "requestId": "r1", "context": context}


@pytest.mark.parametrize("message", [Message("\ud83c"), Message("x", {"a": "\ud83c"})])
async def test_a_message_that_is_no_json_is_the_clients_mistake(message: Message) -> None:
    async with build(n8n("http://n8n/"), owned) as upstream:
        with pytest.raises(BadRequest):
            upstream.encode(replace(request(), message=message))


async def test_the_very_bytes_that_were_signed_are_sent_by_post() -> None:
    async with serving(says(plain(b"hello"))) as server, build(n8n(server.url), owned) as upstream:
        await answer(upstream)
        assert server.heard[0].body == upstream.encode(request())
    assert server.heard[0].start == "POST /webhook/chat HTTP/1.1"


async def test_a_stream_comes_as_text_alone() -> None:
    script = says(CHUNKED, *map(chunk, EVENTS), LAST_CHUNK)
    async with serving(script) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream) == ("You said: grüße 🎉", None)


async def test_what_came_in_one_read_is_one_piece() -> None:
    async with (
        serving(says(CHUNKED + b"".join(map(chunk, EVENTS)) + LAST_CHUNK)) as server,
        build(n8n(server.url), owned) as upstream,
        upstream.open(request(), b"{}", "token") as pieces,
    ):
        assert [piece async for piece in pieces] == ["You said: grüße 🎉"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_any_chunking_gives_the_same_text(size: int) -> None:
    data = b"".join(EVENTS)
    chunks = [chunk(data[start : start + size]) for start in range(0, len(data), size)]
    async with serving(says(CHUNKED, *chunks, LAST_CHUNK)) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream) == ("You said: grüße 🎉", None)


async def test_a_plain_answer_may_have_any_status_of_success() -> None:
    head = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"
    async with serving(says(plain(b'{"output":"hello"}', head))) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream) == ("hello", None)


async def test_text_streams_as_it_comes() -> None:
    parts = ["grüße ".encode()[:3], "grüße ".encode()[3:], b"there"]
    script = says(CHUNKED, *map(chunk, parts), LAST_CHUNK)
    async with serving(script) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream) == ("grüße there", None)


async def test_a_body_may_end_with_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with serving(says(head, *EVENTS)) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream) == ("You said: grüße 🎉", None)


async def test_a_body_that_ends_too_early_with_its_connection_is_noticed_by_its_open_run() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with serving(says(head, *EVENTS[:2])) as server, build(n8n(server.url), owned) as upstream:
        text, error = await answer(upstream)
    assert text == "You "
    assert error is not None
    assert error.detail == "cut: the stream ended inside a run"
