"""OpenAI's own Python client, unchanged: only base_url and api_key are ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.clients.world import API_KEY, ENDINGS, completions
from tests.upstreams import HEAD, Script, Step, chunk, item, plain, stream


@asynccontextmanager
async def client(script: Script, **sections: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """Any: configuration as written."""
    async with (
        completions(script, **sections) as (url, _),
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=API_KEY) as found,
    ):
        yield found


async def ask(found: openai.AsyncOpenAI, text: str = "hello") -> str:
    answer = await found.chat.completions.create(model="shop", messages=[{"role": "user", "content": text}])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    return answer.choices[0].message.content or ""


async def test_a_plain_call_returns_the_answer() -> None:
    async with client(stream("Good ", "day")) as found:
        assert await ask(found) == "Good day"


async def test_a_stream_comes_in_pieces_with_its_usage() -> None:
    async with client(stream("Good ", "day")) as found:
        chunks = [
            piece
            async for piece in await found.chat.completions.create(
                model="shop",
                messages=[{"role": "user", "content": "hello"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
        assert "".join(piece.choices[0].delta.content or "" for piece in chunks if piece.choices) == "Good day"
        assert [piece.choices[0].finish_reason for piece in chunks if piece.choices][-1] == "stop"
        assert chunks[-1].usage is not None


@pytest.mark.parametrize("ending", ENDINGS)
async def test_how_an_answer_ended_is_its_finish_reason_with_usage_in_every_stream(ending: str) -> None:
    kind, script, sections, text, finish = ENDINGS[ending]
    async with (
        completions(script, kind, **sections) as (url, _),
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=API_KEY) as found,
    ):
        question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
        answer = await found.chat.completions.create(model="shop", messages=question)
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (text, finish)
        pieces = [
            piece
            async for piece in await found.chat.completions.create(
                model="shop", messages=question, stream=True, stream_options={"include_usage": True}
            )
        ]
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == text
        assert [piece.choices[0].finish_reason for piece in pieces if piece.choices][-1] == finish
        (usage,) = [piece.usage for piece in pieces if piece.usage]
        assert pieces[-1].usage == usage == answer.usage
        assert usage.completion_tokens == (7 if kind == "openai" else -(-len(text) // 4))
        without = await found.chat.completions.create(model="shop", messages=question, stream=True)
        assert [piece.usage async for piece in without if piece.usage] == []


async def test_the_helper_for_streams_puts_the_completion_together() -> None:
    async with client(stream("Good ", "day")) as found:
        async with found.chat.completions.stream(
            model="shop", messages=[{"role": "user", "content": "hello"}]
        ) as events:
            final = await events.get_final_completion()
        assert final.choices[0].message.content == "Good day"


async def test_models_are_listed_and_found() -> None:
    async with client(stream("x")) as found:
        assert [model.id async for model in found.models.list()] == ["shop"]
        assert (await found.models.retrieve("shop")).id == "shop"


async def test_refusals_are_its_own_exceptions() -> None:
    async with client(stream("x"), limits=[{"per": "api_key", "limit": 1, "window": 3600}]) as found:
        with pytest.raises(openai.AuthenticationError):
            await ask(found.with_options(api_key="nobodys"))
        with pytest.raises(openai.NotFoundError):
            await found.models.retrieve("gpt")
        await ask(found)
        with pytest.raises(openai.RateLimitError) as caught:
            await ask(found.with_options(max_retries=0))
        assert caught.value.code == "rate_limited"
        assert caught.value.request_id


async def test_a_workflow_that_failed_is_not_run_again() -> None:
    async with completions(plain(b"{}", "500 Internal Server Error")) as (url, hook):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=API_KEY) as found:
            with pytest.raises(openai.InternalServerError):
                await ask(found)
        assert len(hook.asked) == 1


async def test_an_answer_that_breaks_off_raises_in_its_stream() -> None:
    async with client([Step(HEAD + chunk(item("Good "))), Step()]) as found:
        pieces = await found.chat.completions.create(
            model="shop", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        with pytest.raises(openai.APIError, match="failed to answer"):
            async for _ in pieces:
                pass
