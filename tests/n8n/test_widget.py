"""The real @n8n/chat in a real Chromium in front of a real n8n: only its webhookUrl is Sidegate's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.n8n.fake_llm import FakeLlm, Plan
from tests.n8n.n8n import N8n
from tests.n8n.sidegate import Sidegate, sidegate

pytestmark = [pytest.mark.n8n, pytest.mark.browser, pytest.mark.npm]

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
WIDGET = CLIENTS.parents[1] / ".cache/clients/node_modules/@n8n/chat/dist"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
HTML = """<!doctype html><title>Shop</title><link rel="stylesheet" href="{assets}/style.css">
<script type="module">
import {{ createChat }} from "{assets}/chat.bundle.es.js";
createChat({{ webhookUrl: "{webhook}", mode: "fullscreen", enableStreaming: {streaming} }});
</script>"""
# Pages that are put in by the test have no address, and such pages must not reach this machine otherwise.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-features=LocalNetworkAccessChecks",
]
ANSWER = "".join(Plan().tokens)
VISITOR = "n8n-chat/sessionId"  # where the widget keeps the id that it made up


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    done = subprocess.run([CLIENTS / "install"], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr


@dataclass
class Shop:
    """A page of the customer's with the widget in it, on an origin of its own."""

    url: str
    server: Sidegate
    browser: Browser
    webhook: str

    def html(self, *, streaming: bool) -> str:
        return HTML.format(assets=self.url, webhook=self.webhook, streaming=str(streaming).lower())

    @asynccontextmanager
    async def visit(
        self, *, streaming: bool = True, version: int = 140, visitor: str = "", url: str = ""
    ) -> AsyncIterator[Page]:
        """A browser of its own; `visitor`: with somebody else's id; `url`: where the page is, if not on the shop's."""
        context = await self.browser.new_context(user_agent=CHROME.format(version))
        try:
            url = url or f"{self.url}/index"
            await context.route(
                url, lambda route: route.fulfill(body=self.html(streaming=streaming), content_type="text/html")
            )
            if visitor:
                await context.add_init_script(f"localStorage.setItem({VISITOR!r}, {visitor!r})")
            page = await context.new_page()
            await page.goto(url)
            yield page
        finally:
            await context.close()


@asynccontextmanager
async def shop(n8n: N8n, folder: Path, path: str = "chatting/chat", **upstream: str) -> AsyncIterator[Shop]:
    application = web.Application()
    application.router.add_static("/", WIDGET)

    async def anywhere(http: web.Request, response: web.StreamResponse) -> None:
        response.headers["Access-Control-Allow-Origin"] = "*"

    application.on_response_prepare.append(anywhere)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    upstream = upstream or {"AUTH": "none", "HISTORY": "true"}
    settings = {f"SIDEGATE__UPSTREAMS__DEFAULT__{name}": value for name, value in upstream.items()}
    settings |= {"ALLOWED_ORIGINS": origin, "SIDEGATE__SITES__DEFAULT__PAGE": "true"}
    try:
        async with (
            async_playwright() as playwright,
            sidegate(n8n.webhook(path), folder, **settings) as server,
        ):
            browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            yield Shop(origin, server, browser, f"{server.url}/chat/default")
            await browser.close()
    finally:
        await runner.cleanup()


async def ask(page: Page, text: str) -> None:
    field = page.locator('[data-test-id="chat-input"]')
    await expect(field).to_be_visible(timeout=30_000)
    await field.fill(text)
    await field.press("Enter")


async def shows(page: Page, *texts: str) -> None:
    """Each in a bubble of the conversation."""
    for text in texts:
        await expect(page.locator(".chat-message", has_text=text).first).to_be_visible(timeout=30_000)


async def id_of(page: Page) -> str:
    found: str = await page.evaluate(f"localStorage.getItem({VISITOR!r})")
    return found


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
