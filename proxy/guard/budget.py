"""What a site lets be spent: so many executions or tokens in a window, reserved before the upstream is asked.

What it stops: any number of messages at once, over any number of replicas, that together would cost more than the
budget. A reservation comes back when nothing ran, and by itself when its process died. What it doesn't: tokens are an
estimate (a token for four bytes) where the upstream doesn't say what it used, and an answer that takes more tokens than
were reserved for it is paid for; the next message then waits the longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

from pydantic import Field, model_validator

from proxy.config import Section
from proxy.errors import BudgetExhausted
from proxy.guard.subjects import SUBJECTS, Per
from proxy.model import BYTES_PER_TOKEN, Bill, Mode, Request
from proxy.store.desk import Desk
from proxy.store.ledger import Account


class BudgetSettings(Section):
    """At most so many `executions` (messages that reach the upstream) or `tokens` in any `window` seconds."""

    per: Per
    executions: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    tokens: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    window: Annotated[float, Field(ge=1, le=2_678_400)]
    mode: Mode = "enforce"

    @model_validator(mode="after")
    def _one_of_both(self) -> BudgetSettings:
        if (self.executions is None) == (self.tokens is None):
            raise ValueError("write either executions or tokens; for both, write two budgets")
        return self

    @property
    def limit(self) -> int:
        return self.executions or self.tokens or 0

    @property
    def label(self) -> str:
        return f"{self.per}-{'tokens' if self.executions is None else 'executions'}-{self.window:g}s"


class Budget:
    """The last of the message stages. `max_chars`: of an answer, by site."""

    name = "budget"

    def __init__(
        self, budgets: Mapping[str, Sequence[BudgetSettings]], max_chars: Mapping[str, int], desk: Desk, mode: Mode
    ) -> None:
        self.mode = mode
        self._budgets = {site: [one for one in some if one.mode == mode] for site, some in budgets.items()}
        self._max_chars = max_chars
        self._desk = desk

    async def check(self, request: Request) -> Request:
        site = request.site.name
        rules = [
            (rule, subject) for rule in self._budgets[site] if (subject := SUBJECTS[rule.per](request)) is not None
        ]
        if not rules:
            return request
        accounts = [
            Account(f"{site}/budget:{rule.label}:{subject}", rule.limit, self._amount(rule, request), rule.window)
            for rule, subject in rules
        ]
        name, standings = await self._desk.hold(accounts)
        wait = max(standing.retry_after for standing in standings)
        if wait > 0:
            used_up = [rule.label for (rule, _), one in zip(rules, standings, strict=True) if one.retry_after > 0]
            raise BudgetExhausted(f"over {', '.join(used_up)}", retry_after=wait)
        request.bill.on_close(partial(self._settle, name, [rule for rule, _ in rules]))
        return request

    def _amount(self, rule: BudgetSettings, request: Request) -> int:
        """What to reserve: of tokens as many as the message and the longest answer may have, but never all too many."""
        if rule.tokens is None:
            return 1
        most = len(request.message.text.encode()) + self._max_chars[request.site.name]
        return min(rule.tokens, -(-most // BYTES_PER_TOKEN))

    def _settle(self, name: str, rules: Sequence[BudgetSettings], bill: Bill) -> None:
        self._desk.settle(name, [bill.executions if rule.tokens is None else bill.tokens for rule in rules])
