"""A real workflow that asks its visitor back, through Sidegate: a plain client, and the real @n8n/chat in Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, expect
from yarl import URL

from tests.asking import Chat
from tests.n8n import workflows
from tests.n8n.n8n import N8n, install
from tests.n8n.shop import ask, id_of, shop, shows
from tests.n8n.sidegate import BROWSER, ORIGIN, Sidegate, sidegate

pytestmark = pytest.mark.n8n

HEADERS = {"Origin": ORIGIN, "User-Agent": BROWSER, "Accept-Language": "en"}
OTHER = {"User-Agent": BROWSER.replace("Firefox/140.0", "Firefox/139.0")}
QUIET_BEATS = 4  # of n8n's timer: it has cancelled after two of them what nobody answers


@pytest.fixture(scope="module")
def n8n(tmp_path_factory: pytest.TempPathFactory) -> Iterator[N8n]:
    """One of its own: it would wait at its end for the executions that these tests leave waiting."""
    install()
    own = N8n(tmp_path_factory.mktemp("n8n"))
    own.seed([], [workflows.asking()])
    own.start()
    yield own
    own.kill()


@dataclass
class Visitor:
    http: aiohttp.ClientSession
    server: Sidegate

    async def begin(self, text: str = "hello") -> dict[str, str]:
        fields = {"action": "sendMessage", "sessionId": "v1", "chatInput": text}
        async with self.http.post(f"{self.server.url}/chat/default", json=fields, headers=HEADERS) as response:
            started = await response.json()
            assert response.status == 200, started
        return {"sessionId": "v1", "executionId": started["executionId"], "token": started["resumeToken"]}

    @asynccontextmanager
    async def chat(self, query: dict[str, str], **headers: str) -> AsyncIterator[Chat]:
        url = f"{self.server.url}/chat"
        async with self.http.ws_connect(url, params=query, headers=HEADERS | headers) as socket:
            yield Chat(socket)

    async def press(self, link: str, **headers: str) -> tuple[int, str]:
        async with self.http.get(link, headers=HEADERS | headers) as response:
            return response.status, await response.text()


@asynccontextmanager
async def visitor(n8n: N8n, folder: Path) -> AsyncIterator[Visitor]:
    async with (
        sidegate(n8n.webhook("asking/chat"), folder, SIDEGATE__UPSTREAMS__DEFAULT__AUTH="none") as server,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        yield Visitor(http, server)


async def said(widget: Chat) -> Any:  # Any: a text, an object, or a close code
    """The next that is not `continue`."""
    while (frame := await widget.next()) == "n8n|continue":
        pass
    return frame


@pytest.mark.parametrize("caption", ["Approve", "Decline"])
async def test_a_question_an_answer_and_a_button(n8n: N8n, tmp_path: Path, caption: str) -> None:
    async with visitor(n8n, tmp_path) as ada, ada.chat(await ada.begin("hi, ada@acme.test")) as widget:
        assert await said(widget) == "You said hi, ada@acme.test. Your name?"
        await widget.say("<script>alert(1)</script>")
        assert (await said(widget))["code"] == "content_blocked"
        await widget.say("Ada")
        assert await said(widget) == "Hello, Ada. Mail [EMAIL]"
        question = await said(widget)
        assert question["text"] == "May I &lt;img src=//evil.example>?"
        assert question["blockUserInput"] is True
        links = {one["text"]: one["link"] for one in question["buttons"]}
        link = links[caption]
        assert link.startswith(f"{ada.server.url}/webhook-waiting/")
        assert (await ada.press(link, **OTHER))[0] == 404
        assert (await ada.press(link[:-5] + "AAAAA"))[0] == 404
        assert await ada.press(link) == (200, "Thank you. You can go back to the chat.\n")
        assert (await ada.press(link))[0] in (404, 409)
        assert await said(widget) == f"Approved: {str(caption == 'Approve').lower()}"
        assert await said(widget) == 1000


async def test_nobody_else_gets_the_question(n8n: N8n, tmp_path: Path) -> None:
    async with visitor(n8n, tmp_path) as ada:
        query = await ada.begin()
        other = await ada.begin()
        for wrong, headers in (
            (query, OTHER),
            (query | {"token": other["token"]}, {}),
            (query | {"executionId": other["executionId"]}, {}),
            (query | {"sessionId": "v2"}, {}),
            ({"sessionId": "v1", "executionId": "1", "isPublic": "true"}, {}),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
                async with ada.chat(wrong, **headers):
                    pass
        async with ada.chat(query) as widget:
            assert await said(widget) == "You said hello. Your name?"


async def test_who_says_nothing_for_minutes_or_comes_back_is_waited_for(n8n: N8n, tmp_path: Path) -> None:
    async with visitor(n8n, tmp_path) as ada:
        query = await ada.begin()
        async with ada.chat(query) as widget:
            beats = 0
            while beats < QUIET_BEATS:  # unanswered
                frame = await widget.socket.receive(70)
                assert frame.type is aiohttp.WSMsgType.TEXT
                beats += frame.data == "n8n|heartbeat"
        async with ada.chat(query) as widget:
            assert await said(widget) == "You said hello. Your name?"
            await widget.say("Ada")
            assert await said(widget) == "Hello, Ada. Mail [EMAIL]"


async def test_an_n8n_that_dies_is_told_and_the_question_is_still_open_when_it_is_back(
    n8n: N8n, tmp_path: Path
) -> None:
    async with visitor(n8n, tmp_path) as ada:
        query = await ada.begin()
        async with ada.chat(query) as widget:
            assert await said(widget) == "You said hello. Your name?"
            n8n.kill()
            failure = await said(widget)
            assert (failure["type"], failure["code"]) == ("error", "upstream_error")
            assert await said(widget) == 1011
        await asyncio.to_thread(n8n.start)
        async with ada.chat(query) as widget:
            assert await said(widget) == "You said hello. Your name?"
            await widget.say("Ada")
            assert await said(widget) == "Hello, Ada. Mail [EMAIL]"


async def frames_of(page: Page) -> tuple[list[str], list[str]]:
    """Addresses of the page's WebSockets, and of what its buttons fetch, as they come."""
    sockets: list[str] = []
    buttons: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.on("request", lambda request: buttons.append(request.url) if "/webhook-waiting/" in request.url else None)
    return sockets, buttons


@pytest.mark.browser
@pytest.mark.npm
@pytest.mark.parametrize("is_here", [False, True])
async def test_the_real_widget_is_asked_answers_and_presses_a_button(n8n: N8n, tmp_path: Path, is_here: bool) -> None:
    """On the shop's own origin, and on a page of Sidegate's."""
    async with shop(n8n, tmp_path, "asking/chat", AUTH="none") as page_of:
        url = f"{page_of.server.url}/their/page" if is_here else ""
        async with page_of.visit(streaming=False, url=url) as page:
            sockets, buttons = await frames_of(page)
            await ask(page, "hello")
            await shows(page, "You said hello. Your name?")
            await ask(page, "Ada")
            await shows(page, "Hello, Ada. Mail [EMAIL]", "May I <img src=//evil.example>?")
            assert await page.locator(".chat-message img").count() == 0
            query = URL(sockets[0]).query
            assert query["executionId"] != ""
            version = 140 if is_here else 139  # there it takes another kind of browser to be told apart
            async with page_of.visit(streaming=False, version=version, visitor=await id_of(page), url=url) as other:
                refused = await other.evaluate(
                    "url => new Promise(done => { const s = new WebSocket(url);"
                    " s.onopen = () => done('open'); s.onerror = () => done('refused'); })",
                    sockets[0],
                )
                assert refused == "refused"
            await page.get_by_role("button", name="Approve").click()
            await shows(page, "Approved: true")
            assert len(buttons) == 1
            assert buttons[0].startswith(f"{page_of.server.url}/webhook-waiting/")
            await expect(page.locator('[data-test-id="chat-input"]')).to_be_visible()


@pytest.mark.browser
@pytest.mark.npm
async def test_a_widget_that_reads_a_stream_says_that_it_cannot_be_asked(n8n: N8n, tmp_path: Path) -> None:
    async with (
        shop(n8n, tmp_path, "asking/chat", AUTH="none") as page_of,
        page_of.visit(streaming=True) as page,
    ):
        await ask(page, "hello")
        await shows(page, "which this page can't show")
