"""Clients that are sent to and don't read. What it stops: an answer held in memory for a reader that takes nothing.

What it doesn't: one that reads a byte now and then; it is held as long as its answer, and costs what a socket buffers.
"""

from __future__ import annotations

from aiohttp import web

STALLED_AFTER = 30.0  # seconds in which a full socket takes nothing
LOOKS = 3


class Watched:
    """A connection that is cut off when it takes nothing: whoever writes to it gets a ConnectionError.

    Looked at from time to time: a timeout around each write would cost more than the write.
    """

    __slots__ = ("_http", "_idle", "_last")

    def __init__(self, http: web.Request) -> None:
        self._http = http
        self._last = 0
        self._idle = 0

    def visit(self) -> None:
        transport = self._http.transport
        if transport is None or transport.is_closing():
            return
        size = transport.get_write_buffer_size() if self._http.protocol.writing_paused else 0
        self._idle = self._idle + 1 if size and size >= self._last else 0
        self._last = size
        if self._idle >= LOOKS:
            transport.abort()
