"""What a visitor types of personal data: the workflow never sees it, the visitor reads it again, and nobody else."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest

from tests.flows.test_push import listening, ops, owned, push
from tests.flows.test_replicas import dump
from tests.servers import RedisServer
from tests.sidegate import JWT_KEY, Event, Visitor, parse_sse, sidegate, text_of
from tests.upstreams import HEAD, Asked, Script, Step, Webhook, chunk, item, plain, stream, webhook

CARD, MAIL = "4556 7375 8689 9855", "ann@shop.org"
TEXT = f"I am {MAIL}, charge {CARD}"
MASKED = "I am [EMAIL_1], charge [CARD_1]"


def n8n(hook: Webhook) -> dict[str, Any]:
    return {"kind": "n8n", "url": hook.url}


def parrot(asked: Asked) -> Script:
    """Repeats the message, three characters at a time."""
    text = str(asked.json["chatInput"])
    return stream(*(text[at : at + 3] for at in range(0, len(text), 3)))


def seen(hook: Webhook) -> str:
    """All that went upstream, heads included."""
    return "\n".join(f"{asked.path} {asked.headers} {asked.body.decode()}" for asked in hook.asked)


def nothing_personal(hook: Webhook) -> None:
    for part in (MAIL, "ann@", CARD, CARD.replace(" ", ""), "8689"):
        assert part not in seen(hook)


async def test_the_workflow_gets_placeholders_and_the_visitor_what_was_typed() -> None:
    async with webhook(parrot) as hook, sidegate(n8n(hook)) as visitor:
        await visitor.session()
        assert text_of(await visitor.events(TEXT)) == TEXT
        assert text_of(await visitor.events(f"and {MAIL.upper()} or bob@shop.org?")) == f"and {MAIL} or bob@shop.org?"
    assert [asked.json["chatInput"] for asked in hook.asked] == [MASKED, "and [EMAIL_1] or [EMAIL_2]?"]
    nothing_personal(hook)


async def test_every_transport_and_a_resumed_answer_say_the_same() -> None:
    async with webhook(parrot) as hook, sidegate(n8n(hook)) as visitor:
        await visitor.session()
        async with visitor.post(TEXT, accept="application/json") as response:
            collected = await response.json()
        assert collected["text"] == TEXT
        async with visitor.post(TEXT, accept="application/x-ndjson") as response:
            lines = [orjson.loads(line) for line in (await response.read()).splitlines()]
        assert "".join(line.get("text", "") for line in lines) == TEXT
        url = f"{visitor.url}/v1/answers/{collected['answer_id']}"
        async with visitor.http.get(url, headers=visitor.headers | {"Accept": "text/event-stream"}) as response:
            assert text_of(parse_sse(await response.text())) == TEXT
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            await socket.send_json({"type": "message", "message": TEXT})
            text = ""
            while (frame := await socket.receive_json(timeout=10))["type"] != "done":
                text += frame.get("text", "")
        assert text == TEXT
    nothing_personal(hook)


async def test_another_session_reads_the_placeholder_as_it_is() -> None:
    async with (
        webhook(lambda _: stream("yours is [EMA", "IL_1], and [CARD_1]")) as hook,
        sidegate(n8n(hook)) as visitor,
    ):
        await visitor.session()
        assert text_of(await visitor.events(TEXT)) == f"yours is {MAIL}, and {CARD}"
        await visitor.session()
        for question in ("what is mine?", "what is [EMAIL_1]?"):
            assert text_of(await visitor.events(question)) == "yours is [EMAIL_1], and [CARD_1]"


async def test_what_a_tool_knows_of_the_visitor_is_masked_unless_the_visitor_said_it() -> None:
    async with (
        webhook(lambda _: stream(f"sent to {MAIL} ", "and eve@shop.org")) as hook,
        sidegate(n8n(hook)) as visitor,
    ):
        await visitor.session()
        assert MAIL not in text_of(await visitor.events("hello"))
        await visitor.events(TEXT)
        later = text_of(await visitor.events("hello"))
        assert later.startswith(f"sent to {MAIL} and ")
        assert "eve@shop.org" not in later


async def test_a_placeholder_that_the_visitor_types_comes_back_as_typed() -> None:
    async with webhook(parrot) as hook, sidegate(n8n(hook)) as visitor:
        await visitor.session()
        await visitor.events(TEXT)
        assert text_of(await visitor.events("what is [EMAIL_1]?")) == "what is [EMAIL_1]?"


async def test_the_context_is_masked_and_the_token_says_how_much() -> None:
    async with webhook(parrot) as hook, sidegate(n8n(hook)) as visitor:
        await visitor.session()
        await visitor.events(TEXT, context={"customer": {"mail": MAIL, "card": int(CARD.replace(" ", ""))}})
    (asked,) = hook.asked
    assert asked.json["metadata"]["context"] == {"customer": {"mail": "[EMAIL_1]", "card": "[CARD_1]"}}  # type: ignore[index]  # JSON
    token = asked.headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, JWT_KEY, algorithms=["HS256"], audience="n8n")
    assert claims["verdict"]["masked"] == {"email": 2, "card": 2}
    nothing_personal(hook)


async def test_what_only_the_name_of_a_field_gives_away_is_masked_too() -> None:
    context = {"customer": {"phone": 5551234, "password": "hunter2x", "account": 4711}}
    async with webhook(parrot) as hook, sidegate(n8n(hook)) as visitor:
        await visitor.session()
        await visitor.events("hello", context=context)
    expected = {"customer": {"phone": "[PHONE_1]", "password": "[SECRET_1]", "account": 4711}}
    assert hook.asked[0].json["metadata"]["context"] == expected  # type: ignore[index]  # JSON


async def test_no_value_is_logged_whatever_becomes_of_its_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def failing(asked: Asked) -> Script:
        report = orjson.dumps({"message": f"no {MAIL}"})
        return [Step(HEAD + chunk(item(MAIL))), Step()] if b"cut" in asked.body else plain(report, "500 Oops")

    async with webhook(failing) as hook, sidegate(n8n(hook)) as visitor:
        await visitor.session()
        assert (await visitor.events(f"cut {TEXT}"))[-1].name == "error"
        for text in (TEXT, f"<script>alert('{TEXT}')</script>", f"{TEXT} {'x' * 2000}"):
            _, problem = await visitor.problem(text, context={MAIL: CARD})
            assert not any(word in str(problem) for word in ("ann@", "8689"))
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            told = await response.text()
    told += caplog.text + str([vars(record) for record in caplog.records])
    assert "upstream_error" in told
    assert not any(word in told for word in ("ann@", "8689"))


async def test_a_mask_is_for_good_and_off_is_off() -> None:
    pii = {"mode": "mask", "kinds": ["email"]}
    async with webhook(parrot) as hook, sidegate(n8n(hook), content={"pii": pii}) as visitor:
        await visitor.session()
        assert text_of(await visitor.events(TEXT)) == f"I am [EMAIL], charge {CARD}"
    async with webhook(parrot) as hook, sidegate(n8n(hook), content={"pii": {"mode": "off"}}) as visitor:
        await visitor.session()
        assert text_of(await visitor.events(TEXT)) == TEXT
        assert hook.asked[0].json["chatInput"] == TEXT


async def test_a_message_that_is_sent_again_joins_its_answer() -> None:
    async with webhook(parrot) as hook, sidegate(n8n(hook)) as visitor:
        await visitor.session()
        key = {"Idempotency-Key": "k1"}
        first: list[Event] = await visitor.events(TEXT, headers=key)
        assert await visitor.events(TEXT, headers=key) == first
        assert (await visitor.problem(TEXT.replace("ann", "eve"), headers=key))[0] == 409
    assert len(hook.asked) == 1


async def test_a_push_is_restored_for_its_session(tmp_path: Path) -> None:
    async with webhook(parrot) as hook, sidegate(n8n(hook), ops=ops(tmp_path)) as visitor:
        to = owned(await visitor.session())
        await visitor.events(TEXT)
        stranger = Visitor(visitor.http, visitor.url, visitor.ops_url, visitor.live)
        other = owned(await stranger.session())
        for each, address, expected in ((visitor, to, MAIL), (stranger, other, "[EMAIL_1]")):
            await push(each, address, "sent to [EMAIL_1]", data={"to": "[EMAIL_1]"})
            async with listening(each) as channel:
                event = (await channel.take(2 if each is visitor else 1))[-1]  # behind the answer's own
            assert (event.fields["text"], event.fields["data"]) == (f"sent to {expected}", {"to": expected})


async def test_replicas_share_placeholders_and_redis_shows_no_value() -> None:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        hook = await stack.enter_async_context(webhook(parrot))
        store = {"url": redis.url}
        one, two = [await stack.enter_async_context(sidegate(n8n(hook), store=store)) for _ in range(2)]
        await one.session()
        two.headers = dict(one.headers)
        assert text_of(await one.events(TEXT)) == TEXT
        assert text_of(await two.events(f"bob@shop.org or {MAIL}?")) == f"bob@shop.org or {MAIL}?"
        assert hook.asked[1].json["chatInput"] == "[EMAIL_2] or [EMAIL_1]?"
        everything = b"".join(part for part in await dump(redis) if isinstance(part, bytes))
        assert b":vault" in everything
        assert all(word.encode() not in everything for word in (MAIL, CARD, "bob@shop.org", "EMAIL"))


async def test_when_a_visitor_ends_the_session_redis_keeps_nothing_of_it() -> None:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        hook = await stack.enter_async_context(webhook(parrot))
        visitor = await stack.enter_async_context(sidegate(n8n(hook), store={"url": redis.url}))
        await visitor.session()
        await visitor.events(TEXT)
        assert ":vault" in str(await dump(redis))
        async with visitor.http.delete(f"{visitor.url}/v1/session", headers=visitor.headers) as response:
            assert response.status == 204
        assert ":vault" not in str(await dump(redis))


async def test_without_redis_the_workflow_gets_a_mask_and_nothing_comes_back() -> None:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        hook = await stack.enter_async_context(webhook(parrot))
        visitor = await stack.enter_async_context(sidegate(n8n(hook), store={"url": redis.url}))
        await visitor.session()
        redis.kill()
        assert text_of(await visitor.events(TEXT)) == "I am [EMAIL], charge [CARD]"
        nothing_personal(hook)


@pytest.mark.parametrize("text", ["Where is my order 4711?", "What does `[i]` mean in x[i]?", "call me at 9 or 10"])
async def test_a_text_without_any_goes_through_as_it_came(text: str) -> None:
    async with webhook(parrot) as hook, sidegate(n8n(hook)) as visitor:
        await visitor.session()
        assert text_of(await visitor.events(text)) == text
        assert hook.asked[0].json["chatInput"] == text
