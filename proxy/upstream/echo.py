"""An upstream without an upstream: says back what it heard, word by word. For demonstrations and tests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Literal

from pydantic import Field

from proxy.model import Body, Request
from proxy.upstream.body import encode
from proxy.upstream.slots import LineSettings

_WORD = re.compile(r"\s*\S+\s*|\s+")


class EchoSettings(LineSettings):
    kind: Literal["echo"]
    delay: float = Field(0.03, ge=0, le=60, allow_inf_nan=False)  # seconds between words
    reply: str = Field("You said: {text}", max_length=10_000)  # {text} stands for the message


class Echo:
    """An Upstream. The token is made, as for any, and goes nowhere."""

    def __init__(self, settings: EchoSettings, owned: Callable[[Request], str]) -> None:
        self._settings = settings
        self._owned = owned

    def encode(self, request: Request) -> bytes:
        return encode({"sessionId": self._owned(request), "chatInput": request.message.text})

    @asynccontextmanager
    async def open(self, request: Request, body: Body, token: str) -> AsyncIterator[AsyncIterator[str]]:
        async with aclosing(self._words(self._settings.reply.replace("{text}", request.message.text))) as words:
            yield words

    async def _words(self, text: str) -> AsyncGenerator[str, None]:
        for number, word in enumerate(_WORD.findall(text)):
            if number and self._settings.delay:
                await asyncio.sleep(self._settings.delay)
            yield word
