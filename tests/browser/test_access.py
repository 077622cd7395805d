"""The page without a mouse, and as a screen reader is told about it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.chat import Chat
from tests.browser.stub import Line, Stub, refuses, says

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

Node = dict[str, Any]  # as Chromium's DevTools protocol describes it (Accessibility.AXNode)


async def tree(chat: Chat) -> list[Node]:
    devtools = await chat.page.context.new_cdp_session(chat.page)
    nodes: list[Node] = (await devtools.send("Accessibility.getFullAXTree"))["nodes"]
    await devtools.detach()
    return [node for node in nodes if not node["ignored"]]


def role(node: Node) -> str:
    return str(node["role"]["value"])


def name(node: Node) -> str:
    return str(node.get("name", {}).get("value", ""))


def properties(node: Node) -> dict[str, Any]:
    return {entry["name"]: entry["value"].get("value") for entry in node.get("properties", [])}


async def test_controls_and_landmarks_have_roles_and_names(chat: Chat, stub: Stub) -> None:
    stub.replies = [says("An answer"), refuses(503, "upstream_unavailable", "Not now.")]
    await chat.ask("Hello")
    await chat.has_state("done")
    await chat.ask("Again")
    await chat.has_state("error")
    await chat.message.fill("Next")
    found = {(role(node), name(node)) for node in await tree(chat)}
    assert found >= {
        ("banner", ""),
        ("main", ""),
        ("contentinfo", ""),
        ("form", "Write a message"),
        ("log", "Conversation"),
        ("status", ""),
        ("link", "Skip to the message box"),
        ("button", "New conversation"),
        ("button", "Copy"),
        ("button", "Try again"),
        ("button", "Send"),
        ("textbox", "Message"),
        ("heading", "You"),
        ("heading", "Answer"),
    }
    assert not [node for node in found if node[0] in ("button", "link", "textbox", "image") and not node[1]]


async def test_there_is_one_main_heading_and_a_language(chat: Chat) -> None:
    headings = [node for node in await tree(chat) if role(node) == "heading"]
    assert [name(node) for node in headings if properties(node)["level"] == 1] == ["Chat"]
    assert await chat.page.locator("html").get_attribute("lang") == "en"


async def test_the_log_is_polite_and_busy_only_while_an_answer_is_being_written(chat: Chat, stub: Stub) -> None:
    gate = asyncio.Event()

    async def reply(line: Line) -> None:
        await line.say("One")
        await gate.wait()
        await line.done()

    async def log() -> dict[str, Any]:
        return next(properties(node) for node in await tree(chat) if role(node) == "log")

    stub.replies = [reply]
    assert (await log())["live"] == "polite"
    await chat.ask("Count")
    await expect(chat.text).to_have_text("One")
    assert (await log())["busy"] == 1
    gate.set()
    await chat.has_state("done")
    await expect(chat.page.locator("#log")).to_have_attribute("aria-busy", "false")
    assert not (await log()).get("busy")


async def test_an_invalid_message_says_so_and_why(chat: Chat) -> None:
    await chat.message.fill("x" * 2050)
    box = next(node for node in await tree(chat) if role(node) == "textbox")
    assert properties(box)["invalid"] == "true"
    assert "50 over the limit" in box["description"]["value"]
    await expect(chat.page.locator("#status")).to_have_text("The message is too long.")


async def focused(chat: Chat) -> str:
    return str(await chat.page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))


FOCUS_SHOWS = """() => {
  const styles = [document.activeElement, document.activeElement.closest('form')].filter(Boolean).map(getComputedStyle);
  return styles.some((style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1);
}"""


async def test_a_whole_visit_works_by_keyboard_and_the_focus_always_shows(chat: Chat, stub: Stub) -> None:
    keyboard = chat.page.keyboard
    stub.replies = [
        says("First answer\n\n```\nsome code\n```"),
        refuses(503, "upstream_unavailable", "Not now."),
        says("Second answer"),
    ]

    async def press(key: str, arrive: str) -> None:
        await keyboard.press(key)
        assert await focused(chat) == arrive
        assert await chat.page.evaluate(FOCUS_SHOWS)

    assert await focused(chat) == "message"
    await press("Shift+Tab", "Give me an example of a good question.")
    await press("Shift+Tab", "Where should I start?")
    await keyboard.press("Enter")
    await chat.has_state("done")
    assert await focused(chat) == "message"
    await press("Shift+Tab", "Copy")
    await press("Shift+Tab", "some code")
    await press("Tab", "Copy")
    await press("Tab", "message")
    await keyboard.type("Next question")
    await press("Tab", "send")
    await keyboard.press("Space")
    await chat.has_state("error")
    assert await focused(chat) == "message"
    await press("Shift+Tab", "Try again")
    await keyboard.press("Enter")
    await expect(chat.text).to_have_text("Second answer")
    assert await focused(chat) == "message"
    assert [line.message for line in stub.lines] == ["Where should I start?", "Next question", "Next question"]
    await chat.page.locator("#new").focus()
    await keyboard.press("Enter")
    await expect(chat.page.locator("#empty")).to_be_visible()
    assert await focused(chat) == "message"


async def test_the_first_tab_stop_leads_past_everything_to_the_message(chat: Chat) -> None:
    await chat.page.evaluate("document.activeElement.blur()")
    skip = chat.page.locator(".skip")
    await expect(skip).not_to_be_in_viewport()
    await skip.focus()
    await expect(skip).to_be_in_viewport(ratio=1)
    await chat.page.keyboard.press("Enter")
    assert await focused(chat) == "message"


COVERED = """() => {
  const { left, top, width, height } = document.activeElement.getBoundingClientRect();
  const hit = document.elementFromPoint(left + width / 2, top + height / 2);
  return !document.activeElement.contains(hit);
}"""


@pytest.mark.parametrize("edge", ["20", "innerHeight - 60"])
async def test_what_has_the_focus_is_never_under_the_bars(chat: Chat, stub: Stub, edge: str) -> None:
    """WCAG 2.2, 2.4.11."""
    long = "\n\n".join(f"Paragraph {number}" for number in range(40))
    stub.replies = [says(long), says(long)]
    for _ in range(2):
        await chat.ask("Hello")
        await chat.has_state("done")
    copy = chat.page.locator('[data-role="copy"]').first
    await chat.page.locator('[data-role="copy"]').last.focus()
    await copy.evaluate(f"(node) => scrollBy(0, node.getBoundingClientRect().top - ({edge}))")
    await chat.page.keyboard.press("Shift+Tab")
    await expect(copy).to_be_focused()
    assert not await chat.page.evaluate(COVERED)
