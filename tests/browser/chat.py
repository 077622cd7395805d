"""The page as a visitor meets it: what they can do, and what a test watches meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request, expect

WATCH_CSP = "addEventListener('securitypolicyviolation', (e) => console.error('violation', e.violatedDirective))"


@dataclass
class Chat:
    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)  # exceptions, violations of the policy, console errors
    refusals: list[str] = field(default_factory=list)  # what Chromium itself reports for a 4xx or a lost connection
    foreign: list[str] = field(default_factory=list)  # requests to anywhere else

    @property
    def message(self) -> Locator:
        return self.page.locator("#message")

    @property
    def answer(self) -> Locator:
        """The last answer."""
        return self.page.locator('[data-role="answer"]').last

    @property
    def text(self) -> Locator:
        return self.answer.locator('[data-role="text"]')

    @property
    def notice(self) -> Locator:
        return self.answer.locator('[data-role="notice"]')

    @property
    def retry(self) -> Locator:
        return self.answer.locator('[data-role="retry"]')

    async def ask(self, text: str) -> None:
        await self.message.fill(text)
        await self.message.press("Enter")

    async def has_state(self, state: Literal["streaming", "done", "error", "cut", "stopped"]) -> None:
        await expect(self.answer).to_have_attribute("data-state", state)

    def watch(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            (self.refusals if message.text.startswith("Failed to load resource") else self.errors).append(message.text)

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data" and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.foreign.append(request.url)


@asynccontextmanager
async def visiting(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    height: int = 800,
    scheme: Literal["light", "dark"] = "light",
    clock: bool = False,
    touch: bool = False,
    calm: bool = False,
) -> AsyncIterator[Chat]:
    """Open the page in a fresh profile. Leaving fails if the page erred, broke its policy or called out."""
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        has_touch=touch,
        is_mobile=touch,
        reduced_motion="reduce" if calm else "no-preference",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(30_000)
    try:
        page = await context.new_page()
        chat = Chat(page, url.rstrip("/"))
        chat.watch()
        await page.add_init_script(WATCH_CSP)
        if clock:
            await page.clock.install()
        await page.goto(url)
        yield chat
        assert chat.errors == []
        assert chat.foreign == []
    finally:
        await context.close()
