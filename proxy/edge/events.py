"""The events of an answer, the same for every transport: start, delta, done, error; numbered from 0 in each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import suppress

from proxy.errors import ClientGone, ProxyError
from proxy.model import Request

Fields = dict[str, object]


def error_fields(error: ProxyError, request_id: str) -> Fields:
    """What a client is told on an open stream."""
    fields: Fields = {"code": error.code, "message": error.public, "request_id": request_id}
    if error.retry_after is not None:
        fields["retry_after"] = math.ceil(error.retry_after)
    return fields


class EventSink(ABC):
    """A sink that says everything in events. A transport says how one is written."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._next = 0

    @abstractmethod
    async def write(self, name: str, fields: Fields, event_id: str) -> None:
        """Write one whole event. Raises ClientGone."""

    def admit(self, request: Request) -> None:
        self.request = request

    async def start(self) -> None:
        await self._emit("start", {"answer_id": self.request.answer_id})

    async def send(self, text: str) -> None:
        await self._emit("delta", {"text": text})

    async def done(self) -> None:
        await self._emit("done", {"answer_id": self.request.answer_id})

    async def fail(self, error: ProxyError) -> None:
        with suppress(ClientGone):
            await self._emit("error", error_fields(error, self.request.id))

    async def _emit(self, name: str, fields: Fields) -> None:
        number, self._next = self._next, self._next + 1
        await self.write(name, fields, f"{self.request.answer_id}:{number}")
