"""The real @n8n/chat looks through Sidegate as it does in front of n8n itself, picture by picture."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route

from tests import forms
from tests.browser.pictures import Difference, difference, take
from tests.n8n.fake_llm import FakeLlm, Plan
from tests.n8n.n8n import N8n
from tests.n8n.shop import ask, attach, payload, shop, shows

pytestmark = [pytest.mark.n8n, pytest.mark.browser, pytest.mark.npm]

ANSWER = ("Words in **bold**, ", "and `code`.\n\n", "1. One\n2. Two\n\n", "```\nand more of it\n```\n")
REFUSED = "<script>alert(document.cookie)</script>"
SENTENCE = "That message can't be sent."


# How far it scrolls by itself hangs on how the pieces of an answer came.
SCROLL = "document.querySelectorAll('*').forEach((node) => { node.scrollTop = node.scrollHeight; })"


async def same(browser: Browser, expected: Page, found: Page) -> Difference:
    """Of two pages that may still be busy: their difference, once there is none, or at last."""
    async with asyncio.timeout(60):
        for _ in range(20):
            for page in (expected, found):
                await page.evaluate(SCROLL)
            seen = await difference(browser, await take(expected), await take(found))
            if not seen.shows:
                break
            await asyncio.sleep(0.1)
        return seen


@pytest.mark.parametrize(("width", "height"), [(800, 600), (320, 568)])
async def test_a_conversation_with_a_file_and_its_history_look_the_same(
    n8n: N8n, llm: FakeLlm, tmp_path: Path, width: int, height: int
) -> None:
    llm.plan = Plan(tokens=ANSWER)
    async with (
        shop(n8n, tmp_path) as page_of,
        page_of.visit(width=width, height=height, allowFileUploads=True) as guarded,
        page_of.visit(
            width=width, height=height, allowFileUploads=True, webhookUrl=n8n.webhook("chatting/chat")
        ) as direct,
    ):
        for page in (guarded, direct):
            await attach(page, payload("a.png", "image/png", forms.png()))
            await ask(page, "What is there?")
            await shows(page, "and more of it")
        talk = await same(page_of.browser, direct, guarded)
        for page in (guarded, direct):
            await page.reload()
            await shows(page, "and more of it")
        history = await same(page_of.browser, direct, guarded)
    assert (talk.shows, history.shows) == (False, False), (talk.place, history.place)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_refusal_looks_like_an_answer_that_says_so(n8n: N8n, tmp_path: Path, streaming: bool) -> None:
    async def answer(route: Route) -> None:
        """As a chat trigger would."""
        asked = json.loads(route.request.post_data or "{}")
        item: dict[str, object] = {"type": "error", "content": SENTENCE} if streaming else {"output": SENTENCE}
        said: dict[str, object] = {"data": []} if asked["action"] == "loadPreviousSession" else item
        await route.fulfill(body=json.dumps(said) + "\n", headers={"Access-Control-Allow-Origin": "*"})

    url = "http://n8n.test/webhook/id/chat"
    async with (
        shop(n8n, tmp_path) as page_of,
        page_of.visit(width=320, height=568, streaming=streaming) as guarded,
        page_of.visit(width=320, height=568, streaming=streaming, webhookUrl=url) as direct,
    ):
        await direct.route(url, answer)
        await direct.reload()
        for page in (guarded, direct):
            await ask(page, REFUSED)
            await shows(page, SENTENCE)
        seen = await same(page_of.browser, direct, guarded)
    assert not seen.shows, seen.place
