"""A detector of yours behind an HTTP address is asked about each message: a language model, a service, other rules.

What it stops: what your detector knows and our rules don't. What it doesn't: more than that; and a detector that can't
be reached lets pass, or stops, everything, as `when_unavailable` says. It sees what goes upstream: masked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import aiohttp
import orjson
from pydantic import Field, field_validator
from yarl import URL

from proxy.config import Secret, Section
from proxy.content import Span
from proxy.content.detect import Category, Hit, Judgement
from proxy.errors import ContentBlocked
from proxy.model import Request

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 65_536
PAUSE = 5.0  # seconds for which a detector that failed is not asked again


class DetectorSettings(Section):
    """`POST {"text", "context"}` is answered with `{"score": number}`; `threshold` and more of it is a detection."""

    http: str
    category: Category = "prompt_injection"
    threshold: Annotated[float, Field(gt=0, le=1_000)] = 0.5
    timeout: Annotated[float, Field(gt=0, le=10)] = 1.0
    when_unavailable: Literal["reject", "allow"] = "reject"
    token: Secret | None = None

    @field_validator("http")
    @classmethod
    def _callable(cls, url: str) -> str:
        parsed = URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.user is not None:
            raise ValueError("write a whole address without user and password: http://host/path (see `token`)")
        return url


class Unavailable(Exception):
    """The detector gave no score. The text says why, and has nothing of the message."""


class HttpDetector:
    """One detector. `clock` gives seconds."""

    def __init__(
        self, settings: DetectorSettings, http: aiohttp.ClientSession, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self._http = http
        self._clock = clock
        self._paused_until = 0.0

    async def judge(self, body: bytes) -> Judgement:
        """What it makes of a message. Raises Unavailable."""
        if self._clock() < self._paused_until:
            raise Unavailable("it failed a moment ago")
        try:
            async with asyncio.timeout(self.settings.timeout):
                score = _score(await self._ask(body)) / self.settings.threshold
        except (aiohttp.ClientError, OSError, ValueError) as error:  # OSError includes TimeoutError
            self._paused_until = self._clock() + PAUSE
            reason = str(error) if type(error) is ValueError else type(error).__name__
            log.warning("a detector gives no score: %s", reason)
            raise Unavailable(reason) from error
        if score <= 0:
            return Judgement()
        category = self.settings.category
        return Judgement({category: score}, (Hit("detector", category, round(score, 3), Span(0, 0, category)),))

    async def _ask(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.settings.token is not None:
            headers["Authorization"] = f"Bearer {self.settings.token.reveal()}"
        url = self.settings.http
        async with self._http.post(url, data=body, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            answer = bytearray()
            async for data in response.content.iter_any():
                answer += data
                if len(answer) > MAX_ANSWER_BYTES:
                    raise ValueError(f"an answer over {MAX_ANSWER_BYTES} bytes")
            return bytes(answer)


def _score(answer: bytes) -> float:
    try:
        score = orjson.loads(answer)["score"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ValueError("an answer without a score") from None
    if type(score) not in (int, float):  # a truth value is an int, too
        raise ValueError("a score that is no number")
    return float(score)


async def ask_all(detectors: Sequence[HttpDetector], request: Request) -> list[Judgement]:
    """What each of them makes of the message and its context, all asked at the same time.

    Raises ContentBlocked where one gives no score that may not be done without.
    """
    body = orjson.dumps({"text": request.message.text, "context": request.message.context})
    async with asyncio.TaskGroup() as group:  # each ends by its own timeout
        asked = [group.create_task(_asked(detector, body)) for detector in detectors]
    answers = [task.result() for task in asked]
    for answer in answers:
        if isinstance(answer, ContentBlocked):
            raise answer
    return [answer for answer in answers if isinstance(answer, Judgement)]


async def _asked(detector: HttpDetector, body: bytes) -> Judgement | ContentBlocked:
    try:
        return await detector.judge(body)
    except Unavailable as unavailable:
        if detector.settings.when_unavailable == "allow":
            return Judgement()
        return ContentBlocked(
            f"a detector is unavailable: {unavailable}",
            retry_after=PAUSE,
            public="Messages can't be checked right now. Please try again shortly.",
        )
