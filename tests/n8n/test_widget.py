"""The real @n8n/chat in a real Chromium in front of a real n8n: only its webhookUrl is Sidegate's."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.n8n.fake_llm import FakeLlm, Plan
from tests.n8n.n8n import N8n
from tests.n8n.shop import ask, id_of, shop, shows

pytestmark = [pytest.mark.n8n, pytest.mark.browser, pytest.mark.npm]

ANSWER = "".join(Plan().tokens)


@pytest.mark.parametrize("streaming", [True, False])
async def test_by_its_url_alone_it_chats_and_shows_the_conversation_again(
    n8n: N8n, llm: FakeLlm, tmp_path: Path, streaming: bool
) -> None:
    async with shop(n8n, tmp_path) as page_of, page_of.visit(streaming=streaming) as page:
        await ask(page, "My name is Ada, ada@acme.test")
        await shows(page, ANSWER)
        visitor = await id_of(page)
        await page.reload()
        await shows(page, "My name is Ada, ada@acme.test", ANSWER)
        await ask(page, "Who am I?")
        await expect(page.locator(".chat-message", has_text=ANSWER)).to_have_count(2, timeout=30_000)
        assert [seen.prompt for seen in llm.seen] == ["My name is Ada, [EMAIL_1]", "Who am I?"]
        async with page_of.visit(streaming=streaming, version=139, visitor=visitor) as other:
            await ask(other, "Who am I?")
            await shows(other, ANSWER)
            assert await id_of(other) == visitor
            assert "Ada" not in await other.locator("body").inner_text()
        assert "Ada" not in str(llm.seen[-1].messages)


async def test_on_the_same_origin_a_browser_of_the_same_kind_gets_no_history(
    n8n: N8n, llm: FakeLlm, tmp_path: Path
) -> None:
    async with shop(n8n, tmp_path) as page_of:
        here = f"{page_of.server.url}/their/page"
        async with page_of.visit(url=here) as page:
            await ask(page, "My name is Ada")
            await shows(page, ANSWER)
            visitor = await id_of(page)
            await page.reload()
            await shows(page, "My name is Ada")
            async with page_of.visit(url=here, visitor=visitor) as other:
                await ask(other, "Who am I?")
                await shows(other, ANSWER)
                assert "Ada" not in await other.locator("body").inner_text()
        assert "Ada" not in str(llm.seen[-1].messages)


@pytest.mark.parametrize("streaming", [True, False])
async def test_it_talks_to_the_shipped_workflow_whose_webhook_wants_our_token(
    n8n: N8n, llm: FakeLlm, tmp_path: Path, streaming: bool
) -> None:
    async with (
        shop(n8n, tmp_path, "sidegate-chat", AUTH="jwt") as page_of,
        page_of.visit(streaming=streaming) as page,
    ):
        await ask(page, "Where is my parcel?")
        await shows(page, ANSWER)
        assert [seen.prompt for seen in llm.seen] == ["Where is my parcel?"]
        await page.reload()
        await expect(page.locator('[data-test-id="chat-input"]')).to_be_visible(timeout=30_000)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_refusal_is_a_sentence_in_the_conversation(
    n8n: N8n, llm: FakeLlm, tmp_path: Path, streaming: bool
) -> None:
    async with shop(n8n, tmp_path) as page_of, page_of.visit(streaming=streaming) as page:
        await ask(page, "<script>alert(document.cookie)</script>")
        await shows(page, "That message can't be sent.")
        assert llm.seen == []
