"""Where holds are taken and settled: one desk for a process, with a ledger of its own and, with Redis, the shared one.

What is held is renewed until it is settled, so the holds of a process that died come back after LEASE seconds. While
the shared ledger is away, this replica's share is judged by what went over its own desk, and the shared one is told
afterwards. What it doesn't stop: the other replicas' shares on top, once, as with limits (see failover.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol
from uuid import uuid4

from proxy.background import Background
from proxy.store import StoreDown
from proxy.store.ledger import Account, MemoryLedger, Spent, Standing

log = logging.getLogger(__name__)

LEASE = 60.0
RENEW_EVERY = 20.0
AT_ONCE = 100  # renewals or settlements in one round trip
MAX_UNSETTLED = 20_000
PAUSE = 0.5  # before the shared ledger is asked again


class SharedLedger(Protocol):
    """See MemoryLedger; each raises StoreDown within 300 ms."""

    async def hold(self, name: str, accounts: Sequence[Account], lease: float) -> list[Standing]: ...
    async def renew(self, held: Sequence[tuple[str, Sequence[Account]]], lease: float) -> None: ...
    async def settle(self, settlements: Sequence[tuple[str, Sequence[Spent]]]) -> None: ...


class Desk:
    """`share`: this process's part of a limit while the shared ledger is away; None where it isn't. `down`: tells why
    it is."""

    def __init__(
        self,
        local: MemoryLedger,
        shared: SharedLedger | None = None,
        share: Callable[[], int | None] = lambda: None,
        down: Callable[[StoreDown], None] = lambda _: None,
    ) -> None:
        self._local = local
        self._shared = shared
        self._share = share
        self._down = down
        self._held: dict[str, tuple[Account, ...]] = {}
        self._unsettled: deque[tuple[str, Sequence[Spent]]] = deque()
        self._has_unsettled = asyncio.Event()
        self._background = Background()

    async def hold(self, accounts: Sequence[Account]) -> tuple[str, list[Standing]]:
        """Hold from all accounts or, where any refuses, from none. The name is what it is settled by.

        Who refused has a `retry_after` other than 0.
        """
        name = uuid4().hex
        standings = await self._decide(name, accounts)
        if not any(standing.retry_after for standing in standings):
            self._held[name] = tuple(accounts)
        return name, standings

    def settle(self, name: str, spent: Sequence[int] = ()) -> None:
        """End a hold; `spent` has what was spent of each account (none: nothing). Doesn't wait, and never fails."""
        accounts = self._held.pop(name, ())
        amounts = spent or [0] * len(accounts)
        settled = [
            Spent(account.key, account.amount, amount if account.window else 0, account.window)
            for account, amount in zip(accounts, amounts, strict=True)
        ]
        self._local.settle(name, settled)
        if self._shared is None or not settled:
            return
        if len(self._unsettled) >= MAX_UNSETTLED:
            self._unsettled.popleft()  # its hold comes back; what it spent is forgotten there
        self._unsettled.append((name, settled))
        self._has_unsettled.set()

    async def recall(self) -> None:
        """The shared ledger lost its memory: tell it all that this one knows of. Raises StoreDown."""
        if self._shared is None:
            return
        self._unsettled.clear()  # it is in the sums
        spent = [(uuid4().hex, [one]) for one in self._local.spent()]
        for start in range(0, len(spent), AT_ONCE):
            await self._shared.settle(spent[start : start + AT_ONCE])
        await self._renew()

    def start(self) -> None:
        """Renew and settle until close(), which ends these tasks."""
        self._background.begin(self._keep_renewing(), "desk renewals")
        self._background.begin(self._keep_settling(), "desk settlements")

    async def close(self) -> None:
        """Settle what is left, if that is possible now."""
        try:
            await self._background.end()
        finally:
            try:
                await self._settle()
            except StoreDown as down:
                log.warning("%d settlements are lost (%s)", len(self._unsettled), down)

    async def _decide(self, name: str, accounts: Sequence[Account]) -> list[Standing]:
        share = self._share()
        if self._shared is not None and share is None:
            try:
                standings = await self._shared.hold(name, accounts, LEASE)
            except StoreDown as down:
                self._down(down)
                share = self._share()
            else:
                if not any(standing.retry_after for standing in standings):
                    self._local.renew(name, accounts, LEASE)
                return standings
        parts = share or 1
        return self._local.hold(
            name, [replace(one, limit=max(one.amount, one.limit // parts)) for one in accounts], LEASE
        )

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                await self._renew()
            except StoreDown as down:
                self._down(down)

    async def _renew(self) -> None:
        held = list(self._held.items())
        for name, accounts in held:
            self._local.renew(name, accounts, LEASE)
        if self._shared is None:
            return
        for start in range(0, len(held), AT_ONCE):
            still = [one for one in held[start : start + AT_ONCE] if one[0] in self._held]
            await self._shared.renew(still, LEASE)

    async def _keep_settling(self) -> None:
        while True:
            await self._has_unsettled.wait()
            self._has_unsettled.clear()
            try:
                await self._settle()
            except StoreDown as down:
                self._down(down)
                self._has_unsettled.set()
                await asyncio.sleep(PAUSE)

    async def _settle(self) -> None:
        while self._shared and self._unsettled:
            some = [self._unsettled[at] for at in range(min(AT_ONCE, len(self._unsettled)))]
            await self._shared.settle(some)
            for _ in some:
                self._unsettled.popleft()
