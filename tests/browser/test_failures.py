"""What the chat page says and offers when something fails."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from tests.browser.chat import Chat, visiting
from tests.browser.stub import Line, Stub, problem, refuses, says

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TOO_MANY = "Too many messages. Please wait a moment."


async def test_a_rate_limit_counts_down_to_a_retry_that_works(browser: Browser, stub: Stub) -> None:
    stub.replies = [refuses(429, "rate_limited", TOO_MANY, 14), says("Here you are.")]
    async with visiting(browser, stub.url, clock=True) as chat:
        await chat.ask("Hello")
        await chat.has_state("error")
        await expect(chat.notice).to_contain_text(TOO_MANY)
        await expect(chat.notice).to_contain_text("Reference r-1")
        await expect(chat.retry).to_be_disabled()
        await expect(chat.retry).to_have_text("Try again in 14 s")
        await chat.page.clock.run_for(4_000)
        await expect(chat.retry).to_have_text("Try again in 10 s")
        await chat.page.clock.run_for(10_000)
        await expect(chat.retry).to_be_enabled()
        await expect(chat.retry).to_have_text("Try again")
        await expect(chat.page.locator("#status")).to_have_text("You can try again now.")
        await chat.retry.click()
        await expect(chat.text).to_have_text("Here you are.")
        await expect(chat.page.locator('[data-role="answer"]')).to_have_count(1)
        await expect(chat.notice).to_have_count(0)


async def test_the_ticking_of_a_countdown_is_not_read_out(chat: Chat, stub: Stub) -> None:
    stub.replies = [refuses(429, "rate_limited", TOO_MANY, 600)]
    await chat.ask("Hello")
    await expect(chat.retry).to_have_text("Try again in 10 min")
    assert await chat.retry.evaluate("(node) => node.closest('[aria-live]').getAttribute('aria-live')") == "off"


async def test_an_answer_without_an_end_is_cut_and_its_text_stays(chat: Chat, stub: Stub) -> None:
    async def cut(line: Line) -> None:
        await line.start()
        await line.say("Half an ans")

    stub.replies = [cut, says("A whole answer.")]
    await chat.ask("Hello")
    await chat.has_state("cut")
    await expect(chat.text).to_have_text("Half an ans")
    await expect(chat.notice).to_contain_text("incomplete")
    await chat.retry.click()
    await expect(chat.text).to_have_text("A whole answer.")
    await chat.has_state("done")
    assert [line.message for line in stub.lines] == ["Hello", "Hello"]


async def test_a_connection_that_breaks_during_an_answer_is_a_cut(chat: Chat, stub: Stub) -> None:
    shown = asyncio.Event()

    async def breaks(line: Line) -> None:
        await line.start()
        await line.say("Half an ans")
        await shown.wait()  # a reset overtakes what the browser hasn't read yet
        line.break_connection()

    stub.replies = [breaks]
    await chat.ask("Hello")
    await expect(chat.text).to_have_text("Half an ans")
    shown.set()
    await chat.has_state("cut")
    await expect(chat.text).to_have_text("Half an ans")
    await expect(chat.notice).to_contain_text("connection was lost")
    await expect(chat.retry).to_be_enabled()


async def test_an_event_that_is_not_json_is_a_cut(chat: Chat, stub: Stub) -> None:
    async def garbles(line: Line) -> None:
        await line.say("Half an ans")
        await line.raw(b"event: delta\ndata: {\n\n")
        await line.done()

    stub.replies = [garbles]
    await chat.ask("Hello")
    await chat.has_state("cut")


async def test_a_silent_connection_is_given_up(browser: Browser, stub: Stub) -> None:
    async def falls_silent(line: Line) -> None:
        await line.say("Half an ans")
        await asyncio.Event().wait()  # ended by the client

    stub.replies = [falls_silent]
    async with visiting(browser, stub.url, clock=True) as chat:
        await chat.ask("Hello")
        await expect(chat.text).to_have_text("Half an ans")
        await chat.page.clock.fast_forward(46_000)
        await chat.has_state("cut")
        await expect(chat.notice).to_contain_text("silent")
        async with asyncio.timeout(10):
            await stub.left.wait()


HEAR = """() => {
  const { decode } = TextDecoder.prototype;
  const { dataset } = document.documentElement;
  dataset.heard = '';
  TextDecoder.prototype.decode = function (...args) {
    const text = decode.apply(this, args);
    dataset.heard += text;
    return text;
  };
}"""


async def test_heartbeats_keep_a_slow_answer_alive(browser: Browser, stub: Stub) -> None:
    ticks = asyncio.Semaphore(0)

    async def slow(line: Line) -> None:
        await line.start()
        for number in range(4):
            await ticks.acquire()
            await line.raw(f": beat {number}\n\n".encode())
        await ticks.acquire()
        await line.say("At last")
        await line.done()

    stub.replies = [slow]
    async with visiting(browser, stub.url, clock=True) as chat:
        await chat.page.evaluate(HEAR)
        await chat.ask("Hello")
        heard = chat.page.locator("html")
        await expect(heard).to_have_attribute("data-heard", re.compile("event: start"))
        for number in range(4):
            await chat.page.clock.fast_forward(30_000)
            ticks.release()
            await expect(heard).to_have_attribute("data-heard", re.compile(f": beat {number}"))
        ticks.release()
        await expect(chat.text).to_have_text("At last")
        await chat.has_state("done")


async def test_an_error_after_the_first_words_keeps_them(chat: Chat, stub: Stub) -> None:
    async def fails(line: Line) -> None:
        await line.say("Half an ans")
        await line.event("error", {"code": "upstream_error", "message": "The assistant failed.", "request_id": "r-7"})

    stub.replies = [fails]
    await chat.ask("Hello")
    await chat.has_state("error")
    await expect(chat.text).to_have_text("Half an ans")
    await expect(chat.notice).to_contain_text("The assistant failed.")
    await expect(chat.notice).to_contain_text("r-7")
    await expect(chat.retry).to_be_enabled()


async def test_a_server_that_restarts_during_an_answer_is_not_noticed(chat: Chat, stub: Stub) -> None:
    async def sends_away(line: Line) -> None:
        await line.start()
        await line.say("Half an ans")
        await line.event("error", {"code": "draining", "message": "The service is restarting.", "request_id": "r-8"})

    stub.replies = [sends_away, says("Half an ans", "wer, and the rest.")]
    await chat.ask("Hello")
    await chat.has_state("done")
    await expect(chat.text).to_have_text("Half an answer, and the rest.")
    await expect(chat.notice).to_have_count(0)
    assert stub.lines[0].key == stub.lines[1].key
    await chat.ask("Again")
    await chat.has_state("done")
    assert stub.lines[2].key != stub.lines[1].key


async def test_a_server_that_sends_away_again_and_again_is_an_error_and_the_key_stays(
    browser: Browser, stub: Stub
) -> None:
    async def sends_away(line: Line) -> None:
        await line.start()
        await line.event("error", {"code": "draining", "message": "The service is restarting.", "request_id": "r-8"})

    stub.replies = [sends_away] * 6
    async with visiting(browser, stub.url, clock=True) as chat:
        await chat.ask("Hello")
        for number in range(1, 6):
            async with asyncio.timeout(20):
                while len(stub.lines) < number:  # noqa: ASYNC110 - it happens in the browser
                    await asyncio.sleep(0.02)
            await chat.page.clock.run_for(2000)
        await chat.has_state("error")
        await chat.retry.click()
        await chat.has_state("done")
        assert len({line.key for line in stub.lines}) == 1
        assert len(stub.lines) == 7


async def test_a_proxys_own_error_page_still_makes_a_notice_and_a_countdown(chat: Chat, stub: Stub) -> None:
    async def bad_gateway(line: Line) -> web.StreamResponse:
        body = "<h1>Service Unavailable</h1>"
        return web.Response(status=503, text=body, content_type="text/html", headers={"Retry-After": "30"})

    stub.replies = [bad_gateway]
    await chat.ask("Hello")
    await chat.has_state("error")
    await expect(chat.notice).to_have_text("The assistant could not be reached.")
    await expect(chat.retry).to_be_disabled()


async def test_an_answer_that_is_no_event_stream_is_an_error(chat: Chat, stub: Stub) -> None:
    async def login_page(line: Line) -> web.StreamResponse:
        return web.Response(text="<form>Please log in</form>", content_type="text/html")

    stub.replies = [login_page]
    await chat.ask("Hello")
    await chat.has_state("error")
    await expect(chat.answer).not_to_contain_text("Please log in")


async def test_an_empty_answer_is_said_to_be_empty(chat: Chat, stub: Stub) -> None:
    stub.replies = [says()]
    await chat.ask("Hello")
    await chat.has_state("done")
    await expect(chat.notice).to_have_text("The answer was empty.")
    await expect(chat.retry).to_be_enabled()


async def test_a_blocked_message_comes_back_for_editing(chat: Chat, stub: Stub) -> None:
    stub.replies = [refuses(422, "content_blocked", "That message can't be sent.")]
    await chat.ask("Something bad")
    await chat.has_state("error")
    await expect(chat.retry).to_have_count(0)
    await chat.answer.locator('[data-role="edit"]').click()
    await expect(chat.message).to_have_value("Something bad")
    await expect(chat.message).to_be_focused()


async def test_a_page_that_may_not_use_the_service_offers_nothing(chat: Chat, stub: Stub) -> None:
    stub.replies = [refuses(403, "origin_denied", "This page may not use this service.")]
    await chat.ask("Hello")
    await chat.has_state("error")
    await expect(chat.notice).to_contain_text("This page may not use this service.")
    await expect(chat.answer.locator("button")).to_have_count(0)


async def test_a_session_that_is_refused_twice_is_shown_and_not_asked_for_forever(chat: Chat, stub: Stub) -> None:
    refusal = refuses(401, "session_invalid", "Your session has ended. Please start again.")
    stub.replies = [refusal, refusal]
    await chat.ask("Hello")
    await chat.has_state("error")
    assert stub.opened == 2
    await chat.retry.click()
    await expect(chat.text).to_have_text("You said: Hello")


async def test_a_refused_session_is_shown_like_a_refused_message(chat: Chat, stub: Stub) -> None:
    stub.session_problem = problem(429, "rate_limited", TOO_MANY, 20)
    await chat.ask("Hello")
    await chat.has_state("error")
    await expect(chat.notice).to_contain_text(TOO_MANY)
    await expect(chat.retry).to_be_disabled()


async def test_only_the_last_exchange_offers_a_retry(chat: Chat, stub: Stub) -> None:
    stub.replies = [refuses(503, "upstream_unavailable", "Not now.")]
    await chat.ask("First")
    await chat.has_state("error")
    await chat.ask("Second")
    await chat.has_state("done")
    await expect(chat.page.locator('[data-role="retry"]')).to_have_count(0)
    await expect(chat.page.locator('[data-role="notice"]')).to_have_count(1)


async def test_being_offline_is_said_and_the_message_can_be_sent_later(chat: Chat, stub: Stub) -> None:
    offline = chat.page.locator("#offline")
    await expect(offline).to_be_hidden()
    await chat.page.context.set_offline(True)
    await expect(offline).to_be_visible()
    await chat.ask("Hello")
    await chat.has_state("error")
    await expect(chat.notice).to_have_text("You are offline.")
    await chat.page.context.set_offline(False)
    await expect(offline).to_be_hidden()
    await chat.retry.click()
    await expect(chat.text).to_have_text("You said: Hello")


async def test_a_server_that_is_gone_is_an_error_with_a_retry(chat: Chat, stub: Stub) -> None:
    async def hangs_up(line: Line) -> None:
        line.break_connection()

    # Chromium itself sends a POST again when a connection that it reused breaks before the answer's first byte.
    stub.replies = [hangs_up] * 5
    await chat.ask("Hello")
    await chat.has_state("error")
    await expect(chat.notice).to_have_text("The assistant could not be reached.")
    stub.replies.clear()
    await chat.retry.click()
    await chat.has_state("done")
    assert len({line.key for line in stub.lines}) == 1  # it may have arrived, so the retry is the same message
