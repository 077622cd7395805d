"""The page's looks, without comparing pixels: nothing overflows, text can be read, themes differ."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, TypedDict

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.chat import Chat, visiting
from tests.browser.stub import Line, Stub, refuses, says

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

Scheme = Literal["light", "dark"]
schemes = pytest.mark.parametrize("scheme", ["light", "dark"])
# The last one is a window of 1280 x 800 at a zoom of 200 %.
sizes = pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 740), (320, 480), (640, 400)])

ANSWER = f"""Words in **bold**, and `code`.

1. One
2. Two
   - nested

```
{"a long line of code " * 20}
```

https://a.example/{"without_a_break" * 30}"""


class Picture(TypedDict):
    width: int
    height: int
    colours: int  # distinct ones
    light: float  # mean luminance, 0 to 255


LOOK = """async (data) => {
  const image = new Image();
  image.src = data;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  const colours = new Set();
  let light = 0;
  for (let i = 0; i < pixels.length; i += 4) {
    const [r, g, b] = [pixels[i], pixels[i + 1], pixels[i + 2]];
    colours.add((r << 16) | (g << 8) | b);
    light += 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  return { width: image.width, height: image.height, colours: colours.size, light: light / (pixels.length / 4) };
}"""


async def look(page: Page) -> Picture:
    shot = base64.b64encode(await page.screenshot()).decode()
    picture: Picture = await page.evaluate(LOOK, f"data:image/png;base64,{shot}")
    return picture


@asynccontextmanager
async def showing_everything(
    browser: Browser, stub: Stub, scheme: Scheme, width: int = 1280, height: int = 800
) -> AsyncIterator[Chat]:
    """An answer, an error, an answer that is being written, and a message that is too long."""
    gate = asyncio.Event()

    async def unfinished(line: Line) -> None:
        await line.say("The beginn")
        await gate.wait()

    stub.replies = [says(ANSWER), refuses(429, "rate_limited", "Too many messages.", 90), unfinished]
    async with visiting(browser, stub.url, scheme=scheme, width=width, height=height, touch=width < 400) as chat:
        await chat.ask("Show me " + "everything" * 30)
        await chat.has_state("done")
        await chat.ask("More")
        await chat.has_state("error")
        await chat.ask("And more")
        await expect(chat.text).to_have_text("The beginn")
        await chat.message.fill("x" * 2100)
        yield chat
        gate.set()


async def overflow(page: Page) -> int:
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@schemes
@sizes
async def test_an_answer_is_shown_in_the_theme_and_nothing_overflows(
    browser: Browser, stub: Stub, scheme: Scheme, width: int, height: int
) -> None:
    async with showing_everything(browser, stub, scheme, width, height) as chat:
        assert await overflow(chat.page) <= 0
        await expect(chat.text).to_be_in_viewport()
        for control in ("#message", "#stop"):
            await expect(chat.page.locator(control)).to_be_in_viewport(ratio=1)
        box = await chat.text.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        picture = await look(chat.page)
        assert (picture["width"], picture["height"]) == (width, height)
        assert picture["colours"] > 100
        assert picture["light"] > 200 if scheme == "light" else picture["light"] < 60


@schemes
@sizes
async def test_the_first_sight_is_not_blank_and_nothing_overflows(
    browser: Browser, stub: Stub, scheme: Scheme, width: int, height: int
) -> None:
    async with visiting(browser, stub.url, scheme=scheme, width=width, height=height) as chat:
        assert await overflow(chat.page) <= 0
        await expect(chat.page.locator("h1")).to_be_in_viewport()
        await expect(chat.message).to_be_in_viewport(ratio=1)
        picture = await look(chat.page)
        assert picture["colours"] > 100
        assert picture["light"] > 200 if scheme == "light" else picture["light"] < 60


# For each piece of text that shows: the contrast (WCAG 2.2, 1.4.3) with the first opaque background behind it.
CONTRASTS = """() => {
  const channel = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const parse = (css) => css.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ratio = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest('.unseen, script')) continue;
    found.push([walker.currentNode.data.trim().slice(0, 30), ratio(parse(getComputedStyle(node).color), behind(node))]);
  }
  const message = document.querySelector('#message');
  const placeholder = getComputedStyle(message, '::placeholder').color;
  found.push(['(placeholder)', ratio(parse(placeholder), behind(message))]);
  found.push(['(message)', ratio(parse(getComputedStyle(message).color), behind(message))]);
  return found;
}"""


@schemes
async def test_all_text_can_be_read(browser: Browser, stub: Stub, scheme: Scheme) -> None:
    async with showing_everything(browser, stub, scheme) as chat:
        found: list[tuple[str, float]] = await chat.page.evaluate(CONTRASTS)
        await chat.page.locator("#new").click()
        found += await chat.page.evaluate(CONTRASTS)
        texts = " ".join(text for text, _ in found)
        for expected in ("Too many messages.", "over the limit", "What would you like to know?", "Reference", "Copy"):
            assert expected in texts
        assert [(text, round(ratio, 2)) for text, ratio in found if ratio < 4.5] == []


TARGETS = """() => {
  const size = ({ width, height }) => Math.min(width, height);
  const shown = [...document.querySelectorAll('button, textarea')].filter((node) => node.checkVisibility());
  return shown.map((node) => [node.id || node.textContent, size(node.getBoundingClientRect())]);
}"""


@pytest.mark.parametrize(("width", "least"), [(1280, 24), (360, 44)])
async def test_what_can_be_pressed_is_large_enough(browser: Browser, stub: Stub, width: int, least: int) -> None:
    """WCAG 2.2, 2.5.8; with a finger 2.5.5. The message box is as high as its button."""
    async with showing_everything(browser, stub, "light", width, 740) as chat:
        found: list[tuple[str, float]] = await chat.page.evaluate(TARGETS)
        assert len(found) > 3
        assert [target for target in found if target[1] < least] == []


@pytest.mark.parametrize("calm", [False, True])
async def test_nothing_moves_for_those_who_asked_for_that(browser: Browser, stub: Stub, calm: bool) -> None:
    gate = asyncio.Event()

    async def unfinished(line: Line) -> None:
        await line.say("The beginn")
        await gate.wait()

    stub.replies = [unfinished]
    async with visiting(browser, stub.url, calm=calm) as chat:
        await chat.ask("Hello")
        await expect(chat.text).to_have_text("The beginn")
        moving = await chat.page.evaluate("document.getAnimations().filter((a) => a instanceof CSSAnimation).length")
        assert moving == (0 if calm else 2)
        gate.set()
