"""How often a failed connect is tried again: an upstream in trouble must not be asked twice as much for it."""

from __future__ import annotations

import random

_PAUSE = 0.2  # seconds
_COST = 5  # requests that pay for one retry
_RESERVE = 10  # retries, for an upstream that is seldom asked


class RetryBudget:
    """One upstream's retries. Of any n requests in a row at most n / 5 + 10 are tried again."""

    def __init__(self) -> None:
        self._paid = _RESERVE * _COST

    def earn(self) -> None:
        """One more request."""
        self._paid = min(self._paid + 1, _RESERVE * _COST)

    def spend(self) -> bool:
        """May this one be tried again?"""
        if self._paid < _COST:
            return False
        self._paid -= _COST
        return True

    @staticmethod
    def pause() -> float:
        """Seconds until then: not the same for everybody who failed at the same time."""
        return _PAUSE * random.uniform(0.5, 1.5)  # noqa: S311 - nobody gains by guessing it
