"""What is held for a while and what is spent: connections, budgets.

An account is a key with a limit. A hold takes an amount from several accounts at once, or from none; it comes back by
itself when its holder dies. Settling it puts in its place what was really spent, which comes back when it leaves its
window. Amounts are whole numbers, times are seconds.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

MAX_ACCOUNTS = 100_000


@dataclass(frozen=True, slots=True)
class Account:
    """At most `limit` of what is held now and was spent within the last `window` seconds (0: nothing is ever spent)."""

    key: str
    limit: int
    amount: int = 1  # to be held
    window: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """One account after the decision. `retry_after` is 0 where this account let it pass; otherwise the seconds until it
    would, if nothing else is held or spent meanwhile."""

    used: int
    retry_after: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What becomes of a hold in one account: `held` comes back, `amount` is spent (0: nothing)."""

    key: str
    held: int
    amount: int
    window: float = 0.0


@dataclass(slots=True)
class _Book:
    held: dict[str, tuple[float, int]] = field(default_factory=dict)  # name -> when it ends, how much
    times: list[float] = field(default_factory=list)  # of what was spent, oldest first
    amounts: list[int] = field(default_factory=list)
    used: int = 0  # the sum of both
    window: float = 0.0
    ends: float = 0.0  # when there is nothing in it any more


class MemoryLedger:
    """For one process. `clock` gives seconds and never goes back. Past `max_accounts`, the one used longest ago goes.

    The accounts of one call are the same up to the first slash of their keys, as in any store.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_accounts: int = MAX_ACCOUNTS) -> None:
        self._clock = clock
        self._max_accounts = max_accounts
        self._books: OrderedDict[str, _Book] = OrderedDict()  # the one used last is the last

    def hold(self, name: str, accounts: Sequence[Account], lease: float) -> list[Standing]:
        """Hold the amounts for `lease` seconds under this name of its own, or nothing where any account refuses."""
        now = self._clock()
        waits = [self._wait(account, name, now, lease) for account in accounts]
        if not any(waits):
            for account in accounts:
                self._hold(account, name, now, lease)
        return [
            Standing(book.used if (book := self._books.get(account.key)) else 0, wait)
            for account, wait in zip(accounts, waits, strict=True)
        ]

    def renew(self, name: str, accounts: Sequence[Account], lease: float) -> None:
        """What is held under this name goes on being held, also where that was forgotten. Judges nothing."""
        now = self._clock()
        for account in accounts:
            self._hold(account, name, now, lease)

    def settle(self, name: str, spent: Sequence[Spent]) -> None:
        """End the hold. What is spent counts from now on, also where the hold had ended by itself."""
        now = self._clock()
        for each in spent:
            book = self._book(each.key, each.window, now)
            book.used -= book.held.pop(name, (0.0, 0))[1]
            if each.amount:
                book.times.append(now)
                book.amounts.append(each.amount)
                book.used += each.amount
                book.ends = max(book.ends, now + each.window)
        self._forget(now)

    def spent(self) -> Iterator[Spent]:
        """What was spent and still counts, each account in one sum."""
        now = self._clock()
        for key, book in list(self._books.items()):
            if book.window and (amount := sum(self._book(key, book.window, now).amounts)):
                yield Spent(key, 0, amount, book.window)

    def _hold(self, account: Account, name: str, now: float, lease: float) -> None:
        book = self._book(account.key, account.window, now)
        book.used += account.amount - book.held.get(name, (0.0, 0))[1]
        book.held[name] = now + lease, account.amount
        book.ends = max(book.ends, now + lease)
        self._forget(now)

    def _wait(self, account: Account, name: str, now: float, lease: float) -> float:
        book = self._book(account.key, account.window, now)
        excess = book.used + account.amount - account.limit - book.held.get(name, (0.0, 0))[1]
        if excess <= 0:
            return 0.0
        for spent, amount in zip(book.times, book.amounts, strict=True):
            excess -= amount
            if excess <= 0:
                return spent + account.window - now
        return account.window + lease  # what is held now may all be spent

    def _book(self, key: str, window: float, now: float) -> _Book:
        """The account, without what no longer counts."""
        book = self._books.setdefault(key, _Book())
        self._books.move_to_end(key)
        book.window = window
        for name in [name for name, (ends, _) in book.held.items() if ends <= now]:
            book.used -= book.held.pop(name)[1]
        if gone := bisect_right(book.times, now - window):
            book.used -= sum(book.amounts[:gone])
            del book.times[:gone], book.amounts[:gone]
        return book

    def _forget(self, now: float) -> None:
        """Some that have ended, and where there are too many those that were used longest ago."""
        for key, book in list(islice(self._books.items(), 2)):
            if book.ends > now and len(self._books) <= self._max_accounts:
                return
            del self._books[key]
