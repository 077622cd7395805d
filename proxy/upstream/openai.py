"""Chat completions in OpenAI's format, as most model servers speak it: a stream of events, or one JSON document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Literal

import aiohttp
from pydantic import ConfigDict, Field, field_validator

from proxy.config import Secret
from proxy.errors import UnsupportedMedia, UpstreamError
from proxy.model import HISTORY, Body, Finish, Request, Usage
from proxy.upstream.body import encode
from proxy.upstream.headers import authorization, refuse_unprintable, request_headers
from proxy.upstream.http import HttpSettings, exchange, pieces
from proxy.upstream.retries import RetryBudget
from proxy.wire.sse import Event, EventParser
from proxy.wire.text import Halves, loads

MAX_TOKENS = 10_000_000  # of one answer; more is a mistake, and would use a budget up


class OpenAiSettings(HttpSettings):
    """`url` is the whole address, up to and including /chat/completions."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["openai"]
    model: str = Field(min_length=1, max_length=200)
    api_key: Secret | None = None  # without one, our own token is sent
    system: str | None = Field(None, max_length=100_000)
    ask_usage: bool = True  # how many tokens an answer took; a few servers refuse the question

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, api_key: Secret | None) -> Secret | None:
        return api_key and refuse_unprintable(api_key)


class OpenAi:
    """An Upstream. The server is often a third party, so nothing of the visitor but the message is sent."""

    def __init__(self, settings: OpenAiSettings, pool: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._pool = pool
        self._retries = RetryBudget()

    def encode(self, request: Request) -> bytes:
        if request.message.files:
            raise UnsupportedMedia("files, for an upstream that takes none")
        messages: list[object] = [] if self._settings.system is None else [_turn("system", self._settings.system)]
        messages += [*_history(request), _turn("user", request.message.text)]
        fields = {"model": self._settings.model, "messages": messages, "stream": True}
        return encode(fields | ({"stream_options": {"include_usage": True}} if self._settings.ask_usage else {}))

    @asynccontextmanager
    async def open(self, request: Request, body: Body, token: str) -> AsyncIterator[AsyncIterator[str]]:
        key = self._settings.api_key
        headers = request_headers(request) | authorization("jwt", token if key is None else key.reveal())
        headers |= {"Accept": "text/event-stream, application/json;q=0.9", "User-Agent": "sidegate"}
        answer = CompletionAnswer(self._settings.max_answer_bytes)
        async with (
            exchange(self._pool, self._settings, body, headers, self._retries) as reply,
            aclosing(pieces(reply, answer)) as texts,
        ):
            try:
                yield texts
            finally:
                request.bill.usage, request.bill.finish = answer.usage, answer.ending


def _turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def _history(request: Request) -> list[object]:
    """What was said before, where the message came with a conversation. A page's facts are none, whatever they say."""
    history = request.message.context.get(HISTORY) if request.client.route == "completions" else None
    return history if isinstance(history, list) else []


class CompletionAnswer:
    """A Decoder. Bounded like a webhook's."""

    def __init__(self, max_bytes: int) -> None:
        self.has_begun = False
        self.is_over = False
        self.usage: Usage | None = None
        self.ending: Finish = "stop"
        self._max_bytes = max_bytes
        self._size = 0
        self._error: UpstreamError | None = None
        self._is_complete = False
        self._has_text = False
        self._is_stream: bool | None = None
        self._parts: list[bytes] = []
        self._events = EventParser()
        self._halves = Halves()

    def feed(self, data: bytes) -> str:
        self._size += len(data)
        text = self._text(data)
        if self._size > self._max_bytes:
            self._parts.clear()
            self._stop(UpstreamError(f"an answer over {self._max_bytes} bytes"))
        return text

    def _text(self, data: bytes) -> str:
        if self._is_stream is None:
            data = data.lstrip()
            if not data:
                return ""
            self._is_stream = data[:1] != b"{"
        return self._feed_events(data) if self._is_stream else self._feed_document(data)

    def finish(self) -> str:
        text = "" if self._is_stream else self._document_text()
        if self._error is not None:
            raise self._error
        if not self._is_complete:
            raise UpstreamError("cut: the stream ended before the completion did")
        text += self._halves.flush()
        if not text and not self._has_text:
            raise UpstreamError("empty answer")
        return text

    def _feed_events(self, data: bytes) -> str:
        deltas: list[str] = []
        events: list[Event] = []
        try:
            events = self._events.feed(data)
            for event in events:
                if self.is_over:
                    break
                self._event(event, deltas)
        except UpstreamError as error:
            self._stop(error)
        text = self._halves.feed("".join(deltas))
        if text:
            self._has_text = True
        if text or not events:  # a comment is a sign of life; a chunk without text, such as the role, is not yet one
            self.has_begun = True
        return text

    def _event(self, event: Event, deltas: list[str]) -> None:
        if event.data == b"[DONE]":
            self._is_complete = self.is_over = True
            return
        choice, usage = _chunk(event.data)
        self.usage = usage or self.usage
        delta = choice.get("delta")
        content = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(content, str):
            deltas.append(content)
        if choice.get("finish_reason") is not None:
            self._is_complete = True
            self.ending = _finish(choice)

    def _feed_document(self, data: bytes) -> str:
        self.has_begun = True
        self._parts.append(data)
        return ""

    def _document_text(self) -> str:
        if self._error is not None or not self._parts:
            return ""
        self._is_complete = True
        choice, self.usage = _chunk(b"".join(self._parts))
        self.ending = _finish(choice)
        message = choice.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        return self._halves.feed(content) if isinstance(content, str) else ""

    def _stop(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error
        self.is_over = True


def _chunk(data: bytes) -> tuple[dict[str, object], Usage | None]:
    """A chunk's or completion's first choice, and its usage. The one is empty where the other comes alone."""
    try:
        chunk = loads(data)
    except ValueError as error:
        raise UpstreamError("a chunk that is not JSON") from error
    if not isinstance(chunk, dict):
        raise UpstreamError("a chunk that is not an object")
    if chunk.get("error"):
        raise UpstreamError("the model server reported an error")
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}, _usage(chunk.get("usage"))


def _finish(choice: dict[str, object]) -> Finish:
    match choice.get("finish_reason"):
        case "length" | "content_filter" as finish:
            return finish
    return "stop"


def _usage(told: object) -> Usage | None:
    if not isinstance(told, dict):
        return None
    numbers = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    counts = [number for number in numbers if isinstance(number, int) and 0 <= number <= MAX_TOKENS]
    return Usage(*counts) if len(counts) == len(numbers) else None
