"""The real @n8n/chat uploads through Sidegate to a real n8n: what arrives, and what a visitor sees of a refusal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests import forms
from tests.n8n.fake_llm import FakeLlm, Plan
from tests.n8n.n8n import N8n
from tests.n8n.shop import ask, attach, payload, shop, shows

pytestmark = [pytest.mark.n8n, pytest.mark.browser, pytest.mark.npm]

ANSWER = "".join(Plan().tokens)
NOTES = "Größe: 42\n".encode() * 9000  # more than one read
PICTURE = forms.png()


@pytest.mark.parametrize("streaming", [True, False])
async def test_by_its_url_alone_files_reach_the_workflow_byte_by_byte(
    n8n: N8n, tmp_path: Path, streaming: bool
) -> None:
    async with (
        shop(n8n, tmp_path, "attaching/chat", AUTH="none") as page_of,
        page_of.visit(streaming=streaming, allowFileUploads=True) as page,
    ):
        await attach(page, payload("Maße.txt", "text/plain", NOTES), payload("a.png", "image/png", PICTURE))
        await ask(page, "Look")
        await shows(page, "Look data0 ")
        shown = await page.locator(".chat-message", has_text="Look data0 ").inner_text()
        notes, picture = (hashlib.sha256(content).hexdigest() for content in (NOTES, PICTURE))
        assert shown.strip() in (  # n8n numbers them as it is done with writing them
            f"Look data0 Maße.txt text/plain data1 a.png image/png {notes} {picture}",
            f"Look data0 a.png image/png data1 Maße.txt text/plain {picture} {notes}",
        )


async def test_an_agent_reads_the_text_and_streams_its_answer(n8n: N8n, llm: FakeLlm, tmp_path: Path) -> None:
    async with shop(n8n, tmp_path) as page_of, page_of.visit(allowFileUploads=True) as page:
        await attach(page, payload("order.txt", "text/plain", b"42 green candles"))
        await ask(page, "What did I order?")
        await shows(page, ANSWER)
        assert "42 green candles" in str(llm.seen[-1].messages)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_refused_file_is_a_sentence_in_the_conversation_and_the_next_message_passes(
    n8n: N8n, llm: FakeLlm, tmp_path: Path, streaming: bool
) -> None:
    refused = [
        ("setup.exe", "application/octet-stream", b"MZ\x90\0", "This file can't be sent."),
        ("letter.docx", "application/msword", b"PK\3\4", "Files of this type can't be sent."),
        ("photo.png", "image/png", b"<svg onload=alert(1)>", "This file can't be sent."),
        ("empty.txt", "text/plain", b"", "This file is empty."),
        ("large.txt", "text/plain", b"much " * 2_400_000, "These files are too large."),
    ]
    async with shop(n8n, tmp_path) as page_of, page_of.visit(streaming=streaming, allowFileUploads=True) as page:
        for name, media, content, sentence in refused:
            await page.reload()
            await attach(page, payload(name, media, content))
            await ask(page, f"Here is {name}")
            await shows(page, sentence)
        assert llm.seen == []
        await ask(page, "Hello?")
        await shows(page, ANSWER)
