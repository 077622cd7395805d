"""The widget of one script tag in a real Chromium, in front of a real n8n: words and files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.async_api import FilePayload, async_playwright, expect

from tests import forms
from tests.n8n.n8n import N8n
from tests.n8n.shop import CHROME, FLAGS
from tests.n8n.sidegate import ORIGIN, sidegate

pytestmark = [pytest.mark.n8n, pytest.mark.browser]

PAGE = (
    '<!doctype html><title>Shop</title><script src="{url}/widget.js" data-uploads="on" data-transport="{how}"></script>'
)


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_files_reach_the_workflow_and_its_answer_the_visitor(n8n: N8n, tmp_path: Path, transport: str) -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    async with async_playwright() as playwright, sidegate(n8n.webhook("files"), tmp_path) as server:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = await browser.new_page(user_agent=CHROME.format(140))
        html = PAGE.format(url=server.url, how=transport)
        await page.route(f"{ORIGIN}/", lambda route: route.fulfill(body=html, content_type="text/html"))
        await page.goto(f"{ORIGIN}/")
        part = 'sidegate-chat [part="{}"]'.format
        await page.locator(part("launcher")).click()
        async with page.expect_file_chooser() as chooser:
            await page.locator(part("attach")).click()
        notes = FilePayload(name="Grüße.txt", mimeType="text/plain", buffer=b"x" * 200_000)
        picture = FilePayload(name="a.png", mimeType="image/png", buffer=forms.png())
        await (await chooser.value).set_files([notes, picture])
        await expect(page.locator(part("files")).locator("li")).to_have_count(2)
        await page.locator(part("message")).fill("Look")
        await page.locator(part("message")).press("Enter")
        answer = page.locator(part("answer")).last
        await expect(answer).to_contain_text("Look Grüße.txt text/plain 200 kB a.png image/png", timeout=30_000)
        await browser.close()
