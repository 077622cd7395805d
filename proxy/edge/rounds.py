"""One timer for all connections. One or two for each would be most of what an idle connection costs."""

from __future__ import annotations

import asyncio
from typing import Protocol

TURNS = 64


class Visited(Protocol):
    def visit(self) -> None:
        """Look after yourself, without waiting and without raising."""
        ...


class Rounds:
    """Visits each of its members every `seconds`, the first time after so many. For one event loop.

    Thousands are not visited at once: whoever came at another time has another turn.
    """

    def __init__(self, seconds: float) -> None:
        self._pause = seconds / TURNS
        self._turns: list[set[Visited]] = [set() for _ in range(TURNS)]
        self._next = 0
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def join(self, member: Visited) -> int:
        """Returns the turn, to be given back when leaving."""
        turn = (self._next - 1) % TURNS
        self._turns[turn].add(member)
        self._size += 1
        if self._timer is None:
            self._set_timer()
        return turn

    def leave(self, member: Visited, turn: int) -> None:
        self._turns[turn].remove(member)
        self._size -= 1
        if not self._size and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._visit)

    def _visit(self) -> None:
        self._set_timer()
        turn, self._next = self._next, (self._next + 1) % TURNS
        for member in tuple(self._turns[turn]):
            member.visit()
