"""The widget on a shop's page, in front of a real Sidegate: it talks, comes back, keeps, speaks, and runs no script."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.async_api import Browser, expect

from tests.browser.chat import visiting as visiting_page
from tests.browser.shop import Widget, says, shop, visiting
from tests.browser.stub import Stub
from tests.flows.test_push import ops, push
from tests.upstreams import BEGIN, END, HEAD, LAST, Asked, Script, Step, chunk, item, stream

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

transports = pytest.mark.parametrize("transport", ["sse", "ws"])


class Slow:
    """Says one half, and the other when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    def __call__(self, _: Asked) -> Script:
        first, rest = [BEGIN, item("first half, ")], [item("second half"), END]
        return [
            Step(HEAD + b"".join(map(chunk, first))), Step(wait=self.go), Step(b"".join(map(chunk, rest)) + LAST)
        ]  # fmt: skip


@transports
async def test_it_chats_on_a_page_of_another_origin_under_a_strict_policy(browser: Browser, transport: str) -> None:
    async with shop(browser, says("You ", "**said** it")) as place:
        async with visiting(place, f"transport={transport}") as widget:
            await widget.ask("Hello")
            await expect(widget.answer).to_have_text("You said it")
            await expect(widget.answer.locator("strong")).to_have_text("said")
            await widget.ask("Again")
            await expect(widget.part("answer")).to_have_count(3)  # with the greeting
            await expect(widget.answer).to_have_text("You said it")
            assert await widget.page.context.cookies() == []
        assert len(place.hook.asked) == 2


@transports
async def test_words_are_shown_as_they_come(browser: Browser, transport: str) -> None:
    slow = Slow()
    async with shop(browser, slow) as place, visiting(place, f"transport={transport}") as widget:
        await widget.ask("Hello")
        await expect(widget.answer).to_have_text("first half,")
        await expect(widget.part("stop")).to_be_visible()
        slow.go.set()
        await expect(widget.answer).to_have_text("first half, second half")
        await expect(widget.part("send")).to_be_visible()


@transports
async def test_a_lost_connection_costs_nothing_and_the_workflow_runs_once(browser: Browser, transport: str) -> None:
    slow = Slow()
    async with shop(browser, slow) as place, visiting(place, f"transport={transport}") as widget:
        await widget.ask("Hello")
        await expect(widget.answer).to_have_text("first half,")
        place.line.cut()
        await expect(widget.note).to_contain_text("Reconnecting")
        slow.go.set()
        place.line.is_cut = False
        await expect(widget.answer).to_have_text("first half, second half")
        await widget.idle()
        assert len(place.hook.asked) == 1


@transports
async def test_leaving_the_page_in_mid_answer_and_coming_back_joins_it(browser: Browser, transport: str) -> None:
    slow = Slow()
    async with (
        shop(browser, slow) as place,
        visiting(place, f"transport={transport}&open=true", is_open=False) as widget,
    ):
        await widget.ask("Hello")
        await expect(widget.answer).to_have_text("first half,")
        await widget.page.reload()
        await expect(widget.part("question")).to_contain_text("Hello")
        await expect(widget.answer).to_have_text("first half,")
        slow.go.set()
        await expect(widget.answer).to_have_text("first half, second half")
        assert len(place.hook.asked) == 1


@transports
async def test_stopping_an_answer_ends_it_at_the_workflow(browser: Browser, transport: str) -> None:
    slow = Slow()
    async with shop(browser, slow) as place, visiting(place, f"transport={transport}") as widget:
        await widget.ask("Hello")
        await expect(widget.answer).to_have_text("first half,")
        await widget.part("stop").click()
        await expect(widget.note).to_contain_text("You stopped this answer.")
        await asyncio.wait_for(place.hook.asked[0].closed.wait(), 20)


@transports
async def test_a_puzzle_is_solved_without_the_visitor(browser: Browser, transport: str) -> None:
    async with shop(browser, says("Welcome"), challenge={"mode": "always", "max_number": 1000}) as place:
        async with visiting(place, f"transport={transport}") as widget:
            await widget.ask("Hello")
            await expect(widget.answer).to_have_text("Welcome")
            await widget.idle()
        assert len(place.hook.asked) == 1


@transports
async def test_what_is_sent_later_appears(browser: Browser, transport: str, tmp_path: Path) -> None:
    later = shop(browser, says("Hello"), ops=ops(tmp_path))
    async with later as place, visiting(place, f"transport={transport}") as widget:
        await widget.ask("Hello")
        await expect(widget.answer).to_have_text("Hello")
        owner = place.hook.asked[0].json["sessionId"]
        assert isinstance(owner, str)
        status, _ = await push(place.visitor, owner, "A person took over")
        assert status < 300
        await expect(widget.part("push")).to_contain_text("A person took over")
        await widget.page.reload()
        await widget.open()
        await expect(widget.part("push")).to_have_count(1)


@pytest.mark.parametrize(("history", "after_reload", "in_a_new_tab"), [
    ("none", 0, 0), ("session", 1, 0), ("local", 1, 1)
])  # fmt: skip
async def test_history_is_kept_where_the_page_says_so(
    browser: Browser, history: str, after_reload: int, in_a_new_tab: int
) -> None:
    async with shop(browser, says("An answer")) as place, visiting(place, f"history={history}") as widget:
        await widget.ask("A question")
        await expect(widget.answer).to_have_text("An answer")
        await widget.idle()
        await widget.page.reload()
        await widget.open()
        await expect(widget.part("answer").first).to_be_visible()
        assert await widget.part("question").count() == after_reload
        tab = Widget(await widget.page.context.new_page(), place)
        await tab.page.goto(f"{place.url}/?history={history}")
        await tab.open()
        await expect(tab.part("answer").first).to_be_visible()
        assert await tab.part("question").count() == in_a_new_tab
        await tab.part("new").click()
        assert await tab.page.evaluate("Object.keys(localStorage)") == []


@pytest.mark.parametrize(("locale", "query", "name"), [
    ("en-GB", "", "Open chat"), ("de-AT", "", "Chat öffnen"), ("es-MX", "", "Abrir el chat"),
    ("fr-FR", "", "Ouvrir le chat"), ("pt-BR", "", "Abrir o chat"), ("fi-FI", "", "Open chat"),
    ("en-GB", "lang=de", "Chat öffnen"),
])  # fmt: skip
async def test_it_speaks_the_visitors_language(browser: Browser, locale: str, query: str, name: str) -> None:
    async with shop(browser, says("x")) as place, visiting(place, query, locale=locale, is_open=False) as widget:
        await expect(widget.part("launcher")).to_have_accessible_name(name)


async def test_the_keyboard_is_enough(browser: Browser) -> None:
    async with shop(browser, says("More")) as place, visiting(place, is_open=False) as widget:
        keys = widget.page.keyboard
        await expect(widget.part("launcher")).to_be_visible()
        await keys.press("Tab")
        await keys.press("Enter")
        await expect(widget.part("panel")).to_be_visible()
        await expect(widget.part("message")).to_be_focused()
        await keys.type("Hello")
        await keys.press("Enter")
        await expect(widget.answer).to_contain_text("More")
        await widget.idle()
        await expect(widget.part("message")).to_be_focused()
        await keys.press("Escape")
        await expect(widget.part("panel")).to_be_hidden()
        await expect(widget.part("launcher")).to_be_focused()


async def test_the_pages_variables_are_its_theme(browser: Browser) -> None:
    async with shop(browser, says("x")) as place, visiting(place, "position=left&title=Ask%20us") as widget:
        await widget.page.evaluate("document.body.style.setProperty('--sidegate-accent', 'rgb(1, 2, 3)')")
        await expect(widget.page.locator("sidegate-chat header")).to_have_css("background-color", "rgb(1, 2, 3)")
        await expect(widget.part("panel")).to_have_css("left", "20px")
        await expect(widget.part("panel")).to_have_accessible_name("Ask us")


async def test_the_page_hears_and_steers_it_and_finds_one_global(browser: Browser) -> None:
    async with shop(browser, says("Hi")) as place, visiting(place, is_open=False) as widget:
        await expect(widget.part("launcher")).to_be_visible()
        await widget.page.evaluate("""() => {
          window.heard = [];
          const hear = (event) => Sidegate.on(event, ({ text }) => heard.push([event, text]));
          ['open', 'close', 'message', 'answer'].forEach(hear);
          Sidegate.open();
        }""")
        await widget.ask("Hello")
        await expect(widget.answer).to_have_text("Hi")
        await widget.idle()
        await widget.page.evaluate("Sidegate.close()")
        heard = await widget.page.evaluate("heard")
        assert heard == [["open", None], ["message", "Hello"], ["answer", "Hi"], ["close", None]]
        blank = await widget.page.evaluate_handle(
            "document.body.appendChild(document.createElement('iframe')).contentWindow"
        )
        names = await widget.page.evaluate(
            "(blank) => Object.getOwnPropertyNames(window).filter((name) => !(name in blank))", blank
        )
        assert sorted(set(names) - {"heard", "0", "__playwright__binding__"}) == ["Sidegate"]


@pytest.mark.parametrize(("query", "words"), [
    ("embed-key=wrong", "not available here"), ("embed-key=wrong&lang=de", "hier nicht verfügbar"),
])  # fmt: skip
async def test_a_refusal_is_a_sentence_in_the_visitors_language(browser: Browser, query: str, words: str) -> None:
    async with shop(browser, says("x")) as place, visiting(place, query) as widget:
        await widget.ask("Hello")
        await expect(widget.note).to_contain_text(words)
        assert place.hook.asked == []


async def test_a_copied_embed_key_is_of_no_use_on_another_sites_page(browser: Browser) -> None:
    async with shop(browser, says("x")) as theirs, shop(browser, says("x")) as ours:
        theirs.line.to = ours.line.to  # their page, our key, our Sidegate
        async with visiting(theirs) as widget:
            await widget.ask("Hello")
            await expect(widget.note).to_contain_text("can't be reached")
        assert ours.hook.asked == []


async def test_what_was_limited_can_be_tried_again_after_a_while(browser: Browser) -> None:
    limits = [{"per": "session", "limit": 1, "window": 3600}]
    async with shop(browser, says("One"), limits=limits) as place, visiting(place) as widget:
        await widget.ask("Hello")
        await expect(widget.answer).to_have_text("One")
        await widget.idle()
        await widget.ask("Again")
        await expect(widget.note).to_contain_text("Please wait a moment")
        await expect(widget.note.locator("button")).to_be_disabled()


VECTORS = """<script>owned()</script>|<img src=x onerror=owned()>|<svg onload=owned()>
<svg><script>owned()</script></svg>
<iframe src="javascript:parent.owned()"></iframe>|<a href="javascript:owned()">x</a>|<body onload=owned()>
<details open ontoggle=owned()>x</details>|<video><source onerror=owned()></video>|<math><mi href="javascript:owned()">
<input autofocus onfocus=owned()>|<object data="javascript:owned()">|<embed src="javascript:owned()">
<form action="javascript:owned()"><button>x</button></form>|<style>@import 'javascript:owned()'</style>
[x](javascript:owned())|[x](JaVaScRiPt:owned())|[x]( javascript:owned())|[x](java\tscript:owned())
[x](&#106;avascript:owned())
[x](data:text/html,<script>owned()</script>)|[x](vbscript:owned())|[x](\x01javascript:owned())|[x](blob:null/x)
[x](https://a.example/"onclick=owned())|[x](https://a.example/'onclick='owned())
[x](https://a.example" onmouseover="owned())
![x](javascript:owned())|![x](x"onerror="owned())|[x][1]\n\n[1]: javascript:owned()|<javascript:owned()>
`<img src=x onerror=owned()>`|**<img src=x onerror=owned()>**|# <img src=x onerror=owned()>|- <svg onload=owned()>
```html\n<script>owned()</script>\n```|```"><img src=x onerror=owned()>\nx\n```|[a](https://user:pass@evil.example)
</textarea><script>owned()</script>|<!--<img src=--><img src=x onerror=owned()>
<noscript><img title="</noscript><img src=x onerror=owned()>">
[<img src=x onerror=owned()>](https://a.example)|https://a.example/<svg/onload=owned()>|<template><script>owned()</script></template>
{{constructor.constructor('owned()')()}}|${owned()}|<base href="javascript:owned()//">|<x onclick=owned()>x</x>"""


async def test_no_answer_runs_a_script(browser: Browser) -> None:
    """With the server's own filters off, and under no policy that would stop it."""
    vectors = VECTORS.replace("\n<", "|<").replace("\n[", "|[").replace("\n`", "|`").split("|")
    assert len(vectors) >= 45
    filters = {"markup": "off"}
    async with (
        shop(browser, says("\n\n".join(vectors)), filters=filters, has_policy=False) as place,
        visiting(place) as widget,
    ):
        await widget.page.evaluate("() => { window.owned = () => { window.isOwned = true; }; }")
        await widget.ask("Hello")
        await widget.idle()
        await expect(widget.answer).to_contain_text("constructor")
        for link in await widget.answer.locator("a").all():
            assert str(await link.get_attribute("href")).startswith(("http://", "https://"))
            assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
        tags = await widget.answer.evaluate(
            "(node) => [...new Set([...node.querySelectorAll('*')].map((one) => one.localName))]"
        )
        assert set(tags) <= {"p", "strong", "code", "pre", "ul", "ol", "li", "a"}
        names = await widget.answer.evaluate(
            "(node) => [...node.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())"
        )
        assert not [name for name in names if name.startswith("on")]
        assert await widget.page.evaluate("window.isOwned") is None
        await widget.page.evaluate("(html) => document.body.insertAdjacentHTML('beforeend', html)", vectors[1])
        await widget.page.wait_for_function("window.isOwned")  # what it would have done


LINKS = [
    ("[More](https://a.example/x)", ["https://a.example/x"]),
    ("See https://a.example/x, and more.", ["https://a.example/x"]),
    ("[More]\\(https://a.example/x)", []),
    ("`https://a.example`", []),
    ("[x](ftp://a.example) [x](//a.example) [x](/here)", []),
    ("[x](https://me:secret@a.example)", []),
]


@pytest.mark.parametrize(("text", "hrefs"), LINKS)
async def test_links_lead_to_the_web_alone(browser: Browser, stub: Stub, text: str, hrefs: list[str]) -> None:
    async with visiting_page(browser, stub.url) as chat:
        found = await chat.page.evaluate(
            """async (text) => {
              const { textRenderer } = await import('/page/markdown.js');
              const target = document.createElement('div');
              textRenderer(target, { links: true })(text);
              return [...target.querySelectorAll('a')].map((node) => node.href);
            }""",
            text,
        )
    assert found == hrefs


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
async def test_axe_finds_nothing_in_the_widget(browser: Browser, scheme: str, width: int) -> None:
    text = "Words, **bold**, `code`, [a link](https://a.example).\n\n- one\n- two\n\n```\n" + "code " * 60 + "\n```"
    links = {"links": {"allow": ["a.example"]}}
    limits = [{"per": "session", "limit": 1, "window": 3600}]
    async with shop(browser, says(text), filters=links, limits=limits) as place, visiting(
        place, f"greeting={quote('Hi there')}", width=width, height=700,
        scheme="dark" if scheme == "dark" else "light", is_open=False,
    ) as widget:  # fmt: skip
        await expect(widget.part("launcher")).to_be_visible()
        closed = await Axe().run(widget.page)
        assert closed.violations_count == 0, closed.generate_report()
        await widget.open()
        await widget.ask("Hello")
        await expect(widget.answer.locator("pre")).to_be_visible()
        await widget.idle()
        await widget.ask("Again")
        await expect(widget.note).to_contain_text("wait")
        wide = await widget.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        await asyncio.wait_for(
            widget.part("panel").evaluate("(node) => Promise.all(node.getAnimations().map((one) => one.finished))"),
            20,
        )
        opened = await Axe().run(widget.page)
        assert opened.violations_count == 0, opened.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_the_chat_page(browser: Browser, stub: Stub, scheme: str) -> None:
    async with visiting_page(browser, stub.url, scheme="dark" if scheme == "dark" else "light") as chat:
        empty = await Axe().run(chat.page)
        assert empty.violations_count == 0, empty.generate_report()
        await chat.ask("Hello")
        await chat.has_state("done")
        full = await Axe().run(chat.page)
        assert full.violations_count == 0, full.generate_report()


async def test_on_a_small_screen_it_fills_the_screen_and_tab_stays_inside(browser: Browser) -> None:
    async with shop(browser, says("x")) as place, visiting(place, width=320, height=600) as widget:
        box = await widget.part("panel").bounding_box()
        assert box is not None
        assert (round(box["width"]), round(box["height"])) == (320, 600)
        await expect(widget.part("panel")).to_have_attribute("aria-modal", "true")
        for key in ("Tab", "Shift+Tab"):
            for _ in range(8):
                await widget.page.keyboard.press(key)
                assert await widget.page.evaluate("document.activeElement.localName") == "sidegate-chat"


async def test_it_follows_the_visitors_system_into_the_dark(browser: Browser) -> None:
    async with shop(browser, says("x")) as place:
        for scheme, theme, surface in (
            ("dark", "auto", "rgb(28, 33, 31)"), ("dark", "light", "rgb(255, 255, 255)"),
            ("light", "dark", "rgb(28, 33, 31)"),
        ):  # fmt: skip
            async with visiting(place, f"theme={theme}", scheme="dark" if scheme == "dark" else "light") as widget:
                await expect(widget.part("panel")).to_have_css("background-color", surface)


async def test_who_asked_for_less_motion_gets_none(browser: Browser) -> None:
    async with shop(browser, says("x")) as place, visiting(place, is_open=False) as widget:
        await widget.page.emulate_media(reduced_motion="reduce")
        await widget.open()
        await expect(widget.part("panel")).to_have_css("animation-name", "none")
        await widget.page.emulate_media(reduced_motion="no-preference")
        await expect(widget.part("panel")).to_have_css("animation-name", "rise")


async def test_opened_by_the_page_it_leaves_the_focus_where_it_is(browser: Browser) -> None:
    async with shop(browser, says("x")) as place, visiting(place, "open=true", is_open=False) as widget:
        await expect(widget.part("panel")).to_be_visible()
        assert await widget.page.evaluate("document.activeElement.localName") == "body"


async def test_what_could_not_be_reached_is_offered_again_and_then_said_once(browser: Browser) -> None:
    async with shop(browser, says("Here I am")) as place, visiting(place) as widget:
        place.line.cut()
        await widget.ask("Hello")
        await expect(widget.note).to_contain_text("can't be reached")
        place.line.is_cut = False
        await widget.note.locator("button").click()
        await expect(widget.answer).to_have_text("Here I am")
        await widget.idle()
        await widget.page.reload()
        await widget.open()
        await expect(widget.part("question")).to_have_count(1)
        await expect(widget.part("answer")).to_have_count(2)  # with the greeting
        assert len(place.hook.asked) == 1


async def test_a_connection_lost_before_the_first_word_costs_nothing_either(browser: Browser) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    def script(_: Asked) -> Script:
        asked.set()
        return [Step(wait=go), *stream("Here")]

    async with shop(browser, script) as place, visiting(place) as widget:
        await widget.ask("Hello")
        await asyncio.wait_for(asked.wait(), 20)
        place.line.cut()
        place.line.is_cut = False
        go.set()
        await expect(widget.answer).to_have_text("Here")
        await widget.idle()
        assert len(place.hook.asked) == 1
