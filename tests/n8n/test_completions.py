"""OpenAI's own Python client in front of a real n8n."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from proxy.guard.keys import new_key
from tests.n8n.fake_llm import FakeLlm, Plan
from tests.n8n.n8n import N8n
from tests.n8n.sidegate import sidegate

pytestmark = pytest.mark.n8n

ANSWER = "".join(Plan().tokens)


async def test_it_asks_the_shipped_workflow_with_a_key_streaming_and_not(
    n8n: N8n, llm: FakeLlm, tmp_path: Path
) -> None:
    key = new_key("api")
    async with (
        sidegate(n8n.webhook("sidegate-chat"), tmp_path, API_KEYS=key) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key) as client,
    ):
        plain = await client.chat.completions.create(model="default", messages=[{"role": "user", "content": "Hello"}])
        pieces = await client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "Hello again"}], stream=True
        )
        text = "".join([piece.choices[0].delta.content or "" async for piece in pieces])
    assert plain.choices[0].message.content == ANSWER
    assert text == ANSWER
    assert [seen.prompt for seen in llm.seen] == ["Hello", "Hello again"]
