"""The widget's files: chosen, dropped, pasted, taken off again, sent with progress shown, and refused in words."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.async_api import Browser, FilePayload, Locator, expect

from tests import forms
from tests.browser.shop import Shop, Widget, says, shop, visiting
from tests.browser.test_embedded import Slow

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

transports = pytest.mark.parametrize("transport", ["sse", "ws"])
WORDS = json.loads((Path(__file__).parents[2] / "proxy/edge/embedded/words.json").read_text())
NOTES, PICTURE = ("notes.txt", "text/plain", "Grüße".encode()), ("a.png", "image/png", forms.png())
# Hands files to the page as the browser does for a drop or a paste.
HAND_OVER = """(node, [kind, files]) => {
  const data = new DataTransfer();
  for (const [name, type, text] of files) {
    data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type }));
  }
  const how = { bubbles: true, cancelable: true, composed: true };
  const event = kind === 'paste' ? new ClipboardEvent(kind, { ...how, clipboardData: data })
    : new DragEvent(kind, { ...how, dataTransfer: data });
  return node.dispatchEvent(event);
}"""


async def choose(widget: Widget, *files: tuple[str, str, bytes]) -> None:
    async with widget.page.expect_file_chooser() as chooser:
        await widget.part("attach").click()
    await (await chooser.value).set_files([FilePayload(name=n, mimeType=m, buffer=b) for n, m, b in files])


async def hand_over(node: Locator, kind: str, *files: tuple[str, str, bytes]) -> bool:
    """False where the page took it."""
    given = [[name, media, base64.b64encode(data).decode()] for name, media, data in files]
    untouched: bool = await node.evaluate(HAND_OVER, [kind, given])
    return untouched


def chosen(widget: Widget) -> Locator:
    return widget.part("files").locator("li span")


def hint(widget: Widget) -> Locator:
    return widget.page.locator("sidegate-chat .hint")


def parts(place: Shop, at: int = -1) -> list[tuple[str, bytes]]:
    """The files that the workflow got."""
    asked = place.hook.asked[at]
    return [
        (part.filename, part.content) for part in forms.read(asked.body, asked.headers["content-type"]) if part.filename
    ]


@transports
async def test_chosen_files_reach_the_workflow_and_the_answer_comes_as_always(browser: Browser, transport: str) -> None:
    frames: list[str] = []
    async with shop(browser, says("You ", "**said** it")) as place:
        async with visiting(place, f"uploads=on&transport={transport}", is_open=False) as widget:
            widget.page.on(
                "websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame)))
            )
            await widget.open()
            await choose(widget, NOTES, PICTURE)
            await expect(chosen(widget)).to_have_text(["notes.txt", "a.png"])
            await expect(widget.part("files").locator("small").first).to_have_text("7 byte")
            await widget.ask("Look at these")
            await expect(widget.answer).to_have_text("You said it")
            await expect(chosen(widget)).to_have_count(0)
            await expect(widget.part("question").locator("li")).to_have_text(["notes.txt", "a.png"])
            await widget.idle()
            await widget.ask("And without")
            await expect(widget.part("answer")).to_have_count(3)  # with the greeting
            await widget.idle()
        assert parts(place, 0) == [("notes.txt", NOTES[2]), ("a.png", PICTURE[2])]
        assert b"Look at these" in place.hook.asked[0].body
        assert place.hook.asked[1].json["chatInput"] == "And without"
        assert any("said" in frame for frame in frames) == (transport == "ws")


@pytest.mark.parametrize("kind", ["drop", "paste"])
async def test_files_are_dropped_and_pasted_and_may_come_without_words(browser: Browser, kind: str) -> None:
    async with shop(browser, says("A picture")) as place, visiting(place, "uploads=on") as widget:
        node = widget.part("message") if kind == "paste" else widget.part("log")
        if kind == "drop":
            assert not await hand_over(node, "dragover", PICTURE)
        assert not await hand_over(node, kind, PICTURE)
        await expect(chosen(widget)).to_have_text(["a.png"])
        await widget.part("send").click()
        await expect(widget.answer).to_have_text("A picture")
        assert parts(place) == [("a.png", PICTURE[2])]


async def test_a_type_that_the_system_does_not_know_is_no_obstacle(browser: Browser) -> None:
    """What the operating system says of an extension is its own affair; the bytes have to agree with it."""
    async with shop(browser, says("Read")) as place, visiting(place, "uploads=on") as widget:
        await choose(widget, ("notes.txt", "application/x-unheard-of", b"words"))
        await widget.ask("Look")
        await expect(widget.answer).to_have_text("Read")


async def test_by_keyboard_files_are_taken_off_and_the_focus_stays_near(browser: Browser) -> None:
    async with shop(browser, says("x")) as place, visiting(place, "uploads=on") as widget:
        opened = asyncio.Queue[object]()
        widget.page.on("filechooser", opened.put_nowait)  # from here on: Chromium takes a moment to hand them over
        await choose(widget, NOTES, PICTURE)
        status = widget.page.locator('sidegate-chat [role="status"]')
        await expect(status).to_have_text("Attached: notes.txt, a.png")
        await expect(widget.part("message")).to_be_focused()
        remove = widget.page.get_by_role("button", name="Remove notes.txt")
        for _ in range(3):  # the button that attaches, and that of the other file
            await widget.page.keyboard.press("Shift+Tab")
        await expect(remove).to_be_focused()
        await widget.page.keyboard.press("Enter")
        await expect(status).to_have_text("notes.txt was removed.")
        await expect(widget.page.get_by_role("button", name="Remove a.png")).to_be_focused()
        await widget.page.keyboard.press("Enter")
        await expect(widget.part("attach")).to_be_focused()
        opened.get_nowait()
        await widget.page.keyboard.press("Enter")
        async with asyncio.timeout(30):
            await opened.get()
        await expect(widget.page.get_by_role("list", name="Files to send")).to_have_count(0)


LIMITS = {"max_files": 2, "max_bytes": 100_000, "types": ["text/plain", "image/png"]}
OBJECTIONS: list[tuple[str, dict[str, object], list[tuple[str, str, bytes]]]] = [
    (
        "file_type",
        {"name": "run.exe", "types": "txt, text, log, png"},
        [("run.exe", "application/x-msdownload", b"MZ")],
    ),
    ("file_empty", {"name": "none.txt"}, [("none.txt", "text/plain", b"")]),
    ("file_count", {"n": 2}, [NOTES, PICTURE, ("b.txt", "text/plain", b"b")]),
    ("file_size", {}, [("big.txt", "text/plain", b"a" * 100_001)]),
]


@pytest.mark.parametrize("language", ["en", "de", "es", "fr", "pt"])
async def test_what_can_t_be_sent_is_said_at_once_in_the_visitors_language(browser: Browser, language: str) -> None:
    async with shop(browser, says("x"), uploads=LIMITS) as place:
        async with visiting(place, f"uploads=on&lang={language}") as widget:
            for name, values, files in OBJECTIONS:
                await choose(widget, *files)
                size = "100 ko" if language == "fr" else "100 kB"
                await expect(hint(widget)).to_have_text(WORDS[language][name].format(size=size, **values))
                for button in reversed(await widget.part("files").locator("button").all()):
                    await button.click()
            await choose(widget, NOTES)
            await expect(hint(widget)).to_be_hidden()
            await expect(widget.part("attach")).to_have_attribute("aria-label", WORDS[language]["attach"])
        assert place.hook.asked == []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (("a.png", "image/png", b"no picture at all"), "upload_rejected"),
        (("big.txt", "text/plain", b"a" * 200_000), "files_large"),
    ],
)
async def test_what_the_server_refuses_is_a_sentence_without_a_button(
    browser: Browser, file: tuple[str, str, bytes], code: str
) -> None:
    """The page's own look at it is no defence: here it believes in larger limits."""
    async with shop(browser, says("x"), uploads=LIMITS) as place:
        async with visiting(place, "uploads=on") as widget:
            await widget.page.route("**/v1/session", lambda route: believe(route))
            await choose(widget, file)
            await expect(chosen(widget)).to_have_count(1)
            await widget.ask("Look")
            await expect(widget.note).to_have_text(WORDS["en"][code])
            await expect(widget.note.locator("button")).to_have_count(0)
            await widget.idle()
            await widget.ask("Then without")
            await expect(widget.answer).to_have_text("x")
        assert len(place.hook.asked) == 1


async def believe(route: Any) -> None:  # Any: Playwright's route
    response = await route.fetch()
    fields = await response.json()
    fields["uploads"]["max_bytes"] = 1_000_000
    await route.fulfill(response=response, json=fields)


async def test_where_the_site_takes_none_the_button_goes(browser: Browser) -> None:
    async with shop(browser, says("x"), uploads={"max_files": 0}) as place:
        async with visiting(place, "uploads=on") as widget:
            await choose(widget, NOTES)
            await expect(hint(widget)).to_have_text("Files can't be sent here.")
            await expect(widget.part("attach")).to_be_hidden()
        async with visiting(place) as widget:
            await expect(widget.part("attach")).to_be_hidden()
            assert await hand_over(widget.part("message"), "paste", NOTES)
            assert await hand_over(widget.part("log"), "dragover", NOTES)
            assert await hand_over(widget.part("log"), "drop", NOTES)
            await expect(chosen(widget)).to_have_count(0)


async def slowly(widget: Widget, bytes_per_second: int) -> Callable[[], Any]:
    """Sends that slowly; call what it returns to end that. Any: Playwright's awaitable."""
    devtools = await widget.page.context.new_cdp_session(widget.page)

    def limit(rate: int) -> Any:
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate}
        return devtools.send("Network.emulateNetworkConditions", conditions)

    await limit(bytes_per_second)
    return lambda: limit(-1)


BIG = ("big.txt", "text/plain", b"word " * 400_000)


async def test_the_progress_is_shown_while_files_are_on_their_way(browser: Browser) -> None:
    async with shop(browser, says("Thanks")) as place, visiting(place, "uploads=on") as widget:
        await choose(widget, BIG)
        faster = await slowly(widget, 100_000)
        await widget.ask("Look")
        progress = widget.page.get_by_role("progressbar", name="Sending the files")
        await expect(progress).to_be_visible()
        await widget.page.wait_for_function(
            "() => { const bar = document.querySelector('sidegate-chat').shadowRoot.querySelector('progress');"
            " return bar && bar.value > 0 && bar.value < 1; }"
        )
        await faster()
        await expect(widget.answer).to_have_text("Thanks")
        await expect(progress).to_have_count(0)
        assert parts(place) == [("big.txt", BIG[2])]


async def test_sending_can_be_stopped(browser: Browser) -> None:
    async with shop(browser, says("x")) as place:
        async with visiting(place, "uploads=on") as widget:
            await choose(widget, BIG)
            await slowly(widget, 50_000)
            await widget.ask("Look")
            await expect(widget.page.get_by_role("progressbar")).to_be_visible()
            await widget.part("stop").click()
            await expect(widget.note).to_contain_text("You stopped this answer.")
        assert place.hook.asked == []


@transports
async def test_a_line_that_is_cut_while_files_are_sent_costs_nothing(browser: Browser, transport: str) -> None:
    async with shop(browser, says("Thanks")) as place:
        async with visiting(place, f"uploads=on&transport={transport}") as widget:
            await choose(widget, BIG)
            faster = await slowly(widget, 100_000)
            await widget.ask("Look")
            await expect(widget.page.get_by_role("progressbar")).to_be_visible()
            place.line.cut()
            await expect(widget.note).to_contain_text("Reconnecting")
            place.line.is_cut = False
            await faster()
            await expect(widget.answer).to_have_text("Thanks")
        assert len(place.hook.asked) == 1


@transports
async def test_a_page_that_is_left_joins_its_answer_or_says_that_the_files_had_not_arrived(
    browser: Browser, transport: str
) -> None:
    slow = Slow()
    query = f"uploads=on&open=true&transport={transport}"
    async with shop(browser, slow) as place, visiting(place, query, is_open=False) as widget:
        await choose(widget, NOTES)
        await widget.ask("Look")
        await expect(widget.answer).to_have_text("first half,")
        await widget.page.reload()
        await expect(widget.part("question").locator("li")).to_have_text(["notes.txt"])
        await expect(widget.answer).to_have_text("first half,")
        slow.go.set()
        await expect(widget.answer).to_have_text("first half, second half")
        await widget.idle()
        await choose(widget, BIG)
        await slowly(widget, 50_000)
        await widget.ask("And this")
        await expect(widget.page.get_by_role("progressbar")).to_be_visible()
        await widget.page.reload()
        await expect(widget.note).to_have_text(WORDS["en"]["files_gone"])
        await expect(widget.note.locator("button")).to_have_count(0)
        assert len(place.hook.asked) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
async def test_axe_finds_nothing_in_a_widget_with_files(browser: Browser, scheme: str, width: int) -> None:
    dark: Any = scheme  # a Literal for Playwright
    async with (
        shop(browser, says("Thanks")) as place,
        visiting(place, "uploads=on", width=width, height=700, scheme=dark) as widget,
    ):
        await choose(widget, NOTES)
        await widget.ask("Look")
        await expect(widget.answer).to_have_text("Thanks")
        await choose(widget, PICTURE, ("a long name of a file, longer than the dialog is wide.txt", "text/plain", b"x"))
        await choose(widget, ("run.exe", "application/x-msdownload", b"MZ"))
        await expect(hint(widget)).to_contain_text("run.exe can't be sent.")
        await asyncio.wait_for(
            widget.part("panel").evaluate("(node) => Promise.all(node.getAnimations().map((one) => one.finished))"), 20
        )
        found = await Axe().run(widget.page)
        assert found.violations_count == 0, found.generate_report()
        assert await widget.page.evaluate("document.documentElement.scrollWidth") <= width
