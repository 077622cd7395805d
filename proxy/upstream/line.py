"""One upstream, with what guards it: its slots and its circuit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxy.errors import UpstreamUnavailable
from proxy.model import Body, Request, Upstream
from proxy.upstream.breaker import Attempt, Breaker
from proxy.upstream.slots import Slots


@dataclass(frozen=True, slots=True)
class Line:
    """`fallback` is what visitors read instead of the general text while it isn't asked."""

    upstream: Upstream
    breaker: Breaker
    slots: Slots
    fallback: str | None = None

    @property
    def patience(self) -> float:
        """Seconds in which an attempt has begun to be answered, or has failed."""
        return self.slots.patience + 10

    @property
    def name(self) -> str:
        return self.breaker.name

    async def encode(self, request: Request) -> Body:
        """The body to send; made in a thread where files have to be read for it."""
        if not request.message.files:
            return self.upstream.encode(request)
        return await asyncio.to_thread(self.upstream.encode, request)

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[Attempt]:
        """Around one request and its answer: a slot, waited for if need be, and then the circuit's leave.

        Raises UpstreamUnavailable where either refuses.
        """
        try:
            self.breaker.check()  # nobody waits for a slot in front of an open circuit
            async with self.slots.one():
                lease = await self.breaker.lease()
                with self.breaker.attempt(lease) as attempt:
                    yield attempt
        except UpstreamUnavailable as error:
            error.public = self.fallback or error.public
            raise
