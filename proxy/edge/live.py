"""What is open right now, and how it learns that the process is about to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from aiohttp import web

from proxy.edge import stall
from proxy.edge.rounds import Rounds
from proxy.telemetry import Metrics


class Live:
    """Counts open streams and sockets, and cuts those off that take nothing. `cut` ends what waits for nothing but us.

    `draining` turns readiness off; not where this process alone leaves (`is_replaced`), since another one is there.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._idle = asyncio.Event()
        self._idle.set()
        self._acts: list[Callable[[], None]] = []
        self._looks = Rounds(stall.STALLED_AFTER / stall.LOOKS)
        self.draining = False
        self.is_replaced = False
        self.sse = 0
        self.websockets = 0

    def on_cut(self, act: Callable[[], None]) -> None:
        """Have this done when the process ends its answers."""
        self._acts.append(act)

    def cut(self) -> None:
        for act in self._acts:
            act()

    async def idle(self) -> None:
        """Wait until nothing is open. The caller sets the time limit."""
        await self._idle.wait()

    def streaming(self, http: web.Request) -> AbstractContextManager[None]:
        """While this lasts there is a stream more."""
        return _Open(http, self, self._looks, streams=1)

    def socket(self, http: web.Request) -> AbstractContextManager[None]:
        """While this lasts there is a WebSocket more."""
        return _Open(http, self, self._looks, streams=0)

    def count(self, *, streams: int, sockets: int) -> None:
        """So many more of each."""
        self.sse += streams
        self.websockets += sockets
        self._metrics.sse_connections.set(self.sse)
        self._metrics.ws_connections.set(self.websockets)
        if self.sse or self.websockets:
            self._idle.clear()
        else:
            self._idle.set()


class _Open(stall.Watched, AbstractContextManager[None]):
    """A class and no generator: each open connection has one."""

    __slots__ = ("_live", "_looks", "_streams", "_turn")

    def __init__(self, http: web.Request, live: Live, looks: Rounds, *, streams: int) -> None:
        super().__init__(http)
        self._live = live
        self._looks = looks
        self._streams = streams
        self._turn = 0

    def __enter__(self) -> None:
        self._live.count(streams=self._streams, sockets=1 - self._streams)
        self._turn = self._looks.join(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._looks.leave(self, self._turn)
        self._live.count(streams=-self._streams, sockets=self._streams - 1)
