"""Clients that are sent to and don't read. What it stops: an answer held in memory for a reader that takes nothing.

What it doesn't: one that reads a byte now and then; it is held as long as its answer, and costs what a socket buffers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

STALLED_AFTER = 30.0  # seconds in which a full socket takes nothing
LOOKS = 3


@contextmanager
def unstalled(http: web.Request) -> Iterator[None]:
    """While this lasts, a client that takes nothing is cut off: whoever writes to it gets a ConnectionError.

    One timer for each connection: a timeout around each write would cost more than the write.
    """
    loop, transport = asyncio.get_running_loop(), http.transport
    last, idle = 0, 0
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal last, idle, timer
        if transport is None or transport.is_closing():
            return
        size = transport.get_write_buffer_size() if http.protocol.writing_paused else 0
        idle = idle + 1 if size and size >= last else 0
        last = size
        if idle >= LOOKS:
            transport.abort()
        else:
            timer = loop.call_later(STALLED_AFTER / LOOKS, look)

    timer = loop.call_later(STALLED_AFTER / LOOKS, look)
    try:
        yield
    finally:
        timer.cancel()
