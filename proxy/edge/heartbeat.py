"""Signs of life on WebSockets, by one timer for all of them; aiohttp's own take two timers for each.

What it stops: a socket that is held for a client that is gone without a word, or that an edge in between
takes for dead.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from aiohttp import web

from proxy.edge.rounds import Rounds
from proxy.edge.runner import on_data

PING = b"\x89\x00"  # RFC 6455 sections 5.2 and 5.5.2: a whole frame, with nothing in it


class Heartbeats:
    """Every so many seconds each socket is pinged; one that sent nothing since its last ping is cut off."""

    def __init__(self, seconds: float) -> None:
        self._rounds = Rounds(seconds)

    def of(self, http: web.Request, socket: web.WebSocketResponse) -> AbstractContextManager[None]:
        """While this lasts. The socket is open already."""
        return _Beating(self._rounds, http, socket)


class _Beating(AbstractContextManager[None]):
    """A class and no generator: each open socket has one."""

    __slots__ = ("_http", "_is_silent", "_rounds", "_socket", "_turn")

    def __init__(self, rounds: Rounds, http: web.Request, socket: web.WebSocketResponse) -> None:
        self._rounds = rounds
        self._http = http
        self._socket = socket
        self._turn = 0
        self._is_silent = False  # nothing came since the last ping

    def __enter__(self) -> None:
        on_data(self._http, self._hear)
        self._turn = self._rounds.join(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rounds.leave(self, self._turn)
        on_data(self._http, None)

    def _hear(self) -> None:
        self._is_silent = False

    def visit(self) -> None:
        transport = self._http.transport
        if transport is None or self._socket.closed:
            return
        if self._http.protocol.writing_paused:
            self._is_silent = False  # a ping would wait behind what it hasn't read yet; stall.py looks after that
        elif self._is_silent:
            transport.abort()
        else:
            transport.write(PING)  # aiohttp writes frames whole, so it lands between two
            self._is_silent = True
