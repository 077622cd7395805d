"""Filters in a whole server: the same text by every face and any cutting, and endings that let nothing more out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.filters.links import Links
from tests.filters.test_split import RICH
from tests.sidegate import BROWSER, Visitor, parse_sse, sidegate, text_of
from tests.upstreams import BEGIN, END, HEAD, LAST, Script, Step, chunk, item, stream, webhook

CASES = int(os.environ.get("SIDEGATE_FUZZ", "2000")) // 40
HOSTILE = (
    "See ![x](https://evil.example/?q=1) and <img src=x onerror=alert(1)>, `<b>`, \x1b[31mred\u200b, "
    "mail bob.b@acme.test, ask eve@acme.test or kim(at)acme.test, [shop](https://shop.example/a). é😀 42"
)
SAFE = (
    "See ![x]\\(`https://evil.example/?q=1`) and &lt;img src=x onerror=alert(1)>, `<b>`, red, "
    "mail [EMAIL], ask [EMAIL] or [EMAIL], [shop](https://shop.example/a). é😀 42"
)
FILTERS: dict[str, Any] = {"links": {"allow": ["shop.example"]}}  # Any: as a configuration file has it


async def events(visitor: Visitor) -> str:
    return text_of(await visitor.events())


async def lines(visitor: Visitor) -> str:
    async with visitor.post(accept="application/x-ndjson") as response:
        found = [orjson.loads(line) for line in (await response.read()).splitlines()]
    return "".join(line["text"] for line in found if line["type"] == "delta")


async def collected(visitor: Visitor) -> str:
    async with visitor.post(accept="application/json") as response:
        text: str = (await response.json())["text"]
    return text


async def frames(visitor: Visitor) -> str:
    text = ""
    async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
        await socket.send_json({"type": "message", "message": "hello"})
        frame = await socket.receive_json(timeout=10)
        while frame["type"] in ("start", "delta"):
            text += frame.get("text", "")
            frame = await socket.receive_json(timeout=10)
    return text


async def completion(visitor: Visitor) -> str:
    async with visitor.http.post(**_completion(visitor, stream=False)) as response:
        text: str = (await response.json())["choices"][0]["message"]["content"]
    return text


async def chunks(visitor: Visitor) -> str:
    async with visitor.http.post(**_completion(visitor, stream=True)) as response:
        blocks = (await response.text()).split("\n\n")
    data = [block.removeprefix("data: ") for block in blocks if block.startswith("data: {")]
    return "".join(orjson.loads(one)["choices"][0]["delta"].get("content", "") for one in data)


def _completion(visitor: Visitor, *, stream: bool) -> dict[str, Any]:  # Any: arguments of a request
    body = {"model": "shop", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    return {"url": f"{visitor.url}/v1/chat/completions", "json": body, "headers": visitor.headers}


async def widget(visitor: Visitor) -> str:
    async with visitor.http.post(**_widget(visitor)) as response:
        text: str = (await response.json())["output"]
    return text


async def widgets_lines(visitor: Visitor) -> str:
    async with visitor.http.post(**_widget(visitor, Accept="text/plain")) as response:
        found = [orjson.loads(line) for line in (await response.read()).splitlines()]
    return "".join(line["content"] for line in found if line["type"] == "item")


def _widget(visitor: Visitor, **headers: str) -> dict[str, Any]:  # Any: arguments of a request
    body = {"action": "sendMessage", "sessionId": "v1", "chatInput": "hello"}
    return {"url": f"{visitor.url}/chat/shop", "json": body, "headers": BROWSER | headers}


FACES: dict[str, Callable[[Visitor], Awaitable[str]]] = {
    "server-sent events": events,
    "NDJSON": lines,
    "JSON": collected,
    "WebSocket": frames,
    "@n8n/chat": widget,
    "@n8n/chat, streaming": widgets_lines,
    "chat completion": completion,
    "chunks of a chat completion": chunks,
}


def n8n(url: str) -> dict[str, Any]:  # Any: as a configuration file has it
    return {"kind": "n8n", "url": url}


def cut(text: str, size: int) -> list[bytes]:
    """The answer as n8n sends it, in reads of so many bytes."""
    payload = b"".join([BEGIN, item(text), END])
    return [payload[at : at + size] for at in range(0, len(payload), size)]


@pytest.mark.parametrize("face", FACES.values(), ids=FACES.keys())
@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_every_face_shows_the_same_text_for_any_cut_of_the_bytes(
    face: Callable[[Visitor], Awaitable[str]], size: int
) -> None:
    script = [Step(HEAD), *(Step(chunk(part)) for part in cut(HOSTILE, size)), Step(LAST)]
    async with webhook(lambda _: script) as hook, sidegate(n8n(hook.url), filters=FILTERS) as visitor:
        await visitor.session()
        assert await face(visitor) == SAFE


async def test_any_text_is_the_same_for_any_two_cuttings() -> None:
    script: Script = []
    async with webhook(lambda _: script) as hook, sidegate(n8n(hook.url), filters=FILTERS) as visitor:
        await visitor.session()

        async def shown(text: str, cuts: list[int]) -> str:
            payload = b"".join([BEGIN, item(f"{text}."), END])  # an empty answer would be an error
            at = [0, *sorted(min(place, len(payload)) for place in cuts), len(payload)]
            parts = [payload[start:end] for start, end in pairwise(at) if start < end]
            script[:] = [Step(HEAD), *(Step(chunk(part)) for part in parts), Step(LAST)]
            return await events(visitor)

        loop = asyncio.get_running_loop()

        @given(text=RICH, cuts=st.lists(st.integers(0, 300), max_size=8))
        @settings(max_examples=CASES, deadline=None)
        def same(text: str, cuts: list[int]) -> None:
            both = [asyncio.run_coroutine_threadsafe(shown(text, places), loop).result(30) for places in ([], cuts)]
            assert both[0] == both[1]

        await asyncio.to_thread(same)


async def test_a_block_in_mid_stream_is_an_error_event_behind_what_was_allowed_and_closes_the_upstream() -> None:
    never = asyncio.Event()
    pieces = ["fine so far. The her", "on-7f3", "a is <secret", ">, and more"]
    script = [Step(HEAD + chunk(BEGIN)), *(Step(chunk(item(piece))) for piece in pieces), Step(wait=never)]
    canary = {"phrases": {"canaries": ["heron 7f3a"]}}
    async with webhook(lambda _: script) as hook, sidegate(n8n(hook.url), filters=canary) as visitor:
        await visitor.session()
        seen = await visitor.events()
        assert text_of(seen) == "fine so far. The "
        assert seen[-1].name == "error"
        assert seen[-1].fields["code"] == "output_blocked"
        assert seen[-1].fields.keys() == {"code", "message", "request_id", "finish"}
        async with asyncio.timeout(10):
            await hook.asked[0].closed.wait()
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            metrics = await response.text()
    assert 'sidegate_filter_hits_total{rule="canary",site="shop"} 1.0' in metrics
    assert 'sidegate_answers_total{outcome="output_blocked",site="shop"} 1.0' in metrics
    assert 'sidegate_held_characters_count{site="shop"} 1.0' in metrics


async def test_a_filter_that_crashes_blocks_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> str:
        raise RuntimeError("details")

    monkeypatch.setattr(Links, "feed", crash)
    async with webhook(lambda _: stream("hello ", "world")) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        seen = await visitor.events()
    assert [event.name for event in seen] == ["start", "error"]
    assert seen[-1].fields["code"] == "output_blocked"
    assert "details" not in str(seen)


async def test_what_was_kept_back_when_the_upstream_breaks_off_never_leaves() -> None:
    script = [Step(HEAD + chunk(BEGIN) + chunk(item("fine. mail john.smith@acme.te"))), Step()]
    async with webhook(lambda _: script) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        seen = await visitor.events()
    assert text_of(seen) == "fine. mail "
    assert seen[-1].fields["code"] == "upstream_error"


async def test_wherever_the_upstream_breaks_off_the_text_is_a_beginning_of_what_may_leave() -> None:
    script: Script = []
    async with webhook(lambda _: script) as hook, sidegate(n8n(hook.url), filters=FILTERS) as visitor:
        await visitor.session()
        for at in range(1, len(HOSTILE), 3):
            script[:] = [Step(HEAD + chunk(BEGIN) + chunk(item(HOSTILE[:at]))), Step()]
            assert SAFE.startswith(await lines(visitor))


@pytest.mark.parametrize("hold_words", [False, True])
async def test_silence_lets_nothing_out_that_is_not_judged(hold_words: bool) -> None:
    never = asyncio.Event()
    script = [Step(HEAD + chunk(BEGIN) + chunk(item("It is bob"))), Step(wait=never)]
    filters = {"hold_words": hold_words}
    impatient = {"timeouts": {"idle": 0.5}}
    async with (
        webhook(lambda _: script) as hook,
        sidegate(n8n(hook.url) | impatient, filters=filters, streams={"heartbeat": 0.05}) as visitor,
    ):
        await visitor.session()
        async with visitor.post() as response:
            body = await response.text()
    assert "\n:" in body  # signs of life, while the word waits
    seen = parse_sse(body)
    assert text_of(seen) == "It is "
    assert seen[-1].fields["code"] == "upstream_timeout"


@pytest.mark.parametrize("last", ["42", "bob", "4111 1111", "eve@acme.tes", "see"])
async def test_what_waits_at_the_end_of_an_answer_leaves_with_its_end(last: str) -> None:
    async with webhook(lambda _: stream("It is ", last)) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        seen = await visitor.events()
    assert text_of(seen) in (f"It is {last}", "It is [EMAIL]")
    assert seen[-1].name == "done"


async def test_an_answer_that_is_collected_says_so_in_its_headers() -> None:
    whole = {"redact": [{"pattern": "(?s)<.*>", "whole": True}]}
    async with webhook(lambda _: stream("a <b", "c> d")) as hook, sidegate(n8n(hook.url), filters=whole) as visitor:
        await visitor.session()
        for accept in ("text/event-stream", "application/x-ndjson", "application/json"):
            async with visitor.post(accept=accept) as response:
                assert response.headers["Sidegate-Answer"] == "whole"
                assert "[redacted]" in await response.text()
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            assert socket._response.headers["Sidegate-Answer"] == "whole"
    async with webhook(lambda _: stream("a")) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        async with visitor.post() as response:
            assert "Sidegate-Answer" not in response.headers
            await response.read()


async def test_what_the_visitor_wrote_may_be_told_again() -> None:
    off = {"pii": {"mode": "off"}}
    told = "You are ann.b@acme.test, write to c.d@acme.test."
    async with webhook(lambda _: stream(told)) as hook, sidegate(n8n(hook.url), content=off) as visitor:
        await visitor.session()
        seen = await visitor.events("I am ann.b@acme.test")
    assert text_of(seen) == "You are ann.b@acme.test, write to [EMAIL]."
