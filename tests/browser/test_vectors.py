"""Hostile answers in a real Chromium, in a client that does the worst with them: the answer becomes innerHTML.

No script runs, no request leaves, and nothing is left that could do either once it is clicked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from playwright.async_api import Browser, Page, Request, Route

from proxy.filters import FilterSettings, chain_maker

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CORPORA = Path(os.environ.get("SIDEGATE_CORPORA") or Path(__file__).parents[2] / ".." / "shared" / "corpora")
SETS = ("html_dompurify", "xss_libinjection", "xss_patt", "html_bleach", "resp_exfil", "resp_ansi", "resp_invisible")
BATCH = 100
PAGE_URL = "http://client.test/"
# What vectors call to show that they ran.
PAGE = """<!doctype html><meta charset=utf-8><title>client</title><body><script>
window.ran = [];
for (const name of ['alert', 'confirm', 'prompt', 'print', 'open', 'fetch'])
  window[name] = () => { ran.push(name); return 0; };
document.write = document.writeln = () => ran.push('write');
</script>"""
SHOW = """([texts, clicks]) => {
  const active = [];
  for (const text of texts) {
    const place = document.createElement('div');
    document.body.append(place);
    place.innerHTML = text;
    for (const element of place.querySelectorAll('*'))
      for (const {name, value} of element.attributes) if (value) active.push([text, name, value]);
  }
  for (const element of document.querySelectorAll('body div *')) {
    element.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
    if (clicks) element.click?.();
    element.focus?.();
  }
  return new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => resolve(active))));
}"""
# In code some tags stay, and inside of others' text a vector could hope to become one.
FRAMES = ("{}", "`{}`", "```\n{}\n```", "```html\n{}", "~~~\n{}", "- {}", "<{}", "<b{}", "`<b {}")


def vectors() -> Iterator[str]:
    assert CORPORA.is_dir(), f"No corpora in {CORPORA}: put them there, or set SIDEGATE_CORPORA to their folder."
    for name in SETS:
        for line in (CORPORA / f"{name}.jsonl").read_bytes().splitlines():
            yield json.loads(line)["text"]


def answers(texts: list[str], settings: FilterSettings) -> list[str]:
    """As they would leave if they came one character at a time."""
    make = chain_maker(settings)
    done = []
    for text in texts:
        chain = make()
        done.append("".join(map(chain.feed, text)) + chain.flush())
    return done


class Watched:
    """A page whose every request, dialog and navigation is known, and goes nowhere."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.left: list[str] = []
        self._is_open = False

    async def open(self) -> None:
        await self.page.route("**/*", self._answer)
        self.page.on("dialog", lambda dialog: self.left.append(f"dialog {dialog.type}"))
        self.page.on("request", self._note)
        await self.page.goto(PAGE_URL)
        self._is_open = True

    def _note(self, request: Request) -> None:
        if request.url != PAGE_URL or self._is_open:
            self.left.append(request.url)

    async def _answer(self, route: Route) -> None:
        if route.request.url == PAGE_URL:
            await route.fulfill(content_type="text/html", body=PAGE)
        else:
            await route.abort()

    async def show(self, texts: list[str], *, clicks: bool) -> list[list[str]]:
        active: list[list[str]] = await self.page.evaluate(SHOW, [texts, clicks])
        return active


async def shown(
    browser: Browser, texts: list[str], *, until: str = "true", clicks: bool = True
) -> tuple[list[list[str]], list[str]]:
    """Attributes that have a value, and what ran or left, once `until` is true in the page."""
    context = await browser.new_context()
    watched = Watched(await context.new_page())
    await watched.open()
    active: list[list[str]] = []
    for start in range(0, len(texts), BATCH):
        active += await watched.show(texts[start : start + BATCH], clicks=clicks)
    await watched.page.wait_for_function(until)
    ran: list[str] = await watched.page.evaluate("window.ran")
    await context.close()
    return active, watched.left + ran


async def test_the_page_that_watches_notices_what_is_not_filtered(browser: Browser) -> None:
    active, left = await shown(browser, ["<img src=http://evil.test/x onerror=alert(1)>"], until="ran.length > 0")
    assert [name for _, name, _ in active] == ["src", "onerror"]
    assert "http://evil.test/x" in left
    assert "alert" in left


@pytest.mark.parametrize("frame", FRAMES)
async def test_no_vector_runs_or_sends_anything(browser: Browser, frame: str) -> None:
    texts = answers([frame.replace("{}", text) for text in vectors()], FilterSettings(max_chars=1_000_000))
    assert await shown(browser, texts) == ([], [])


async def test_no_vector_runs_or_sends_anything_through_markdown(browser: Browser) -> None:
    """Rendered by CommonMark's rules, with HTML passed on."""
    render = MarkdownIt("commonmark", {"html": True}).enable("table").render
    texts = [render(text) for text in answers(list(vectors()), FilterSettings(max_chars=1_000_000))]
    active, left = await shown(browser, texts, clicks=False)
    assert left == []
    # Of a numbered list, of a code block's language, and of what looks like a call behind a backtick that stays open.
    assert {name for _, name, _ in active} <= {"start", "class", "href"}
    assert all(re.fullmatch(r"\w{1,20}", value) for _, name, value in active if name == "href")


async def test_no_vector_survives_where_tags_are_stripped(browser: Browser) -> None:
    texts = answers(list(vectors()), FilterSettings(markup="strip", max_chars=1_000_000))
    assert await shown(browser, texts) == ([], [])
