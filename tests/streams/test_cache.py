"""The response cache: whose questions are answered from it, what is never kept, and what it costs the upstream."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from proxy.errors import ClientGone, ProxyError, UpstreamError
from proxy.model import Message, Request, Verdict
from proxy.streams.cache import MAX_CHARS, Cache, CacheSettings
from tests.clients import Clock, request
from tests.sidegate import ORIGIN, Visitor, sidegate, text_of
from tests.upstreams import BEGIN, HEAD, Asked, Script, Step, Webhook, chunk, item, plain, stream, webhook


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.text = ""
        self.ends: list[str] = []

    def admit(self, request: Request) -> None:
        self.ends.append("admitted")

    async def start(self) -> None:
        self.ends.append("start")

    async def send(self, text: str) -> None:
        self.text += text

    async def done(self) -> None:
        self.ends.append("done")

    async def fail(self, error: ProxyError) -> None:
        self.ends.append(error.code)


async def always(request: Request) -> bool:
    return True


def made(clock: Clock | None = None, **settings: float) -> Cache:
    return Cache(
        CacheSettings.model_validate(settings), always, lambda text: bool(re.search(r"\d{3}", text)), clock or Clock()
    )


async def keep(cache: Cache, question: Request, *pieces: str) -> None:
    sink = cache.recorder(question, Heard())
    sink.admit(question)
    await sink.start()
    for piece in pieces:
        await sink.send(piece)
    await sink.done()


async def found(cache: Cache, question: Request) -> str | None:
    sink = Heard()
    if not await cache.answer(question, sink):
        assert sink.ends == []
        return None
    assert sink.ends == ["start", "done"]
    return sink.text


@pytest.mark.parametrize("again", ["opening hours?", "  Opening \n HOURS?", "\uff4fpening hours?"])
async def test_the_same_question_gets_the_whole_answer_again(again: str) -> None:
    cache = made()
    await keep(cache, request("opening hours?"), "From nine ", "to five.")
    assert await found(cache, request(again)) == "From nine to five."


@pytest.mark.parametrize("other", ["opening hour?", "opening hours", "opening  hours? today"])
async def test_another_question_does_not(other: str) -> None:
    cache = made()
    await keep(cache, request("opening hours?"), "From nine to five.")
    assert await found(cache, request(other)) is None


async def test_the_context_is_a_part_of_the_question() -> None:
    cache = made()
    here = replace(request(), message=Message("price?", {"page": "/tea", "lang": "en"}))
    await keep(cache, here, "Four.")
    assert await found(cache, replace(here, message=Message("price?", {"lang": "en", "page": "/tea"}))) == "Four."
    assert await found(cache, replace(here, message=Message("price?", {"page": "/cake", "lang": "en"}))) is None


async def test_an_answer_has_its_time() -> None:
    clock = Clock()
    cache = made(clock, ttl=60)
    await keep(cache, request(), "hi")
    clock.advance(59.9)
    assert await found(cache, request()) == "hi"
    clock.advance(0.1)
    assert await found(cache, request()) is None


async def test_the_least_recently_used_answer_goes_first() -> None:
    cache = made(max_answers=2)
    await keep(cache, request("a"), "A")
    await keep(cache, request("b"), "B")
    assert await found(cache, request("a")) == "A"
    await keep(cache, request("c"), "C")
    assert [await found(cache, request(text)) for text in "abc"] == ["A", None, "C"]


@pytest.mark.parametrize("verdict", [Verdict(masked={"email": 1}), Verdict(flags=("spam",))])
async def test_a_masked_or_flagged_question_is_not_taken(verdict: Verdict) -> None:
    assert not await made().takes(replace(request(), verdict=verdict))


async def test_a_visitor_who_is_known_by_name_gets_an_answer_of_their_own() -> None:
    known = request("what's new?")
    assert not await made().takes(replace(known, session=replace(known.session, owner="jwt:idp#jane")))


async def test_personal_questions_and_answers_are_not_kept() -> None:
    cache = made()
    assert await cache.takes(request("where is my order?"))
    assert not await cache.takes(request("where is order 12345?"))
    assert not await cache.takes(replace(request("mine?"), message=Message("mine?", {"order": "12345"})))
    await keep(cache, request("where is my order?"), "Order 1", "23 is on its way.")
    assert await found(cache, request("where is my order?")) is None


@pytest.mark.parametrize("pieces", [(), ("x" * MAX_CHARS, "x")])
async def test_empty_and_long_answers_are_not_kept(pieces: tuple[str, ...]) -> None:
    cache = made()
    await keep(cache, request(), *pieces)
    assert await found(cache, request()) is None


async def test_a_broken_answer_is_not_kept() -> None:
    cache = made()
    heard = Heard()
    sink = cache.recorder(request(), heard)
    await sink.send("half of ")
    await sink.fail(UpstreamError("it broke off"))
    assert heard.ends == ["upstream_error"]
    assert await found(cache, request()) is None


async def test_a_client_that_leaves_before_the_end_spoils_nothing() -> None:
    class Gone(Heard):
        async def done(self) -> None:
            raise ClientGone

    cache = made()
    sink = cache.recorder(request(), Gone())
    await sink.send("all of it")
    with pytest.raises(ClientGone):
        await sink.done()
    assert await found(cache, request()) == "all of it"


@asynccontextmanager
async def shop(script: Script) -> AsyncIterator[tuple[Visitor, Webhook]]:
    async with (
        webhook(lambda asked: script) as hook,
        sidegate(
            {"kind": "n8n", "url": hook.url},
            sites={"shop": {"origins": [ORIGIN], "upstream": "support", "cache": {"ttl": 600}}},
            filters={"public": ["@mail.shop.test"]},
        ) as visitor,
    ):
        yield visitor, hook


async def asked(visitor: Visitor, text: str, **more: object) -> str:
    """A new session's question."""
    await visitor.session()
    return text_of(await visitor.events(text, **more))


async def avoided(visitor: Visitor) -> bool:
    async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
        return 'sidegate_executions_avoided_total{reason="cached"} 1.0' in await response.text()


async def test_two_visitors_with_one_question_cost_one_execution() -> None:
    async with shop(stream("From nine ", "to five.")) as (visitor, hook):
        assert await asked(visitor, "When are you open?") == "From nine to five."
        assert not await avoided(visitor)
        assert await asked(visitor, "when are you  open?") == "From nine to five."
        assert len(hook.asked) == 1
        assert await avoided(visitor)


async def test_what_follows_in_a_conversation_is_asked_anew() -> None:
    async with shop(stream("Yes.")) as (visitor, hook):
        await asked(visitor, "and you?")
        assert text_of(await visitor.events("and you?")) == "Yes."
        assert len(hook.asked) == 2
        await visitor.session()
        await visitor.events("good morning")
        await visitor.events("and you?")  # a second message neither takes from the cache nor feeds it
        assert len(hook.asked) == 4


async def test_a_question_with_an_address_is_never_answered_from_the_cache() -> None:
    async with shop(stream("I wrote to you.")) as (visitor, hook):
        for _ in range(2):
            await asked(visitor, "please write to jane.roe@mail.shop.test")
        assert len(hook.asked) == 2


async def test_an_answer_with_an_address_is_never_kept() -> None:
    async with shop(stream("Ask jane.roe", "@mail.shop.test")) as (visitor, hook):
        for _ in range(2):
            await asked(visitor, "whom can I ask?")
        assert len(hook.asked) == 2


async def test_an_answer_that_broke_off_is_asked_for_again() -> None:
    def script(asked: Asked) -> Script:
        return [Step(HEAD + chunk(BEGIN) + chunk(item("half"))), Step(b"")]

    async with webhook(script) as hook, sidegate(
        {"kind": "n8n", "url": hook.url},
        sites={"shop": {"origins": [ORIGIN], "upstream": "support", "cache": {}}},
    ) as visitor:  # fmt: skip
        for _ in range(2):
            await visitor.session()
            assert (await visitor.events("hello"))[-1].name == "error"
        assert len(hook.asked) == 2


async def test_without_the_setting_every_question_is_asked() -> None:
    async with (
        webhook(lambda _: plain(b'{"output": "hi"}')) as hook,
        sidegate({"kind": "n8n", "url": hook.url}) as visitor,
    ):
        for _ in range(2):
            assert await asked(visitor, "hello") == "hi"
        assert len(hook.asked) == 2
