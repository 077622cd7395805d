"""Budgets: reserved before the upstream is asked, settled by what came of it, the same for one and for many at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from proxy.errors import BudgetExhausted, UpstreamError, UpstreamUnavailable
from proxy.guard.budget import Budget, BudgetSettings
from proxy.model import Bill, Request, Usage
from proxy.store.desk import LEASE, Desk
from proxy.store.ledger import MemoryLedger
from tests.clients import Clock, request
from tests.flows.test_processes import replicas, statuses
from tests.flows.test_replicas import AT_ONCE, kill, pair
from tests.servers import RedisServer
from tests.sidegate import ORIGIN, sidegate
from tests.upstreams import Asked, Script, plain, stream, webhook

MAX_CHARS = 400


def stage(*rules: dict[str, Any], clock: Clock | None = None, site: str = "shop") -> Budget:
    budgets = {site: [BudgetSettings.model_validate(rule) for rule in rules], "blog": []}
    return Budget(budgets, {"shop": MAX_CHARS}, Desk(MemoryLedger(clock or Clock())), "enforce")


async def runs(budget: Budget, asked: Request, usage: Usage | None = None, output: int = 0) -> None:
    with asked.bill:
        await budget.check(asked)
        asked.bill.begin(asked.message.text)
        asked.bill.usage, asked.bill.output = usage, output


def end(asked: Request, error: Exception) -> None:
    with asked.bill:
        asked.bill.begin(asked.message.text)
        raise error


async def test_so_many_executions_and_no_more_until_the_first_leaves_the_window() -> None:
    clock = Clock()
    budget = stage({"per": "site", "executions": 2, "window": 100}, clock=clock)
    await runs(budget, request())
    clock.advance(30)
    await runs(budget, request())
    with pytest.raises(BudgetExhausted) as refused:
        await runs(budget, request())
    assert refused.value.retry_after == 70
    clock.advance(70)
    await runs(budget, request())


async def test_while_it_runs_a_message_is_reserved_for() -> None:
    budget = stage({"per": "session", "executions": 1, "window": 100})
    first = request()
    with first.bill:
        await budget.check(first)
        with pytest.raises(BudgetExhausted):
            await budget.check(request())
    await runs(budget, request())  # the first never ran


@pytest.mark.parametrize(
    ("error", "cost"),
    [(UpstreamUnavailable("open"), 0), (UpstreamError("broke off"), 1), (ValueError("a crash"), 1)],
)
async def test_what_ran_is_spent_and_what_was_never_sent_comes_back(error: Exception, cost: int) -> None:
    budget = stage({"per": "site", "executions": 1, "window": 100})
    asked = request()
    await budget.check(asked)
    with pytest.raises(type(error)):
        end(asked, error)
    assert asked.bill.executions == cost
    if not cost:
        await runs(budget, request())


async def test_a_connection_that_failed_costs_nothing() -> None:
    asked, refused = request(), UpstreamError("no connection")
    refused.was_sent = False
    with pytest.raises(UpstreamError):
        end(asked, refused)
    assert (asked.bill.executions, asked.bill.tokens) == (0, 0)


async def test_tokens_are_reserved_for_the_longest_answer_and_settled_by_the_real_one() -> None:
    clock = Clock()
    budget = stage({"per": "session", "tokens": 200, "window": 1000}, clock=clock)
    first = request("x" * 40)
    with first.bill:
        await budget.check(first)  # 110 of 200
        with pytest.raises(BudgetExhausted):
            await budget.check(request("x" * 40))
        first.bill.begin(first.message.text)
        first.bill.usage = Usage(20, 69)
    await runs(budget, request("x" * 40), Usage(0, 2))  # 89 + 110 are within 200
    with pytest.raises(BudgetExhausted):
        await runs(budget, request("x" * 40))  # 91 + 110 are not


async def test_a_small_budget_is_reserved_whole() -> None:
    budget = stage({"per": "session", "tokens": 10, "window": 1000})
    await runs(budget, request("hello"), Usage(1, 2))
    with pytest.raises(BudgetExhausted):
        await runs(budget, request("hello"))


async def test_without_word_from_the_upstream_four_bytes_are_a_token() -> None:
    bill = Bill()
    with bill:
        bill.begin("grüße")  # seven bytes
        bill.output = 10
    assert bill.tokens == 5


async def test_a_refusal_by_one_budget_reserves_in_no_other() -> None:
    budget = stage({"per": "session", "executions": 1, "window": 100}, {"per": "site", "executions": 3, "window": 100})
    await runs(budget, request())
    for _ in range(5):
        with pytest.raises(BudgetExhausted, match=r"^over session-executions-100s$"):
            await runs(budget, request())


async def test_who_a_budget_is_not_for_is_not_reserved_for() -> None:
    budget = stage({"per": "api_key", "executions": 1, "window": 100})
    for _ in range(3):
        await runs(budget, request())


@pytest.mark.parametrize("amounts", [{}, {"executions": 1, "tokens": 1}])
def test_a_budget_is_of_one_kind(amounts: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="either executions or tokens"):
        BudgetSettings.model_validate({"per": "site", "window": 60, **amounts})


def sites(*budgets: dict[str, Any]) -> dict[str, Any]:
    return {"shop": {"origins": [ORIGIN], "upstream": "support", "budgets": list(budgets)}}


async def test_a_visitor_is_told_when_to_come_back() -> None:
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate(
            {"kind": "n8n", "url": hook.url}, sites=sites({"per": "site", "executions": 2, "window": 3600})
        ) as visitor,
    ):
        await visitor.session()
        for _ in range(2):
            await visitor.events()
        async with visitor.post(accept="application/json") as response:
            assert response.status == 429
            assert 3500 < int(response.headers["Retry-After"]) <= 3600
            assert (await response.json(content_type=None))["code"] == "budget_exhausted"
        assert len(hook.asked) == 2


async def test_an_upstream_that_cant_be_reached_costs_nothing() -> None:
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate(
            {"kind": "n8n", "url": "http://127.0.0.1:9/webhook"},
            sites=sites({"per": "site", "executions": 1, "window": 3600}),
        ) as visitor,
    ):
        await visitor.session()
        codes = [(await visitor.problem())[1]["code"] for _ in range(3)]
        assert codes == ["upstream_error"] * 3
        assert hook.asked == []


async def test_what_the_model_server_says_it_used_is_spent_and_told() -> None:
    def completion(asked: Asked) -> Script:
        assert asked.json["stream_options"] == {"include_usage": True}
        usage = b'"usage":{"prompt_tokens":30,"completion_tokens":60}'
        return plain(b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],' + usage + b"}")

    async with (
        webhook(completion) as hook,
        sidegate(
            {"kind": "openai", "url": hook.url, "model": "m"},
            sites=sites({"per": "session", "tokens": 100, "window": 3600}),
            filters={"max_chars": 20},
        ) as visitor,
    ):
        await visitor.session()
        events = await visitor.events()
        assert events[-1].fields["usage"] == {"input_tokens": 30, "output_tokens": 60}
        assert (await visitor.events())[-1].name == "done"  # 90 + 7 reserved
        assert (await visitor.problem())[1]["code"] == "budget_exhausted"
        assert len(hook.asked) == 2


async def test_an_observed_budget_refuses_nobody() -> None:
    rule = {"per": "site", "executions": 1, "window": 3600, "mode": "observe"}
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, sites=sites(rule)) as visitor,
    ):
        await visitor.session()
        for _ in range(3):
            assert (await visitor.events())[-1].name == "done"
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            told = 'sidegate_denied_total{code="budget_exhausted",mode="observe",stage="budget"} 2.0'
            assert told in await response.text()


@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_of_a_thousand_messages_at_once_exactly_the_budget_is_dispatched(store: str, tmp_path: Path) -> None:
    with RedisServer() as redis:
        sections: dict[str, Any] = {"budgets": [{"per": "site", "executions": 37, "window": 3600}]}
        number = 1
        if store == "redis":
            sections["store"], number = {"url": redis.url}, 2
        async with (
            replicas(number, tmp_path, limit=100_000, **sections) as servers,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as http,
        ):
            assert await statuses(http, servers, 1000) == Counter({429: 963, 200: 37})


async def test_reservations_of_a_process_that_was_killed_come_back(tmp_path: Path) -> None:
    budget = {"per": "session", "executions": 3, "window": 3600}
    async with pair(tmp_path, fake_clock=True, budgets=[budget]) as both:
        await both.session()
        running = [await both.begin(1) for _ in range(2)]
        assert (await both.b.events(AT_ONCE))[-1].name == "done"
        assert (await both.b.problem(AT_ONCE))[1]["code"] == "budget_exhausted"
        await kill(both.processes[0])
        assert (await both.b.problem(AT_ONCE))[1]["code"] == "budget_exhausted"
        both.redis.advance(LEASE + 1)
        ends = [await both.b.post(AT_ONCE) for _ in range(3)]
        assert [response.status for response in ends] == [200, 200, 429]
        assert len(running) == 2
