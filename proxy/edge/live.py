"""What is open right now, and how it learns that the process is about to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.errors import Draining
from proxy.telemetry import Metrics


class Live:
    """Counts open streams and sockets. `cut` ends what waits for nothing but us.

    `draining` turns readiness off; not where this process alone leaves (`is_replaced`), since another one is there.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._cut = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._acts: list[Callable[[], None]] = []
        self.draining = False
        self.is_replaced = False
        self.sse = 0
        self.websockets = 0

    async def drained(self) -> None:
        """Wait until the process ends its answers, then raise Draining. The waiter's answer ends the wait."""
        await self._cut.wait()
        raise Draining("the process is shutting down")

    def on_cut(self, act: Callable[[], None]) -> None:
        """Have this done as well."""
        self._acts.append(act)

    def cut(self) -> None:
        self._cut.set()
        for act in self._acts:
            act()

    async def idle(self) -> None:
        """Wait until nothing is open. The caller sets the time limit."""
        await self._idle.wait()

    @contextmanager
    def streaming(self) -> Iterator[None]:
        self.sse += 1
        self._count()
        try:
            yield
        finally:
            self.sse -= 1
            self._count()

    @contextmanager
    def socket(self) -> Iterator[None]:
        self.websockets += 1
        self._count()
        try:
            yield
        finally:
            self.websockets -= 1
            self._count()

    def _count(self) -> None:
        self._metrics.sse_connections.set(self.sse)
        self._metrics.ws_connections.set(self.websockets)
        if self.sse or self.websockets:
            self._idle.clear()
        else:
            self._idle.set()
