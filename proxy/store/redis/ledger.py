"""What is held and spent, for several replicas. See proxy/store/ledger.py."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from proxy.store import StoreDown
from proxy.store.ledger import Account, Spent, Standing
from proxy.store.redis.link import MICRO, Link, key

_Row = tuple[str, str]  # an account's key, and numbers for the script


class RedisLedger:
    """Each hold, renewal and settlement is atomic; those given together share a round trip. Raises StoreDown."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._script = link.script("ledger")

    async def hold(self, name: str, accounts: Sequence[Account], lease: float) -> list[Standing]:
        (answer,) = await self._do([("hold", name, lease, _claims(accounts))])
        numbers = list(map(int, answer.split()))
        return [Standing(used, wait / MICRO) for used, wait in zip(numbers[::2], numbers[1::2], strict=True)]

    async def renew(self, held: Sequence[tuple[str, Sequence[Account]]], lease: float) -> None:
        await self._do([("renew", name, lease, _claims(accounts)) for name, accounts in held])

    async def settle(self, settlements: Sequence[tuple[str, Sequence[Spent]]]) -> None:
        await self._do([("settle", name, 0.0, _bills(spent)) for name, spent in settlements])

    async def _do(self, calls: Sequence[tuple[str, str, float, list[_Row]]]) -> list[bytes]:
        scripted = [
            (
                [key(account, kind) for account, _ in rows for kind in ("held", "spent", "sum")],
                [what, name, str(round(lease * MICRO)), *(numbers for _, numbers in rows)],
            )
            for what, name, lease, rows in calls
        ]
        answers = await self._link.ask(partial(self._link.evaluate, self._script, scripted))
        for answer in answers:
            if not isinstance(answer, bytes):
                raise StoreDown(type(answer).__name__)
        return [answer for answer in answers if isinstance(answer, bytes)]


def _bills(spent: Sequence[Spent]) -> list[_Row]:
    return [(one.key, f"{one.held} {one.amount} {round(one.window * MICRO)}") for one in spent]


def _claims(accounts: Sequence[Account]) -> list[_Row]:
    return [(one.key, f"{one.limit} {one.amount} {round(one.window * MICRO)}") for one in accounts]
