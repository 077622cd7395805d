"""The chat page and the widget look as they did when somebody last looked at them: see pictures.py.

Text is set in boxes (boxes.py), so that fonts don't count; what it says is tested elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import boxes
from tests.browser.chat import Chat
from tests.browser.chat import visiting as visiting_page
from tests.browser.conftest import chromium
from tests.browser.pictures import REFERENCES, difference, looks, take
from tests.browser.shop import Widget, says, shop
from tests.browser.shop import visiting as visiting_shop
from tests.browser.stub import Stub, refuses
from tests.browser.stub import says as replies
from tests.browser.test_uploads import NOTES, PICTURE, choose, chosen

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ANSWER = (
    "Words in **bold**, and `code`.\n\n1. One\n2. Two\n   - nested\n\n```\ncode\n```\n\n[a link](https://a.example/)"
)
Theme = Literal["light", "dark"]
SIZES = {"wide": (800, 600), "narrow": (320, 568)}
THEMES = get_args(Theme)
BYTES = 16_000  # that a reference may take

sizes = pytest.mark.parametrize("size", SIZES)
themes = pytest.mark.parametrize("theme", THEMES)
NAMES = {
    f"{what}-{size}-{theme}"
    for what in ("page-first", "page-talk", "widget-first", "widget-talk", "widget-files")
    for size in SIZES
    for theme in THEMES
}


@pytest.fixture
def renew(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--renew-pictures", default=False))


async def talk_on_page(chat: Chat) -> None:
    """A question, an answer with everything in it, and an error."""
    await chat.ask("What is there?")
    await chat.has_state("done")
    await chat.ask("And now?")
    await chat.has_state("error")


async def talk_in_widget(widget: Widget) -> None:
    await widget.ask("What is there?")
    await widget.idle()
    await widget.ask("<script>alert(1)</script>")
    await widget.idle()
    await widget.note.first.wait_for()


@sizes
@themes
async def test_the_chat_page_looks_as_it_did(
    browser: Browser, stub: Stub, size: str, theme: Theme, renew: bool
) -> None:
    stub.replies = [replies(ANSWER), refuses(422, "content_blocked", "That message can't be sent.")]
    width, height = SIZES[size]
    async with visiting_page(browser, stub.url, width=width, height=height, scheme=theme) as chat:
        await boxes.dress(chat.page)
        first = await take(chat.page)
        await talk_on_page(chat)
        talk = await take(chat.page)
    await looks(browser, first, f"page-first-{size}-{theme}", renew=renew)
    await looks(browser, talk, f"page-talk-{size}-{theme}", renew=renew)


@sizes
@themes
async def test_the_widget_looks_as_it_did(browser: Browser, size: str, theme: Theme, renew: bool) -> None:
    width, height = SIZES[size]
    async with (
        shop(browser, says(ANSWER)) as place,
        visiting_shop(place, width=width, height=height, scheme=theme) as widget,
    ):
        await boxes.dress(widget.page)
        first = await take(widget.page)
        await talk_in_widget(widget)
        talk = await take(widget.page)
    await looks(browser, first, f"widget-first-{size}-{theme}", renew=renew)
    await looks(browser, talk, f"widget-talk-{size}-{theme}", renew=renew)


@sizes
@themes
async def test_the_widget_with_files_looks_as_it_did(browser: Browser, size: str, theme: Theme, renew: bool) -> None:
    """One that waits to be sent, and one that was."""
    width, height = SIZES[size]
    async with (
        shop(browser, says("Seen.")) as place,
        visiting_shop(place, "uploads=on", width=width, height=height, scheme=theme) as widget,
    ):
        await boxes.dress(widget.page)
        await choose(widget, PICTURE)
        await expect(chosen(widget)).to_have_count(1)
        await widget.ask("What is this?")
        await expect(widget.answer).to_have_text("Seen.")
        await widget.idle()
        await choose(widget, NOTES)
        await expect(chosen(widget)).to_have_count(1)
        picture = await take(widget.page)
    await looks(browser, picture, f"widget-files-{size}-{theme}", renew=renew)


def references() -> dict[str, int]:
    """Their names, and how many bytes each takes."""
    return {path.stem: path.stat().st_size for path in REFERENCES.iterdir()}


async def test_every_reference_is_somebodys_and_small() -> None:
    kept = references()
    assert set(kept) == NAMES
    assert {name: size for name, size in kept.items() if size > BYTES} == {}


async def restyled(page: Page, style: str) -> bytes:
    """The picture with a style added, which is gone again afterwards."""
    code = """([style]) => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(style);
      document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    }"""
    await page.evaluate(code, [style])
    picture = await take(page)
    await page.evaluate("document.adoptedStyleSheets = document.adoptedStyleSheets.slice(0, -1)")
    return picture


SEEN = {
    "a theme's colour": ":root { --accent: #2b6176 !important; }",
    "a background a little darker": ":root { --paper: #e9e8e4 !important; }",
    "a button that is gone": "#send { visibility: hidden !important; }",
    "an outline that is gone": "#new { border-color: transparent !important; }",
    "larger letters": "html { font-size: 17px !important; }",
    "a gap of three pixels more": "#log > * { margin-top: 3px !important; }",
    "square corners": "* { border-radius: 0 !important; }",
}
UNSEEN = {
    "a colour's last bits": ":root { --accent: #1a6451 !important; }",
    "a softer shadow": ":root { --shadow: 0 1px 2px rgb(29 35 32 / 5%), 0 8px 24px rgb(29 35 32 / 6%) !important; }",
}


async def test_the_comparison_sees_what_an_eye_would_and_nothing_else(browser: Browser, stub: Stub) -> None:
    stub.replies = [replies(ANSWER), refuses(422, "content_blocked", "That message can't be sent.")]
    async with visiting_page(browser, stub.url, width=800, height=600) as chat:
        await boxes.dress(chat.page)
        await talk_on_page(chat)
        plain = await take(chat.page)
        unseen = {name: await difference(browser, plain, await restyled(chat.page, UNSEEN[name])) for name in UNSEEN}
        again = await difference(browser, plain, await take(chat.page))
        seen = {name: await difference(browser, plain, await restyled(chat.page, SEEN[name])) for name in SEEN}
    assert {name: one.pixels for name, one in seen.items() if not one.shows} == {}
    assert {name: one.pixels for name, one in unseen.items() if one.shows} == {}
    assert again.pixels == 0


async def test_a_picture_that_is_another_fails_and_leaves_what_differs(
    browser: Browser, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.browser.pictures.FAILED", tmp_path)
    async with visiting_page(browser, stub.url, width=320, height=568) as chat:
        await boxes.dress(chat.page)
        plain, changed = await take(chat.page), await restyled(chat.page, SEEN["a button that is gone"])
        await chat.page.set_viewport_size({"width": 330, "height": 568})
        wider = await take(chat.page)
    await looks(browser, plain, "page-first-narrow-light", renew=False)
    for picture in (changed, wider):
        with pytest.raises(AssertionError, match="pixels differ"):
            await looks(browser, picture, "page-first-narrow-light", renew=False)
    for left in ("page-first-narrow-light.png", "page-first-narrow-light.difference.png"):
        assert (tmp_path / left).read_bytes().startswith(b"\x89PNG")


FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<dir>/usr/share/fonts/truetype/liberation</dir><cachedir>{cache}</cachedir>
<match target="font"><edit name="hinting"><bool>true</bool></edit><edit name="autohint"><bool>true</bool></edit>
<edit name="hintstyle"><const>hintfull</const></edit><edit name="rgba"><const>rgb</const></edit>
<edit name="antialias"><bool>true</bool></edit></match></fontconfig>"""


async def test_other_fonts_and_other_ways_to_draw_them_are_no_difference(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "fonts.conf").write_text(FONTS.format(cache=tmp_path))
    stub.replies = [replies(ANSWER), refuses(422, "content_blocked", "That message can't be sent.")]
    async with chromium(FONTCONFIG_FILE=str(tmp_path / "fonts.conf")) as other:
        async with visiting_page(other, stub.url, width=800, height=600) as chat:
            await boxes.dress(chat.page)
            await talk_on_page(chat)
            picture = await take(chat.page)
        await looks(other, picture, "page-talk-wide-light", renew=False)
