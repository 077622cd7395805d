"""The echo says back what it heard, word by word."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstream import build
from proxy.upstream.echo import Echo, EchoSettings
from tests.clients import request
from tests.upstream.script import LoopClock, owned


async def words(echo: EchoSettings, text: str) -> list[str]:
    async with build(echo, owned) as upstream:
        who = request(text)
        async with upstream.open(who, upstream.encode(who), "token") as pieces:
            return [piece async for piece in pieces]


async def test_it_answers_word_by_word() -> None:
    assert await words(EchoSettings(kind="echo", delay=0), "hello  there\n") == ["You ", "said: ", "hello  ", "there\n"]


async def test_the_reply_is_a_template_for_the_message_alone() -> None:
    echo = EchoSettings(kind="echo", delay=0, reply="{text}, {text} {0}")
    assert "".join(await words(echo, "{text!r}")) == "{text!r}, {text!r} {0}"


@settings(deadline=None)
@given(st.text(max_size=30))
def test_nothing_of_the_text_is_lost(text: str) -> None:
    assert "".join(asyncio.run(words(EchoSettings(kind="echo", delay=0), text))) == f"You said: {text}"


async def test_it_pauses_between_words_and_not_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock(monkeypatch)
    echo, who = Echo(EchoSettings(kind="echo", delay=60), owned), request("hello")
    async with echo.open(who, echo.encode(who), "token") as pieces:
        assert await anext(pieces) == "You "
        clock.advance_soon(60)
        assert await anext(pieces) == "said: "
