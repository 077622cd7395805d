"""Two visitors of one workflow with a memory: what one can do about the other's, through Sidegate and without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.n8n import relay
from tests.n8n.fake_llm import FakeLlm
from tests.n8n.n8n import N8n
from tests.n8n.sidegate import sidegate
from tests.n8n.tap import Tap

pytestmark = pytest.mark.n8n

SECRET, LIE = "My name is Ada", "My name is Mallory"


def prompts(llm: FakeLlm) -> list[list[Any]]:
    """What the model was told by users, memory included, in each request."""
    return [[m.get("content") for m in seen.messages if m.get("role") == "user"] for seen in llm.seen]


def attempts(session: str) -> list[dict[str, Any]]:
    """Every place in which somebody who knows the other's session id could write it."""
    return [
        {"fields": {"sessionId": session}},
        {"fields": {"sessionId": session, "action": "loadPreviousSession", "chatInput": "Who am I?"}},
        {"fields": {"session_id": session, "sub": session, "session": {"id": session}}},
        {"fields": {"context": {"sessionId": session}, "metadata": {"sessionId": session}}},
        {"fields": {"body": {"sessionId": session}, "__proto__": {"sessionId": session}}},
        {"headers": {"X-Session-Id": session, "sessionId": session, "Cookie": f"sessionId={session}"}},
        {"headers": {"X-Sidegate-Conversation": session}},
        {"query": f"?sessionId={session}&session_id={session}"},
    ]


async def test_through_sidegate_nobody_reads_or_writes_anothers_memory_even_with_its_id(
    n8n: N8n, llm: FakeLlm, tmp_path: Path
) -> None:
    async with (
        Tap(n8n.port) as tap,
        sidegate(tap.webhook("remembering"), tmp_path) as server,
        server.browser() as ada,
        server.browser() as mallory,
    ):
        await ada.ask(SECRET)
        theirs = json.loads(tap.passed[-1].sent.partition(b"\r\n\r\n")[2])["sessionId"]
        for attempt in attempts(theirs):
            answer = await mallory.ask(LIE, **attempt)
            assert answer.status == 200, answer.raw
        await ada.ask("Who am I?")
    first, *hers, last = prompts(llm)
    assert first == [SECRET]
    assert len(hers) == len(attempts(theirs))
    assert SECRET not in str(hers)
    assert last == [SECRET, "Who am I?"]


async def test_without_it_everybody_reads_and_writes_everybodys(n8n: N8n, llm: FakeLlm) -> None:
    """What n8n alone does with the same workflow: this is what Sidegate is for."""
    url = n8n.webhook("remembering")
    for text in (SECRET, LIE, "Who am I?"):
        await relay.post(url, relay.body(text, "ada-s-session"), None)
    assert prompts(llm) == [[SECRET], [SECRET, LIE], [SECRET, LIE, "Who am I?"]]
