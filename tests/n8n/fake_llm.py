"""A language model that answers by script, with the part of OpenAI's API that n8n uses (chat completions, streamed).

It runs in a thread of its own, so one server serves tests on many event loops; times are time.monotonic(), which the
whole machine shares.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from aiohttp import web

Ending = Literal["done", "refused", "cut", "error", "gone", "tool"]


class ChatMessage(TypedDict, total=False):
    role: str
    content: str | list[dict[str, str]]


@dataclass(frozen=True)
class Plan:
    """What the next requests get. Times are in seconds; what follows `after` happens once so many tokens were sent."""

    tokens: tuple[str, ...] = ("Good ", "morning, ", "dear ", "client.")
    first: float = 0.0  # wait before the first token
    delay: float = 0.0  # wait after each token
    status: int = 200  # anything else is answered at once, with no token
    fault: Literal["none", "cut", "error"] = (
        "none"  # cut: the connection is reset; error: OpenAI's error inside the stream
    )
    after: int = 0
    tool_input: str = (
        ""  # not empty: ask for the first tool on offer with this input; the text follows the tool's result
    )


@dataclass
class Seen:
    """One request, and what became of it."""

    messages: list[ChatMessage]
    plan: Plan
    sent: list[tuple[str, float]] = field(default_factory=list)  # token, when it was written
    ending: Ending | None = None

    @property
    def prompt(self) -> str:
        """The last thing the client said."""
        return next((text_of(message) for message in reversed(self.messages) if message.get("role") == "user"), "")


def text_of(message: ChatMessage) -> str:
    content = message.get("content", "")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "scripted",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def tool_call(name: str, text: str) -> Iterator[bytes]:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
    yield chunk({"role": "assistant", "content": None, "tool_calls": [call]})
    yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": json.dumps({"input": text})}}]})
    yield chunk({}, "tool_calls")
    yield b"data: [DONE]\n\n"


class FakeLlm:
    """Start, set `plan`, let n8n talk to `url`, look at `seen`."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.seen: list[Seen] = []
        self._port = 0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fake-llm")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the scripted language model did not start")

    def stop(self) -> None:
        if self._loop is not None and self._ending is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(10)

    def reset(self) -> None:
        self.plan = Plan()
        self.seen.clear()

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._ending.wait()  # set by stop()
        await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen = Seen(messages=body["messages"], plan=self.plan)
        self.seen.append(seen)
        if seen.plan.status != 200:
            seen.ending = "refused"
            error = {"message": f"scripted failure {seen.plan.status}", "type": "scripted", "code": "scripted"}
            return web.json_response({"error": error}, status=seen.plan.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            if seen.plan.tool_input and not any(message.get("role") == "tool" for message in seen.messages):
                for part in tool_call(body["tools"][0]["function"]["name"], seen.plan.tool_input):
                    await response.write(part)
                seen.ending = "tool"
            else:
                await self._stream(request, response, seen)
        except (ConnectionError, asyncio.CancelledError):
            seen.ending = "gone"
            raise
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse, seen: Seen) -> None:
        plan = seen.plan
        await asyncio.sleep(plan.first)
        await response.write(chunk({"role": "assistant", "content": ""}))
        for count, token in enumerate(plan.tokens):
            if plan.fault != "none" and count == plan.after:
                break
            await response.write(chunk({"content": token}))
            seen.sent.append((token, time.monotonic()))
            await asyncio.sleep(plan.delay)
        if plan.fault == "cut":
            seen.ending = "cut"
            if request.transport is not None:
                request.transport.abort()
        elif plan.fault == "error":
            seen.ending = "error"
            await response.write(
                b'data: {"error":{"message":"scripted failure in the stream","type":"server_error"}}\n\n'
            )
        else:
            seen.ending = "done"
            await response.write(chunk({}, "stop"))
            await response.write(b"data: [DONE]\n\n")
