"""A shop's page, on an origin of its own, with the widget of a real Sidegate, reached by a line that can be cut."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from playwright.async_api import Browser, Locator, Page, expect

from proxy.guard.keys import hash_of, new_key
from tests.browser.chat import WATCH_CSP
from tests.sidegate import Visitor, sidegate
from tests.upstreams import Asked, Script, Webhook, stream, webhook

CSP = "default-src 'none'; script-src {sidegate}; connect-src {sidegate} {socket}; require-trusted-types-for 'script'"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Shop</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1>Shop</h1><p>Words of the shop.</p></main>{scripts}</body></html>"""
KEY = new_key("embed")


@dataclass
class Line:
    """TCP between the browser and Sidegate."""

    port: int = 0
    to: int = 0
    is_cut: bool = False  # connections end as soon as they begin
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        self.is_cut = True
        for writer in self.writers:
            writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self.to)
        self.writers |= {writer, forth}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copy(reader, forth))
                tasks.create_task(_copy(back, writer))
        finally:
            self.writers -= {writer, forth}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side's end, which the browser, Sidegate or `cut` bring about."""
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class Shop:
    """The shop's web server, and who stands behind its widget."""

    browser: Browser
    visitor: Visitor
    hook: Webhook
    line: Line
    url: str = ""
    has_policy: bool = True

    @property
    def widget(self) -> str:
        return f"http://127.0.0.1:{self.line.port}"

    async def page(self, request: web.Request) -> web.Response:
        """What the query says becomes the tag's attributes."""
        attributes = {"site": "shop", "embed-key": KEY, **request.query}
        tag = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in attributes.items())
        script = f'<script src="{self.widget}/widget.js" {tag} async></script>'
        policy = CSP.format(sidegate=self.widget, socket=self.widget.replace("http", "ws"))
        headers = {"Content-Security-Policy": policy} if self.has_policy else {}
        return web.Response(text=PAGE.format(scripts=script), content_type="text/html", headers=headers)


@dataclass
class Widget:
    """The widget as a visitor meets it."""

    page: Page
    shop: Shop
    errors: list[str] = field(default_factory=list)

    def part(self, name: str) -> Locator:
        return self.page.locator(f'sidegate-chat [part="{name}"]')

    @property
    def answer(self) -> Locator:
        return self.part("answer").last.locator(".text")

    @property
    def note(self) -> Locator:
        return self.page.locator("sidegate-chat .note")

    async def open(self) -> None:
        await self.part("launcher").click()

    async def ask(self, text: str) -> None:
        await self.part("message").fill(text)
        await self.part("message").press("Enter")

    async def idle(self) -> None:
        await expect(self.part("log")).to_have_attribute("aria-busy", "false")


def says(*texts: str) -> Callable[[Asked], Script]:
    return lambda _: stream(*texts)


@asynccontextmanager
async def shop(
    browser: Browser, script: Callable[[Asked], Script], *, has_policy: bool = True, **sections: Any
) -> AsyncIterator[Shop]:
    """`sections`: of the configuration, as written (so Any)."""
    line = Line()
    server = await asyncio.start_server(line.handle, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    app = web.Application()
    runner = web.AppRunner(app, access_log=None)
    async with webhook(script) as hook:
        place = Shop(browser, None, hook, line, has_policy=has_policy)  # type: ignore[arg-type]  # its visitor comes three lines below
        app.router.add_get("/", place.page)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        place.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        site = {
            "origins": [place.url],
            "upstream": "support",
            "auth": ["embed_key"],
            "embed_keys": [{"hash": hash_of(KEY)}],
        }
        try:
            async with sidegate({"kind": "n8n", "url": hook.url}, sites={"shop": site}, **sections) as visitor:
                place.visitor, line.to = visitor, int(visitor.url.rpartition(":")[2])
                yield place
        finally:
            line.cut()
            server.close()
            await runner.cleanup()


@asynccontextmanager
async def visiting(
    place: Shop,
    query: str = "",
    *,
    width: int = 1280,
    height: int = 800,
    scheme: Literal["light", "dark"] = "light",
    locale: str = "en-US",
    is_open: bool = True,
) -> AsyncIterator[Widget]:
    """Open the shop's page in a fresh profile. Leaving fails if something erred or broke the page's policy."""
    context = await place.browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale
    )
    context.set_default_timeout(30_000)
    try:
        page = await context.new_page()
        widget = Widget(page, place)
        page.on("pageerror", lambda error: widget.errors.append(str(error)))
        page.on(
            "console",
            lambda message: widget.errors.append(message.text) if message.text.startswith("violation") else None,
        )
        await page.add_init_script(WATCH_CSP)
        await page.goto(f"{place.url}/?{query}")
        if is_open:
            await widget.open()
        yield widget
        assert widget.errors == []
    finally:
        await context.close()
