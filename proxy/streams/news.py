"""How listeners are woken. In place of asyncio.Event, whose queue takes 600 bytes for each one that could be."""

from __future__ import annotations

import asyncio


class News:
    """Each tell() wakes all who wait at that moment."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Until the next tell(): whoever tells ends this, or else the caller's timeout."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)
