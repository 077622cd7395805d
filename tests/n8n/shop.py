"""The real @n8n/chat in a real Chromium: a page of a customer's, and what a visitor does and sees there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web
from playwright.async_api import Browser, FilePayload, Page, async_playwright, expect

from tests.n8n.n8n import N8n
from tests.n8n.sidegate import Sidegate, sidegate

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
WIDGET = CLIENTS.parents[1] / ".cache/clients/node_modules/@n8n/chat/dist"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
HTML = """<!doctype html><title>Shop</title><link rel="stylesheet" href="{assets}/style.css">
<script type="module">
import {{ createChat }} from "{assets}/chat.bundle.es.js";
createChat({options});
</script>"""
# Pages that are put in by the test have no address, and such pages must not reach this machine otherwise.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-features=LocalNetworkAccessChecks",
]
VISITOR = "n8n-chat/sessionId"  # where the widget keeps the id that it made up


@cache
def install() -> None:
    """The widget as npm has it, unless it is there."""
    done = subprocess.run([CLIENTS / "install"], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr


@dataclass
class Shop:
    """A page of the customer's with the widget in it, on an origin of its own."""

    url: str
    server: Sidegate
    browser: Browser
    webhook: str

    def html(self, **options: object) -> str:
        options = {"webhookUrl": self.webhook, "mode": "fullscreen"} | options
        return HTML.format(assets=self.url, options=json.dumps(options))

    @asynccontextmanager
    async def visit(
        self,
        *,
        streaming: bool = True,
        version: int = 140,
        visitor: str = "",
        url: str = "",
        width: int = 1280,
        height: int = 720,
        **options: object,
    ) -> AsyncIterator[Page]:
        """A browser of its own; `visitor`: with somebody else's id; `url`: where the page is, if not on the shop's;
        `options`: more of createChat's.
        """
        context = await self.browser.new_context(
            user_agent=CHROME.format(version), viewport={"width": width, "height": height}
        )
        try:
            url = url or f"{self.url}/index"
            html = self.html(enableStreaming=streaming, **options)
            await context.route(url, lambda route: route.fulfill(body=html, content_type="text/html"))
            if visitor:
                await context.add_init_script(f"localStorage.setItem({VISITOR!r}, {visitor!r})")
            page = await context.new_page()
            await page.goto(url)
            yield page
        finally:
            await context.close()


@asynccontextmanager
async def shop(n8n: N8n, folder: Path, path: str = "chatting/chat", **upstream: str) -> AsyncIterator[Shop]:
    install()
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


def payload(name: str, media: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": media, "buffer": content}


async def attach(page: Page, *files: FilePayload) -> None:
    button = page.locator('[data-test-id="chat-attach-file-button"]')
    await expect(button).to_be_visible(timeout=30_000)
    async with page.expect_file_chooser() as chooser:
        await button.click()
    await (await chooser.value).set_files(list(files))
