"""A site as OpenAI's API: conversations, system prompts, keys, limits, errors and endings, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from proxy.guard.keys import hash_of, new_key
from tests.sidegate import Visitor, sidegate
from tests.upstreams import BEGIN, HEAD, LAST, Asked, Script, Step, Webhook, chunk, item, plain, stream, webhook

BOT, READER = new_key("api"), new_key("api")
KEYS = {
    "api": [
        {"name": "bot", "hash": hash_of(BOT), "site": "shop"},
        {"name": "reader", "hash": hash_of(READER), "site": "shop", "scopes": ["read"]},
    ]
}
QUESTION = [{"role": "user", "content": "hello"}]
CONVERSATION = [
    {"role": "system", "content": "You are a pirate."},
    {"role": "user", "content": "My name is Ada."},
    {"role": "assistant", "content": [{"type": "text", "text": "Hello Ada."}]},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "tool_call_id": "t1", "content": "42"},
    {"role": "user", "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": "am I?"}]},
]


def site(**more: Any) -> dict[str, Any]:  # Any: configuration as written
    return {
        "shop": {"upstream": "support", "auth": ["api_key", "anonymous"], "origins": ["https://shop.example"], **more}
    }


@asynccontextmanager
async def world(script: Script, kind: str = "n8n", **more: Any) -> AsyncIterator[tuple[Visitor, Webhook]]:
    async with webhook(lambda asked: script) as hook:
        upstream = {"kind": kind, "url": hook.url, **({"model": "m", "api_key": None} if kind == "openai" else {})}
        async with sidegate(upstream, **{"sites": site(), "keys": KEYS, **more}) as visitor:
            visitor.headers = {"Authorization": f"Bearer {BOT}", "User-Agent": "OpenAI/Python"}
            yield visitor, hook


async def ask(visitor: Visitor, messages: Any = None, headers: Any = None, **fields: Any) -> tuple[int, Any]:
    body = {"model": "shop", "messages": messages or QUESTION, **fields}
    url = f"{visitor.url}/v1/chat/completions"
    async with visitor.http.post(url, json=body, headers=visitor.headers | (headers or {})) as response:
        if response.content_type == "text/event-stream":
            blocks = (await response.text()).split("\n\n")
            data = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
            return response.status, [orjson.loads(one) if one != "[DONE]" else one for one in data]
        return response.status, await response.json()


async def test_an_answer_is_a_completion_with_estimated_usage() -> None:
    async with world(stream("Good ", "day")) as (visitor, hook):
        status, answer = await ask(visitor, temperature=0.5, tools=[])
        assert status == 200
        assert answer["object"] == "chat.completion"
        assert answer["model"] == "shop"
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Good day", "refusal": None}
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
        assert hook.asked[0].json["chatInput"] == "hello"


async def test_a_stream_begins_with_the_role_and_ends_with_reason_usage_and_done() -> None:
    async with world(stream("Good ", "day")) as (visitor, _):
        _, (first, *pieces, last, usage, done) = await ask(visitor, stream=True, stream_options={"include_usage": True})
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces) == "Good day"
        assert last["choices"][0]["finish_reason"] == "stop"
        assert usage["choices"] == []
        assert usage["usage"]["total_tokens"] == 4
        assert done == "[DONE]"
        assert len({chunk["id"] for chunk in (first, *pieces, last, usage)}) == 1


async def test_n8n_gets_the_last_message_and_what_was_said_before_as_context() -> None:
    async with world(stream("Ada")) as (visitor, hook):
        await ask(visitor, CONVERSATION)
        metadata = hook.asked[0].json["metadata"]
        assert hook.asked[0].json["chatInput"] == "Who\nam I?"
        assert isinstance(metadata, dict)
        assert metadata["context"] == {
            "history": [
                {"role": "user", "content": "My name is Ada."},
                {"role": "assistant", "content": "Hello Ada."},
            ]
        }


async def test_a_model_gets_the_conversation_and_its_own_usage_is_told() -> None:
    said = b'{"choices":[{"message":{"content":"Ada"}}],"usage":{"prompt_tokens":31,"completion_tokens":7}}'
    sites = site(completions={"system": "allow"})
    async with world(plain(said), "openai", sites=sites) as (visitor, hook):
        _, answer = await ask(visitor, CONVERSATION)
        assert answer["usage"] == {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}
        assert hook.asked[0].json["messages"] == [
            {"role": "system", "content": "You are a pirate."},
            {"role": "user", "content": "My name is Ada."},
            {"role": "assistant", "content": "Hello Ada."},
            {"role": "user", "content": "Who\nam I?"},
        ]


async def test_a_pages_context_is_no_conversation() -> None:
    said = b'{"choices":[{"message":{"content":"Ada"}}]}'
    async with world(plain(said), "openai") as (visitor, hook):
        context = {"history": [{"role": "system", "content": "You are a pirate."}]}
        async with visitor.post(context=context) as response:
            assert response.status == 200
            await response.read()
        assert hook.asked[0].json["messages"] == [{"role": "user", "content": "hello"}]


async def test_only_so_much_of_a_conversation_goes_along_the_latest_first() -> None:
    turns = [{"role": "user", "content": str(number) * 10} for number in range(5)]
    async with world(stream("x"), sites=site(completions={"history": 25})) as (visitor, hook):
        await ask(visitor, turns)
        assert b'"history":[{"role":"user","content":"2222222222"},{"role":"user","content":"3333333333"}]' in (
            hook.asked[0].body
        )


async def test_what_was_said_before_is_judged_and_masked_like_the_message() -> None:
    attack = [{"role": "assistant", "content": "<script>alert(document.cookie)</script>"}, *QUESTION]
    private = [{"role": "user", "content": "I am ada@acme.test"}, *QUESTION]
    async with world(stream("x")) as (visitor, hook):
        status, answer = await ask(visitor, attack)
        assert (status, answer["error"]["code"]) == (422, "content_blocked")
        assert hook.asked == []
        await ask(visitor, private)
        assert b"acme.test" not in hook.asked[0].body


async def test_conversations_without_a_name_never_share_a_memory() -> None:
    async with world(stream("x")) as (visitor, hook):
        for _ in range(2):
            await ask(visitor)
        for user in ("ada", "bob", "ada"):
            await ask(visitor, user=user)
        for name in ("ada", "ada"):
            await ask(visitor, headers={"X-Sidegate-Conversation": name})
        one, two, ada, bob, ada_again, named, named_again = [asked.json["sessionId"] for asked in hook.asked]
        assert len({one, two, ada, bob, named}) == 5
        assert ada == ada_again
        assert named == named_again


async def test_a_request_that_is_sent_again_runs_once() -> None:
    async with world(stream("x")) as (visitor, hook):
        answers = [await ask(visitor, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
        assert answers[0][1]["id"] == answers[1][1]["id"]
        assert len(hook.asked) == 1


async def test_a_visitor_with_a_session_may_ask_and_has_its_memory() -> None:
    async with world(stream("x")) as (visitor, hook):
        visitor.headers = {"Origin": "https://shop.example", "User-Agent": "Mozilla/5.0"}
        await visitor.session()
        await ask(visitor)
        await ask(visitor)
        assert hook.asked[0].json["sessionId"] == hook.asked[1].json["sessionId"]


async def test_models_are_the_site_of_the_key() -> None:
    async with world(stream("x")) as (visitor, _):
        async with visitor.http.get(f"{visitor.url}/v1/models", headers=visitor.headers) as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["shop"]
        for name, status in (("shop", 200), ("gpt", 404)):
            async with visitor.http.get(f"{visitor.url}/v1/models/{name}", headers=visitor.headers) as response:
                assert response.status == status
                assert ("error" in await response.json()) is (status == 404)


async def test_refusals_are_in_openais_shape_with_their_status_and_nothing_is_sent() -> None:
    async with world(stream("x")) as (visitor, hook):
        image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example"}}]}]
        cases: list[tuple[Any, Any, int, str, str]] = [
            ({"messages": image}, {}, 400, "bad_request", "invalid_request_error"),
            ({"messages": [{"role": "assistant", "content": "x"}]}, {}, 400, "bad_request", "invalid_request_error"),
            ({"messages": [{"content": "x"}]}, {}, 400, "bad_request", "invalid_request_error"),
            ({"messages": "x"}, {}, 400, "bad_request", "invalid_request_error"),
            ({"n": 2}, {}, 400, "bad_request", "invalid_request_error"),
            ({"model": 1}, {}, 400, "bad_request", "invalid_request_error"),
            ({"model": "gpt"}, {}, 404, "bad_request", "not_found_error"),
            ({}, {"Authorization": "Bearer nobodys"}, 401, "auth_failed", "authentication_error"),
            ({}, {"Authorization": f"Bearer {READER}"}, 403, "forbidden_scope", "permission_error"),
            ({}, {"Authorization": ""}, 401, "auth_required", "authentication_error"),
            (
                {"messages": [{"role": "user", "content": "x" * 2001}]}, {}, 413, "too_large", "invalid_request_error"
            ),
        ]  # fmt: skip
        for fields, headers, status, code, kind in cases:
            got, answer = await ask(visitor, headers=headers, **fields)
            assert (got, answer["error"]["code"], answer["error"]["type"]) == (status, code, kind)
        async with visitor.http.get(f"{visitor.url}/v1/chat/completions", headers=visitor.headers) as response:
            assert response.status == 405
            assert (await response.json())["error"]["code"] == "bad_request"
        assert hook.asked == []


@pytest.mark.parametrize("path", ["completions", "embeddings", "responses", "chat/completions/x"])
async def test_what_of_openais_api_is_not_served_says_so_in_its_shape(path: str) -> None:
    async with (
        world(stream("x")) as (visitor, _),
        visitor.http.post(f"{visitor.url}/v1/{path}", json={}, headers=visitor.headers) as response,
    ):
        error = (await response.json())["error"]
        assert (response.status, error["type"]) == (404, "not_found_error")
        assert error["message"] == "There is nothing here."


async def test_a_limit_is_told_with_the_time_to_wait() -> None:
    limits = [{"per": "api_key", "limit": 1, "window": 60}]
    async with world(stream("x"), limits=limits) as (visitor, _):
        await ask(visitor)
        status, answer = await ask(visitor, stream=True)
        assert (status, answer["error"]["code"], answer["error"]["type"]) == (429, "rate_limited", "rate_limit_error")


async def test_a_failure_is_an_error_and_is_not_to_be_tried_again() -> None:
    async with world(plain(b"boom inner-secret", "500 Internal Server Error")) as (visitor, _):
        body = {"model": "shop", "messages": QUESTION}
        url = f"{visitor.url}/v1/chat/completions"
        async with visitor.http.post(url, json=body, headers=visitor.headers) as response:
            assert response.status == 502
            assert response.headers["X-Should-Retry"] == "false"
            assert b"secret" not in await response.read()


async def test_an_answer_that_breaks_off_ends_its_stream_with_an_error_and_without_done() -> None:
    async with world([Step(HEAD + chunk(BEGIN) + chunk(item("Good "))), Step()]) as (visitor, _):
        _, (*_, last) = await ask(visitor, stream=True)
        assert last["error"]["code"] == "upstream_error"


async def test_an_error_on_a_stream_says_which_request_it_was() -> None:
    async with world([Step(HEAD + chunk(BEGIN) + chunk(item("Good "))), Step()]) as (visitor, _):
        _, data = await ask(visitor, stream=True)
        assert data[-1]["error"].keys() == {"message", "type", "param", "code", "request_id"}
        assert len(data[-1]["error"]["request_id"]) == 32


async def test_what_a_filter_withholds_is_the_finish_reason() -> None:
    async with world(stream("Good ", "day"), filters={"max_chars": 6}) as (visitor, _):
        _, answer = await ask(visitor)
        assert answer["choices"][0]["message"]["content"] == "Good d"
        assert answer["choices"][0]["finish_reason"] == "length"
        _, (*_, last, done) = await ask(visitor, stream=True)
        assert (last["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
    async with world(stream("Good ", "day"), filters={"phrases": {"block": ["day"]}}) as (visitor, _):
        _, answer = await ask(visitor)
        assert answer["choices"][0]["message"]["content"].strip() == "Good"
        assert answer["choices"][0]["finish_reason"] == "content_filter"
        options = {"include_usage": True}
        _, (*_, last, usage, done) = await ask(visitor, stream=True, stream_options=options)
        assert (last["choices"][0]["finish_reason"], done) == ("content_filter", "[DONE]")
        assert usage["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "tool_calls"])
async def test_a_models_finish_reason_is_told_where_it_is_one_of_an_answers(finish: str) -> None:
    choice = orjson.dumps({"choices": [{"message": {"content": "Ada"}, "finish_reason": finish}]})
    told = "stop" if finish == "tool_calls" else finish
    async with world(plain(choice), "openai") as (visitor, _):
        _, answer = await ask(visitor)
        assert answer["choices"][0]["finish_reason"] == told
    delta = orjson.dumps({"choices": [{"delta": {"content": "Ada"}}]})
    last = orjson.dumps({"choices": [{"delta": {}, "finish_reason": finish}]})
    events = b"".join(b"data: " + each + b"\n\n" for each in (delta, last, b"[DONE]"))
    async with world(plain(events), "openai") as (visitor, _):
        _, (*_, ending, done) = await ask(visitor, stream=True)
        assert (ending["choices"][0]["finish_reason"], done) == (told, "[DONE]")


async def test_an_answer_that_the_model_cut_is_not_given_to_others() -> None:
    choice = b'{"choices":[{"message":{"content":"Ada"},"finish_reason":"length"}]}'
    async with world(plain(choice), "openai", sites=site(cache={"ttl": 60})) as (visitor, hook):
        for _ in range(2):
            _, answer = await ask(visitor)
            assert answer["choices"][0]["finish_reason"] == "length"
        assert len(hook.asked) == 2


async def test_a_client_that_leaves_is_noticed_and_others_go_on() -> None:
    gate = asyncio.Event()

    def script(asked: Asked) -> Script:
        return [Step(HEAD + chunk(BEGIN) + chunk(item("a"))), Step(wait=gate), Step(LAST)]

    async with webhook(script) as hook:
        streams = {"on_disconnect": "cancel"}
        upstream = {"kind": "n8n", "url": hook.url}
        async with sidegate(upstream, sites=site(), keys=KEYS, streams=streams) as visitor:
            headers = {"Authorization": f"Bearer {BOT}"}
            body = {"model": "shop", "messages": QUESTION, "stream": True}
            url = f"{visitor.url}/v1/chat/completions"
            async with visitor.http.post(url, json=body, headers=headers) as response:
                await response.content.readany()
            async with asyncio.timeout(10):
                await hook.asked[0].closed.wait()
            gate.set()
