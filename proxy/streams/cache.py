"""Answers that are given again to whoever asks the same: for sites whose visitors come with the same few questions.

What it keeps out: anything personal, as far as content/pii.py can tell, in the question or the answer; conversations,
since only a session's first message is looked up or kept; broken, cut, empty and long answers; who is known by name.
What it can't know: that an upstream answers the same words differently for other reasons, such as the time of day.
"""

from __future__ import annotations

import hashlib
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated

import orjson
from pydantic import Field

from proxy.config import Section
from proxy.errors import ProxyError
from proxy.model import Request, Sink

MAX_CHARS = 16_384  # of an answer that is kept


class CacheSettings(Section):
    """`ttl`: seconds for which an answer is given again. `max_answers`: the least recently used ones go first."""

    ttl: Annotated[float, Field(ge=1, le=86_400)] = 300
    max_answers: Annotated[int, Field(ge=1, le=10_000)] = 1000


class Cache:
    """One site's, in this process. `is_first`: says once for each session that it hasn't said anything before."""

    def __init__(
        self,
        settings: CacheSettings,
        is_first: Callable[[Request], Awaitable[bool]],
        is_personal: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._is_first = is_first
        self._is_personal = is_personal
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    async def takes(self, request: Request) -> bool:
        """Is this a question that anybody could have asked?"""
        verdict = request.verdict
        if (
            not await self._is_first(request)
            or request.session.owner
            or verdict.masked
            or verdict.flags
            or request.values
            or request.message.files
        ):
            return False
        return not self._is_personal(_asked(request))

    async def answer(self, request: Request, sink: Sink) -> bool:
        """Give the sink the answer that is kept. False when there is none."""
        key = _key(request)
        ends, text = self._answers.get(key, (0.0, ""))
        if ends <= self._clock():
            self._answers.pop(key, None)
            return False
        self._answers.move_to_end(key)
        await sink.start()
        await sink.send(text)
        await sink.done()
        return True

    def recorder(self, request: Request, sink: Sink) -> Sink:
        """The same sink; what passes through it is kept once it is done."""
        return _Recorder(sink, lambda text: self._keep(request, text))

    def _keep(self, request: Request, text: str) -> None:
        if not text or request.bill.finish != "stop" or self._is_personal(text):
            return
        self._answers[_key(request)] = (self._clock() + self._settings.ttl, text)
        if len(self._answers) > self._settings.max_answers:
            self._answers.popitem(last=False)


class _Recorder:
    def __init__(self, sink: Sink, keep: Callable[[str], None]) -> None:
        self._sink = sink
        self._keep = keep
        self._pieces: list[str] = []
        self._left = MAX_CHARS

    def admit(self, request: Request) -> None:
        self._sink.admit(request)

    async def start(self) -> None:
        await self._sink.start()

    async def send(self, text: str) -> None:
        self._left -= len(text)
        if self._left >= 0:
            self._pieces.append(text)
        await self._sink.send(text)

    async def done(self) -> None:
        if self._left >= 0:
            self._keep("".join(self._pieces))
        await self._sink.done()

    async def fail(self, error: ProxyError) -> None:
        await self._sink.fail(error)


def _asked(request: Request) -> str:
    context = orjson.dumps(request.message.context, option=orjson.OPT_SORT_KEYS).decode()
    return f"{request.message.text}\n{context}"


def _key(request: Request) -> bytes:
    """Case, width of characters and white space make no difference, neither does the order of the context's fields."""
    asked = unicodedata.normalize("NFKC", _asked(request)).casefold()
    return hashlib.sha256(" ".join(asked.split()).encode()).digest()
