"""Clients that come back: whatever cuts them off, they resume where they were, until the answer is over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
import orjson

from tests.sidegate import BROWSER, Event, parse_sse

PAUSE = 0.1  # seconds before coming back
TRIES = 100
PATIENCE = 60.0  # seconds without a word, after which a test gives up


class Refused(Exception):
    """A plain HTTP answer that is neither an answer nor a reason to come back."""


@dataclass
class Returning:
    """One session at several addresses: the first one is asked, and when it is lost, the next."""

    http: aiohttp.ClientSession
    urls: Sequence[str]
    headers: dict[str, str] = field(default_factory=lambda: dict(BROWSER))
    returns: int = 0
    _at: int = 0

    @property
    def url(self) -> str:
        return self.urls[self._at % len(self.urls)]

    async def session(self) -> None:
        async with self.http.post(f"{self.url}/v1/session", headers=self.headers) as response:
            opened = await response.json()
            assert response.status == 200, opened
        self.headers["Authorization"] = f"Bearer {opened['access_token']}"

    async def sse(self, question: str) -> list[Event]:
        """All events of the answer, each as it came first; the last is `done`, or the `error` that it ended in.

        Sent again with its key when it was lost before it began.
        """
        return await self._until_over("", question)

    async def resume(self, answer_id: str) -> list[Event]:
        """The same of an answer that was asked for before."""
        return await self._until_over(answer_id, "")

    async def _until_over(self, answer_id: str, question: str) -> list[Event]:
        events: list[Event] = []
        for _ in range(TRIES):
            answer_id = events[0].fields["answer_id"] if events else answer_id
            last = {"Last-Event-ID": events[-1].id} if events else {}
            try:
                if answer_id:
                    await self._take_over_http(events, "GET", f"/v1/answers/{answer_id}", None, last)
                else:
                    key = {"Idempotency-Key": question}
                    await self._take_over_http(events, "POST", "/v1/messages", {"message": question}, key)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                self._at += 1
            if events and events[-1].name in ("done", "error"):
                return events
            self.returns += 1
            await asyncio.sleep(PAUSE)
        raise AssertionError(f"still not over: {events[-3:]}")

    async def _take_over_http(
        self, events: list[Event], method: str, path: str, body: dict[str, str] | None, more: dict[str, str]
    ) -> None:
        headers = self.headers | {"Accept": "text/event-stream"} | more
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=PATIENCE)
        request = self.http.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=timeout)
        async with request as response:
            if response.status != 200:
                raise Refused(f"{response.status} {await response.text()}")
            data = b""
            async for piece in response.content.iter_any():
                whole, end, data = (data + piece).rpartition(b"\n\n")
                events += [event for event in parse_sse((whole + end).decode()) if not _is_parting(event)]

    async def ws(self, question: str) -> list[Event]:
        """The same through a WebSocket for each part."""
        events: list[Event] = []
        for _ in range(TRIES):
            with suppress(aiohttp.ClientConnectionError):
                async with self.http.ws_connect(f"{self.url}/v1/ws", headers=self.headers) as socket:
                    if events:
                        after = int(events[-1].id.rpartition(":")[2])
                        resume = {"type": "resume", "answer_id": events[0].fields["answer_id"], "after": after}
                        await socket.send_json(resume)
                    else:
                        await socket.send_json({"type": "message", "message": question})
                    async with asyncio.timeout(PATIENCE):
                        await _take(socket, events)
            if events and events[-1].name in ("done", "error"):
                return events
            self._at += 1
            self.returns += 1
            await asyncio.sleep(PAUSE)
        raise AssertionError(f"still not over: {events[-3:]}")


async def _take(socket: aiohttp.ClientWebSocketResponse, events: list[Event]) -> None:
    """Frames as events, until the answer is over or the socket is closed."""
    async for frame in socket:
        fields = orjson.loads(frame.data)
        event = Event(fields.pop("type"), fields, fields.pop("id", ""))
        if not _is_parting(event):
            events.append(event)
            if event.name in ("done", "error"):
                return


def _is_parting(event: Event) -> bool:
    return event.name == "error" and event.fields["code"] == "draining"
