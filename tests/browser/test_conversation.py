"""A conversation on the chat page, as long as all goes well."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Browser, expect

from tests.browser.chat import Chat, visiting
from tests.browser.stub import Line, Stub, refuses, says

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

LONG = "\n\n".join(f"Paragraph {number}, with some words in it." for number in range(60))


async def test_an_answer_grows_piece_by_piece(chat: Chat, stub: Stub) -> None:
    seen = asyncio.Semaphore(0)

    async def reply(line: Line) -> None:
        await line.start()
        for piece in ("One, ", "two, ", "three."):
            await line.say(piece)
            await seen.acquire()
        await line.done()

    stub.replies = [reply]
    await chat.ask("Count")
    for so_far in ("One,", "One, two,", "One, two, three."):
        await expect(chat.text).to_have_text(so_far)
        await chat.has_state("streaming")
        seen.release()
    await chat.has_state("done")
    await expect(chat.text).to_have_text("One, two, three.")


async def test_a_caret_marks_where_the_next_words_appear_until_the_answer_is_complete(chat: Chat, stub: Stub) -> None:
    gate = asyncio.Event()

    async def reply(line: Line) -> None:
        await line.say("- one\n- two\n  - deep")
        await gate.wait()
        await line.done()

    stub.replies = [reply]
    await chat.ask("List")
    await expect(chat.text.locator("li li .caret")).to_be_visible()
    gate.set()
    await chat.has_state("done")
    await expect(chat.text.locator(".caret")).to_have_count(0)


async def test_an_answer_that_comes_all_at_once_is_left_without_a_caret(chat: Chat, stub: Stub) -> None:
    stub.replies = [says("All at once")]
    await chat.ask("Hello")
    await chat.has_state("done")
    await chat.page.evaluate("new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))")
    await expect(chat.text).to_have_text("All at once")
    assert await chat.text.locator(".caret").count() == 0


async def test_a_letter_that_arrives_in_two_reads_is_one_letter(chat: Chat, stub: Stub) -> None:
    shown = asyncio.Event()
    second = 'event: delta\ndata: {"text": "é€🙂"}\n\n'.encode()
    split = second.index("🙂".encode()) + 2

    async def splits(line: Line) -> None:
        await line.raw(b'event: delta\ndata: {"text": "one "}\n\n' + second[:split])
        await shown.wait()
        await line.raw(second[split:])
        await line.done()

    stub.replies = [splits]
    await chat.ask("Hello")
    await expect(chat.text).to_have_text("one")
    shown.set()
    await chat.has_state("done")
    await expect(chat.text).to_have_text("one é€🙂")


async def test_shift_enter_starts_a_new_line_and_enter_sends(chat: Chat, stub: Stub) -> None:
    await chat.message.fill("first")
    await chat.message.press("Shift+Enter")
    await chat.page.keyboard.type("second")
    await chat.message.press("Enter")
    await chat.has_state("done")
    assert [line.message for line in stub.lines] == ["first\nsecond"]
    await expect(chat.message).to_have_value("")


async def test_enter_that_confirms_an_input_methods_suggestion_does_not_send(chat: Chat, stub: Stub) -> None:
    await chat.message.fill("にほん")
    await chat.message.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    await expect(chat.message).to_have_value("にほん")
    await chat.message.press("Enter")
    await chat.has_state("done")
    assert [line.message for line in stub.lines] == ["にほん"]


async def test_the_send_button_sends_and_the_keyboard_stays_in_the_message(chat: Chat, stub: Stub) -> None:
    await chat.message.fill("Hello")
    await chat.page.locator("#send").click()
    await expect(chat.text).to_have_text("You said: Hello")
    await expect(chat.message).to_be_focused()


async def test_an_empty_message_is_not_sent(chat: Chat, stub: Stub) -> None:
    await chat.ask("  \n ")
    await expect(chat.page.locator("#send")).to_be_disabled()
    await expect(chat.page.locator("#log")).to_be_empty()


@pytest.mark.parametrize("how", ["button", "escape"])
async def test_stop_keeps_the_text_so_far_and_ends_the_request(chat: Chat, stub: Stub, how: str) -> None:
    async def endless(line: Line) -> None:
        await line.say("The beginning")
        await asyncio.Event().wait()  # ended by the client

    stub.replies = [endless]
    await chat.ask("Go on")
    await expect(chat.text).to_have_text("The beginning")
    if how == "button":
        await chat.page.locator("#stop").click()
    else:
        await chat.page.keyboard.press("Escape")
    await chat.has_state("stopped")
    await expect(chat.text).to_have_text("The beginning")
    await expect(chat.page.locator("#send")).to_be_visible()
    async with asyncio.timeout(10):
        await stub.left.wait()


async def test_what_is_typed_during_an_answer_waits_in_the_box(chat: Chat, stub: Stub) -> None:
    gate = asyncio.Event()

    async def reply(line: Line) -> None:
        await line.say("Wait")
        await gate.wait()
        await line.done()

    stub.replies = [reply]
    await chat.ask("First")
    await expect(chat.text).to_have_text("Wait")
    await chat.ask("Second")
    await expect(chat.message).to_have_value("Second")
    gate.set()
    await chat.has_state("done")
    assert len(stub.lines) == 1
    await chat.message.press("Enter")
    await expect(chat.text).to_have_text("You said: Second")


async def test_every_try_that_was_answered_has_a_key_of_its_own(chat: Chat, stub: Stub) -> None:
    stub.replies = [says("one"), refuses(503, "upstream_unavailable", "Not now."), says("two")]
    await chat.ask("Hello")
    await chat.has_state("done")
    await chat.ask("Again")
    await chat.has_state("error")
    await chat.retry.click()
    await chat.has_state("done")
    keys = [line.key for line in stub.lines]
    assert len(set(keys)) == 3
    assert all(re.fullmatch(r"[0-9a-f]{32}", key) for key in keys)


async def test_trying_again_after_a_cut_asks_for_the_same_answer(chat: Chat, stub: Stub) -> None:
    async def cut(line: Line) -> None:
        await line.start()
        await line.say("Half an ")

    stub.replies = [cut, says("Half an answer.")]
    await chat.ask("Hello")
    await chat.has_state("cut")
    await chat.retry.click()
    await chat.has_state("done")
    assert len({line.key for line in stub.lines}) == 1


async def test_a_session_outlives_a_reload_and_the_conversation_does_not(chat: Chat, stub: Stub) -> None:
    await chat.ask("Remember the secret word")
    await chat.has_state("done")
    kept = await chat.page.evaluate("JSON.stringify({...sessionStorage, ...localStorage}) + document.cookie")
    assert "access-1" in kept
    assert "secret word" not in kept
    await chat.page.reload()
    await expect(chat.page.locator("#empty")).to_be_visible()
    await chat.ask("Again")
    await chat.has_state("done")
    assert stub.opened == 1


async def test_an_ended_session_is_replaced_and_the_message_sent_again(chat: Chat, stub: Stub) -> None:
    await chat.ask("Hello")
    await chat.has_state("done")
    stub.access.clear()
    await chat.ask("Still there?")
    await expect(chat.text).to_have_text("You said: Still there?")
    assert stub.opened == 2


async def test_an_access_token_is_refreshed_before_it_ends(chat: Chat, stub: Stub) -> None:
    stub.expires_in = 5
    await chat.ask("Hello")
    await chat.has_state("done")
    await chat.ask("Again")
    await expect(chat.text).to_have_text("You said: Again")
    assert (stub.opened, stub.refreshed) == (1, 1)


async def test_a_refused_refresh_opens_a_new_session(chat: Chat, stub: Stub) -> None:
    stub.expires_in = 5
    await chat.ask("Hello")
    await chat.has_state("done")
    stub.refresh.clear()
    await chat.ask("Again")
    await expect(chat.text).to_have_text("You said: Again")
    assert (stub.opened, stub.refreshed) == (2, 0)


async def test_a_new_conversation_starts_empty_and_with_a_new_session(chat: Chat, stub: Stub) -> None:
    await chat.ask("Hello")
    await chat.has_state("done")
    await chat.page.locator("#new").click()
    await expect(chat.page.locator("#log")).to_be_empty()
    await expect(chat.page.locator("#empty")).to_be_visible()
    await expect(chat.message).to_be_focused()
    await chat.ask("Hello again")
    await chat.has_state("done")
    assert stub.opened == 2


async def test_a_new_conversation_ends_the_answer_that_is_under_way(chat: Chat, stub: Stub) -> None:
    async def endless(line: Line) -> None:
        await line.say("The beginning")
        await asyncio.Event().wait()  # ended by the client

    stub.replies = [endless]
    await chat.ask("Go on")
    await expect(chat.text).to_have_text("The beginning")
    await chat.page.locator("#new").click()
    async with asyncio.timeout(10):
        await stub.left.wait()
    await expect(chat.page.locator("#log")).to_be_empty()
    await chat.ask("Next")
    await expect(chat.text).to_have_text("You said: Next")


@pytest.mark.parametrize("api", ["navigator.clipboard", "document.execCommand"])
async def test_copy_takes_the_answer_as_it_was_written(chat: Chat, stub: Stub, api: str) -> None:
    if api == "document.execCommand":  # an origin that isn't secure has no clipboard API
        await chat.page.evaluate("() => delete Navigator.prototype.clipboard")
        answer = "Plain words"
    else:
        answer = "Some **bold** words\n\n- and a list"
    stub.replies = [says(answer)]
    await chat.ask("Write")
    copy = chat.answer.locator('[data-role="copy"]')
    await copy.click()
    await expect(copy).to_have_text("Copied")
    await chat.message.press("Control+V")
    await expect(chat.message).to_have_value(answer)


async def test_the_counter_shows_near_the_limit_and_counts_code_points(chat: Chat, stub: Stub) -> None:
    count, send = chat.page.locator("#count"), chat.page.locator("#send")
    await chat.message.fill("a" * 1599)
    await expect(count).to_be_hidden()
    await chat.message.fill("🙂" * 2000)
    await expect(count).to_have_text("2,000 / 2,000")
    await expect(send).to_be_enabled()
    await chat.message.fill("🙂" * 2001)
    await expect(count).to_have_text("1 over the limit")
    await expect(chat.message).to_have_attribute("aria-invalid", "true")
    await expect(send).to_be_disabled()
    await chat.message.press("Enter")
    await expect(chat.page.locator("#log")).to_be_empty()


async def test_the_message_box_grows_with_its_text_and_shrinks_after(chat: Chat, stub: Stub) -> None:
    async def height() -> float:
        box = await chat.message.bounding_box()
        assert box is not None
        return box["height"]

    small = await height()
    await chat.message.fill("one\ntwo\nthree\nfour")
    assert await height() > small * 2
    await chat.message.fill("line\n" * 200)
    assert await height() <= 0.4 * 800
    await chat.message.fill("")
    assert await height() == small


async def test_a_suggestion_asks_its_question(chat: Chat, stub: Stub) -> None:
    suggestion = chat.page.locator('[data-role="suggestion"]').first
    words = await suggestion.inner_text()
    await suggestion.click()
    await expect(chat.text).to_have_text(f"You said: {words}")
    await expect(chat.page.locator("#empty")).to_be_hidden()


AT_THE_END = "document.documentElement.scrollHeight - innerHeight - scrollY < 2"


async def test_the_view_follows_an_answer_to_its_end(chat: Chat, stub: Stub) -> None:
    stub.replies = [says(*re.split("(?<=\n\n)", LONG))]
    await chat.ask("Tell me everything")
    await chat.has_state("done")
    assert await chat.page.evaluate("document.documentElement.scrollHeight > 2 * innerHeight")
    assert await chat.page.evaluate(AT_THE_END)
    await expect(chat.page.locator("#latest")).to_be_hidden()


async def test_the_view_stays_where_the_reader_scrolled_to(chat: Chat, stub: Stub) -> None:
    gate = asyncio.Event()

    async def reply(line: Line) -> None:
        await line.say(LONG)
        await gate.wait()
        await line.say("\n\nThe end.")
        await line.done()

    stub.replies = [reply]
    await chat.ask("Tell me everything")
    await expect(chat.text).to_contain_text("Paragraph 59")
    await chat.page.mouse.move(600, 300)
    await chat.page.mouse.wheel(0, -500)
    await expect(chat.page.locator("#latest")).to_be_visible()
    before = await chat.page.evaluate("scrollY")
    gate.set()
    await expect(chat.text).to_contain_text("The end.")
    await chat.has_state("done")
    assert await chat.page.evaluate("scrollY") == before
    await chat.page.locator("#latest").click()
    await expect(chat.page.locator("#latest")).to_be_hidden()
    assert await chat.page.evaluate(AT_THE_END)


async def test_typing_does_not_move_what_is_being_read(chat: Chat, stub: Stub) -> None:
    stub.replies = [says(LONG)]
    await chat.ask("Tell me everything")
    await chat.has_state("done")
    await chat.page.mouse.move(600, 300)
    await chat.page.mouse.wheel(0, -700)
    await expect(chat.page.locator("#latest")).to_be_visible()
    before = await chat.page.evaluate("scrollY")
    await chat.page.keyboard.type("Next question")
    await chat.page.keyboard.press("Shift+Enter")
    await chat.page.keyboard.type("and more")
    assert await chat.page.evaluate("scrollY") == before


async def test_a_long_wait_is_acknowledged(browser: Browser, stub: Stub) -> None:
    async def endless(line: Line) -> None:
        await line.start()
        await asyncio.Event().wait()  # ended by the client

    stub.replies = [endless]
    async with visiting(browser, stub.url, clock=True) as chat:
        await chat.ask("Think")
        await expect(chat.answer.locator(".waiting")).to_have_text("Thinking…")
        await chat.page.clock.fast_forward(10_000)
        await expect(chat.answer.locator(".waiting")).to_have_text("Still working on it…")
