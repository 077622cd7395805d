"""Waiting for what has no event of its own: asked again and again, and given up after a while."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PATIENCE = 10.0  # seconds
EVERY = 0.01


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float = PATIENCE) -> None:
    """Come back when it holds. Raises TimeoutError where it doesn't in time."""
    async with asyncio.timeout(seconds):
        while True:
            held = holds()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(EVERY)
