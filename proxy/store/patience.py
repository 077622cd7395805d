"""A timeout that doesn't mistake our own lateness for somebody else's.

When an event loop is busy, an ordinary timeout rings although the answer lies in the socket's buffer, unread. A burst
of messages would so be taken for a dead Redis, and counted locally, just when limits matter most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TICKS = 6


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after `seconds`, during which the loop has looked at its sockets TICKS times or more."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as timeout:
        left = TICKS
        timer: asyncio.TimerHandle

        def tick() -> None:
            nonlocal left, timer
            left -= 1
            if left:
                timer = loop.call_later(seconds / TICKS, tick)  # from now, not from when it was due
            else:
                timeout.reschedule(loop.time())

        timer = loop.call_later(seconds / TICKS, tick)
        try:
            yield
        finally:
            timer.cancel()
