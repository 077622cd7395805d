"""The chat page on the real server, as a visitor's first look finds it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from playwright.async_api import Browser, expect

from tests.browser.chat import visiting
from tests.servers import free_port

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

DEADLINE = 20.0  # seconds for the server to start, to end, or to notice something


@dataclass
class Server:
    process: asyncio.subprocess.Process
    url: str
    ops_url: str


@asynccontextmanager
async def running(command: str, *arguments: str, port: int, ops_port: int) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", command, *arguments,
        env={"PATH": os.environ["PATH"]}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    server = Server(process, f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{ops_port}")
    try:
        await until_open_streams(server, 0)
        yield server
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            await process.wait()


async def until_open_streams(server: Server, number: int) -> None:
    """Ask the server until it has that many answers under way."""
    async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"{server.ops_url}/health") as response:
                    if (await response.json())["sse_connections"] == number:
                        return
            except aiohttp.ClientConnectionError:
                assert server.process.returncode is None, "the server did not start"
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def demo() -> AsyncIterator[Server]:
    port, ops_port = free_port(), free_port()
    ports = ["--port", str(port), "--ops-port", str(ops_port)]
    async with running("demo", *ports, port=port, ops_port=ops_port) as server:
        yield server


@asynccontextmanager
async def configured(folder: Path, **sections: Any) -> AsyncIterator[Server]:  # Any: configuration as written
    port, ops_port = free_port(), free_port()
    file = folder / "sidegate.yaml"
    tree = {
        "environment": "development",
        "listen": {"host": "127.0.0.1", "port": port},
        "ops": {"port": ops_port},
        "upstreams": {"echo": {"kind": "echo"}},
        "sites": {"demo": {"upstream": "echo", "page": True}},
        **sections,
    }
    file.write_text(yaml.safe_dump(tree))
    async with running("serve", "--config", str(file), port=port, ops_port=ops_port) as server:
        yield server


QUESTION = (
    "Please repeat these words so that they can be seen to arrive one after the other, with <b>care</b> & patience."
)

WATCH = """() => {
  window.lengths = [];
  new MutationObserver(() => {
    const length = document.querySelector('[data-role="text"]')?.textContent.length ?? 0;
    if (length !== window.lengths.at(-1)) window.lengths.push(length);
  }).observe(document.querySelector('#log'), { childList: true, characterData: true, subtree: true });
}"""


async def test_an_echo_grows_word_by_word_and_ends_complete(browser: Browser, demo: Server) -> None:
    async with visiting(browser, demo.url) as chat:
        await chat.page.evaluate(WATCH)
        await chat.ask(QUESTION)
        await chat.has_state("done")
        await expect(chat.text).to_have_text(f"You said: {QUESTION}")
        lengths = [length for length in await chat.page.evaluate("lengths") if length]
        assert len(lengths) >= 5
        assert lengths == sorted(set(lengths))
        assert lengths[-1] == len(f"You said: {QUESTION}")
        assert chat.refusals == []


async def test_a_first_look_meets_the_policy_and_asks_nobody_else(browser: Browser, demo: Server) -> None:
    """`visiting` fails on console errors, violations of the policy and requests to another origin."""
    async with visiting(browser, demo.url) as chat:
        response = await chat.page.reload()
        assert response is not None
        policy = await response.header_value("content-security-policy")
        assert policy is not None
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for _ in range(2):
            await chat.ask("Hello")
            await chat.has_state("done")
        await chat.answer.locator('[data-role="copy"]').click()
        await expect(chat.answer.locator('[data-role="copy"]')).to_have_text("Copied")
        await chat.page.locator("#new").click()
        await chat.ask("Hello again")
        await expect(chat.text).to_have_text("You said: Hello again")
        assert chat.refusals == []


async def test_the_policy_stops_foreign_requests_and_inline_code(browser: Browser, demo: Server) -> None:
    """The other side of it: were markup ever to get into the page, this is what the policy does."""
    async with visiting(browser, demo.url) as chat:
        await chat.page.evaluate(
            """() => {
              document.body.append(document.createRange().createContextualFragment(
                '<img src="https://tracker.invalid/?q=secret"><script>document.title = "owned"</script>'));
            }"""
        )
        await chat.page.evaluate("new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))")
        violations = [error for error in chat.errors if error.startswith("violation")]
        assert sorted(violations) == ["violation img-src", "violation script-src-elem"]
        assert await chat.page.title() == "Chat"
        chat.errors.clear()
        chat.foreign.clear()


async def test_an_access_token_is_refreshed_by_the_real_server(browser: Browser, tmp_path: Path) -> None:
    requests: list[str] = []
    async with configured(tmp_path) as server, visiting(browser, server.url, clock=True) as chat:
        chat.page.on("request", lambda request: requests.append(request.url))
        await chat.ask("One")
        await chat.has_state("done")
        await chat.page.clock.fast_forward(15 * 60 * 1000)
        await chat.ask("Two")
        await expect(chat.text).to_have_text("You said: Two")
        await chat.has_state("done")
    calls = [url.removeprefix(server.url) for url in requests if "/v1/" in url]
    assert calls == ["v1/session", "v1/messages", "v1/session/refresh", "v1/messages"]


async def test_a_real_rate_limit_counts_down_and_then_lets_the_message_pass(browser: Browser, tmp_path: Path) -> None:
    limits = [{"per": "session", "limit": 1, "window": 8}]
    async with configured(tmp_path, limits=limits) as server, visiting(browser, server.url) as chat:
        await chat.ask("One")
        await chat.has_state("done")
        await chat.ask("Two")
        await expect(chat.notice).to_contain_text("Too many messages")
        await expect(chat.retry).to_be_disabled()
        await expect(chat.retry).to_be_enabled()
        await chat.retry.click()
        await expect(chat.text).to_have_text("You said: Two")


async def test_a_message_that_is_too_long_for_the_server_comes_back_for_editing(
    browser: Browser, tmp_path: Path
) -> None:
    content = {"max_chars": 10}
    async with configured(tmp_path, content=content) as server, visiting(browser, server.url) as chat:
        await chat.ask("More than ten characters")
        await chat.has_state("error")
        await expect(chat.notice).to_contain_text("under 10 characters")
        await chat.answer.locator('[data-role="edit"]').click()
        await expect(chat.message).to_have_value("More than ten characters")


SLOW = {"echo": {"kind": "echo", "delay": 60}}  # the first word comes at once


async def test_stop_ends_the_answer_on_the_server_too(browser: Browser, tmp_path: Path) -> None:
    async with configured(tmp_path, upstreams=SLOW) as server, visiting(browser, server.url) as chat:
        await chat.ask("Hello")
        await expect(chat.text).to_have_text("You")
        await until_open_streams(server, 1)
        await chat.page.locator("#stop").click()
        await chat.has_state("stopped")
        await until_open_streams(server, 0)


async def test_a_page_that_is_reloaded_during_an_answer_gets_the_rest_of_it(browser: Browser, demo: Server) -> None:
    question = " ".join(f"word{number}" for number in range(100))
    async with visiting(browser, demo.url) as chat, aiohttp.ClientSession() as http:
        before = await answers(http, demo)
        await chat.ask(question)
        await expect(chat.text).to_contain_text("word10 ")
        await chat.page.reload()
        await expect(chat.text).to_contain_text("word10 ")
        await chat.has_state("done")
        await expect(chat.text).to_have_text(f"You said: {question}")
        assert await answers(http, demo) == before + 1  # the upstream was asked once
        await chat.page.reload()
        await expect(chat.page.locator("#empty")).to_be_visible()  # what is finished is not asked for again


async def answers(http: aiohttp.ClientSession, server: Server) -> int:
    async with http.get(f"{server.ops_url}/metrics", headers={"Accept": "application/json"}) as response:
        return int((await response.json())["metrics"].get("sidegate_answers_total", 0))


async def test_a_server_that_dies_during_an_answer_cuts_it(browser: Browser, tmp_path: Path) -> None:
    async with configured(tmp_path, upstreams=SLOW) as server, visiting(browser, server.url) as chat:
        await chat.ask("Hello")
        await expect(chat.text).to_have_text("You")
        supervisor = server.process.pid
        workers = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()  # noqa: ASYNC240 - memory
        server.process.kill()  # first, or it would replace the others
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        await chat.has_state("cut")
        await expect(chat.text).to_have_text("You")
        await expect(chat.retry).to_be_enabled()


async def test_a_server_that_restarts_during_an_answer_says_so(browser: Browser, tmp_path: Path) -> None:
    async with configured(tmp_path, upstreams=SLOW) as server, visiting(browser, server.url) as chat:
        await chat.ask("Hello")
        await expect(chat.text).to_have_text("You")
        server.process.send_signal(signal.SIGTERM)
        await chat.has_state("error")
        await expect(chat.text).to_have_text("You")
        await expect(chat.notice).to_contain_text("restarting")


async def test_under_pressure_the_page_proves_itself_and_nobody_has_to_click(browser: Browser, tmp_path: Path) -> None:
    """The same message by a program that can't solve anything is refused."""
    async with configured(tmp_path, challenge={"mode": "always", "max_number": 5000}) as server:
        async with visiting(browser, server.url) as chat:
            for question in ("Hello", "Hello again"):
                await chat.ask(question)
                await chat.has_state("done")
                await expect(chat.text).to_have_text(f"You said: {question}")
            (refusal,) = chat.refusals
            assert "428" in refusal
        async with aiohttp.ClientSession() as http:
            headers = {"Origin": server.url.rstrip("/")}
            async with http.post(f"{server.url}v1/session", headers=headers) as response:
                headers["Authorization"] = f"Bearer {(await response.json())['access_token']}"
            async with http.post(f"{server.url}v1/messages", headers=headers, json={"message": "Hello"}) as response:
                assert response.status == 428
