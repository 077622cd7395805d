"""An answer outlives its connection: joined, resumed, asked for later, stopped; byte-exact, once, its owner's alone."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.sidegate import BROWSER, Event, Visitor, parse_sse, sidegate, text_of
from tests.upstreams import BEGIN, END, HEAD, LAST, Asked, Script, Step, chunk, item, plain, stream, webhook

WORDS = [f"{'so ' * number}wörd. " for number in range(50)]  # nothing in it that filters would keep back


def n8n(url: str) -> dict[str, Any]:
    return {"kind": "n8n", "url": url}


class Slow:
    """An upstream that sends its next word when it is told to."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.go = [asyncio.Event() for _ in words]

    def script(self, _: Asked) -> Script:
        steps = [Step(HEAD + chunk(BEGIN))]
        for word, go in zip(self.words, self.go, strict=True):
            steps += [Step(wait=go), Step(chunk(item(word)))]
        return [*steps, Step(chunk(END) + LAST)]

    def let(self, number: int) -> None:
        for go in self.go[:number]:
            go.set()


async def read_until(response: aiohttp.ClientResponse, number: int) -> list[Event]:
    """Events up to one with this number."""
    body = b""
    while True:
        events = parse_sse(body[: body.rfind(b"\n\n") + 2].decode()) if b"\n\n" in body else []
        if events and int(events[-1].id.rpartition(":")[2]) >= number:
            return events
        body += await response.content.readany()


async def join(visitor: Visitor, answer_id: str, after: int | None = None, **headers: str) -> list[Event]:
    last = {} if after is None else {"Last-Event-ID": f"{answer_id}:{after}"}
    url = f"{visitor.url}/v1/answers/{answer_id}"
    async with visitor.http.get(url, headers=visitor.headers | last | headers) as response:
        assert response.status == 200, await response.text()
        return parse_sse(await response.text())


async def resume(socket: aiohttp.ClientWebSocketResponse, answer_id: str, after: int) -> list[Event]:
    """The rest of an answer over a WebSocket, as the events that a stream would have."""
    await socket.send_json({"type": "resume", "answer_id": answer_id, "after": after})
    rest: list[Event] = []
    while not rest or rest[-1].name != "done":
        frame = await socket.receive_json(timeout=10)
        beside = {"type", "id", "answer_id"} if frame["type"] == "delta" else {"type", "id"}
        rest.append(Event(frame["type"], {name: frame[name] for name in frame.keys() - beside}, frame["id"]))
    return rest


@pytest.mark.parametrize("through", ["sse", "ws"])
async def test_cut_at_every_event_and_resumed_the_answer_is_byte_exact_and_asked_for_once(through: str) -> None:
    async with webhook(lambda _: stream(*WORDS)) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        whole = await visitor.events()
        answer_id = whole[0].fields["answer_id"]
        socket = await visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers)
        for after in range(-1, len(whole) - 1):
            if through == "sse":
                rest = await join(visitor, answer_id, after)
            else:
                rest = await resume(socket, answer_id, after)
            assert whole[: after + 1] + rest == whole
        await socket.close()
    assert len(hook.asked) == 1


async def test_a_lost_connection_loses_nothing_while_the_upstream_goes_on() -> None:
    slow = Slow(WORDS)
    async with webhook(slow.script) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        response = await visitor.post()
        slow.let(3)
        seen = await read_until(response, 3)
        answer_id = seen[0].fields["answer_id"]
        response.close()
        slow.let(len(WORDS))
        rest = await join(visitor, answer_id, 3)
        assert text_of(seen[:4]) + text_of(rest) == "".join(WORDS)
        assert [int(event.id.rpartition(":")[2]) for event in rest] == list(range(4, len(WORDS) + 2))
    assert len(hook.asked) == 1


async def test_two_listeners_get_the_same_events() -> None:
    slow = Slow(WORDS)
    async with webhook(slow.script) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        response = await visitor.post()
        slow.let(1)
        answer_id = (await read_until(response, 1))[0].fields["answer_id"]
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(join(visitor, answer_id))
            await asyncio.sleep(0)
            slow.let(len(WORDS))
        assert text_of(other.result()) == "".join(WORDS)
        response.close()
    assert len(hook.asked) == 1


async def test_a_message_may_be_answered_later() -> None:
    slow = Slow(["late ", "answer"])
    async with (
        webhook(slow.script) as hook,
        sidegate(n8n(hook.url), streams={"on_disconnect": "cancel"}) as visitor,
    ):
        await visitor.session()
        async with visitor.post(headers={"Prefer": "respond-async"}) as response:
            assert response.status == 202
            assert response.headers["Preference-Applied"] == "respond-async"
            location = response.headers["Location"]
            assert location == f"/v1/answers/{(await response.json())['answer_id']}"
        headers = visitor.headers | {"Accept": "application/json"}
        async with visitor.http.get(visitor.url + location, headers=headers) as response:
            assert (await response.json())["status"] == "running"
        slow.let(2)
        async with asyncio.timeout(10):
            state: dict[str, Any] = {"status": "running"}
            while state["status"] == "running":
                async with visitor.http.get(visitor.url + location, headers=headers) as response:
                    state = await response.json()
        assert (state["status"], state["text"]) == ("done", "late answer")
        async with visitor.post(" ", headers={"Prefer": "respond-async"}) as response:
            assert response.status == 400  # what the guard refuses is told at once


async def test_nobody_but_its_owner_reaches_an_answer() -> None:
    async with webhook(lambda _: stream("secret")) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        answer_id = (await visitor.events())[0].fields["answer_id"]
        url = f"{visitor.url}/v1/answers/{answer_id}"
        owner = dict(visitor.headers)
        await visitor.session()
        for headers, status in ((visitor.headers, 404), (BROWSER, 401), (owner | {"User-Agent": "curl"}, 401)):
            for method in ("GET", "DELETE"):
                async with visitor.http.request(method, url, headers=headers) as response:
                    assert response.status == status
                    assert "secret" not in await response.text()
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            for kind in ("resume", "stop"):
                await socket.send_json({"type": kind, "answer_id": answer_id, "after": -1})
                assert (await socket.receive_json(timeout=10))["code"] == "bad_request"
        async with visitor.http.get(url, headers=owner) as response:
            assert "secret" in await response.text()


async def test_its_owner_may_stop_it_and_the_upstream_is_closed() -> None:
    slow = Slow(WORDS)
    async with webhook(slow.script) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        response = await visitor.post()
        slow.let(1)
        answer_id = (await read_until(response, 1))[0].fields["answer_id"]
        url = f"{visitor.url}/v1/answers/{answer_id}"
        async with visitor.http.delete(url, headers=visitor.headers) as stopped:
            assert stopped.status == 204
        async with asyncio.timeout(5):
            await hook.asked[0].closed.wait()
        last = parse_sse((await response.read()).decode())[-1]
        assert (last.name, last.fields["stopped"]) == ("done", True)
        async with visitor.http.delete(url, headers=visitor.headers) as stopped:
            assert stopped.status == 204  # again changes nothing


async def test_an_event_source_that_comes_back_after_the_end_is_told_to_stay_away() -> None:
    async with webhook(lambda _: stream("all")) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        events = await visitor.events()
        headers = visitor.headers | {"Last-Event-ID": events[-1].id}
        url = f"{visitor.url}/v1/answers/{events[0].fields['answer_id']}"
        async with visitor.http.get(url, headers=headers) as response:
            assert response.status == 204


@pytest.mark.parametrize(("policy", "goes_on"), [("cancel", False), ("grace", False), ("finish", True)])
async def test_what_happens_when_the_last_listener_leaves_is_the_sites_choice(policy: str, goes_on: bool) -> None:
    slow = Slow(WORDS)
    sites = {
        "shop": {
            "origins": ["https://shop.example"],
            "upstream": "support",
            "streams": {"on_disconnect": policy, "grace": 0.1},
        }
    }
    async with webhook(slow.script) as hook, sidegate(n8n(hook.url), sites=sites) as visitor:
        await visitor.session()
        response = await visitor.post()
        slow.let(1)
        answer_id = (await read_until(response, 1))[0].fields["answer_id"]
        response.close()
        if goes_on:
            slow.let(len(WORDS))
            assert text_of(await join(visitor, answer_id)) == "".join(WORDS)
        else:
            async with asyncio.timeout(5):
                await hook.asked[0].closed.wait()


async def test_coming_back_within_the_grace_keeps_it_running() -> None:
    slow = Slow(["one ", "two"])
    async with webhook(slow.script) as hook, sidegate(n8n(hook.url), streams={"grace": 0.3}) as visitor:
        await visitor.session()
        first = await visitor.post()
        slow.let(1)
        answer_id = (await read_until(first, 1))[0].fields["answer_id"]
        first.close()
        url = f"{visitor.url}/v1/answers/{answer_id}"
        async with visitor.http.get(url, headers=visitor.headers) as again:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hook.asked[0].closed.wait(), 0.6)
            slow.let(2)
            assert text_of(parse_sse(await again.text())) == "one two"


async def test_a_message_sent_again_with_its_key_joins_its_answer() -> None:
    slow = Slow(WORDS)
    key = {"Idempotency-Key": "k1"}
    async with webhook(slow.script) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        first = await visitor.post(headers=key)
        slow.let(1)
        seen = text_of(await read_until(first, 1))
        second = await visitor.post(headers=key)
        slow.let(len(WORDS))
        assert seen + text_of(parse_sse(await first.text())) == "".join(WORDS)
        assert text_of(parse_sse(await second.text())) == "".join(WORDS)
        assert text_of(await visitor.events(headers=key)) == "".join(WORDS)
        assert len(hook.asked) == 1
        assert (await visitor.problem("another", headers=key))[1]["code"] == "conflict"
        assert (await visitor.problem(headers={"Idempotency-Key": "k" * 256}))[0] == 400
        await visitor.session()
        await visitor.events("another", headers=key)  # another session's keys are its own
        await visitor.events()  # and without a key the same text is a new message
    assert len(hook.asked) == 3


async def test_after_a_failure_the_same_key_tries_anew() -> None:
    scripts = iter([plain(b"", "500 Internal Server Error"), stream("better")])
    async with webhook(lambda _: next(scripts)) as hook, sidegate(n8n(hook.url)) as visitor:
        await visitor.session()
        key = {"Idempotency-Key": "k1"}
        assert (await visitor.problem(headers=key))[0] == 502
        assert text_of(await visitor.events(headers=key)) == "better"


async def test_an_answer_over_the_bound_ends_in_an_error() -> None:
    streams = {"journal_bytes": 1024}
    async with (
        webhook(lambda _: stream("x" * 1000, "y" * 1000)) as hook,
        sidegate(n8n(hook.url), streams=streams) as visitor,
    ):
        await visitor.session()
        events = await visitor.events()
        assert events[-1].fields["code"] == "output_blocked"
        assert len(text_of(events)) <= 1024
