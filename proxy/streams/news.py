"""How listeners are woken. In place of asyncio.Event, whose queue takes 600 bytes for each one that could be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class News:
    """Each tell() wakes all who wait at that moment, and does what it was given to do."""

    __slots__ = ("_acts", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._acts: tuple[Callable[[], None], ...] = ()

    def tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        for act in self._acts:
            act()

    def on_tell(self, act: Callable[[], None]) -> None:
        """Have this done at each tell(), until off()."""
        self._acts += (act,)

    def off(self, act: Callable[[], None]) -> None:
        self._acts = tuple(one for one in self._acts if one != act)

    async def wait(self) -> None:
        """Until the next tell(): whoever tells ends this, or else the caller's timeout."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)
