"""What is held and spent, in the process and in Redis: both against a model that reads the rule literally."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.store import StoreDown
from proxy.store.ledger import Account, MemoryLedger, Spent, Standing
from proxy.store.redis.ledger import RedisLedger
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from tests.servers import RedisServer, free_port
from tests.store.conftest import Clock

LEASE = 60.0
NUMBERS = count()


@dataclass
class Backend:
    """One ledger whose time stands still until advance()."""

    hold: Callable[[str, Sequence[Account], float], object]
    renew: Callable[[str, Sequence[Account], float], object]
    settle: Callable[[str, Sequence[Spent]], object]
    advance: Callable[[float], None]
    is_redis: bool

    async def held(self, name: str, *accounts: Account, lease: float = LEASE) -> list[Standing]:
        answer = self.hold(name, accounts, lease)
        standings: list[Standing] = await answer if self.is_redis else answer  # type: ignore[assignment,misc]  # the one is a coroutine, the other a list
        return standings

    async def do(self, answer: object) -> None:
        if self.is_redis:
            await answer  # type: ignore[misc]  # a coroutine, here

    def key(self) -> str:
        return f"shop/{next(NUMBERS)}"


@pytest.fixture(params=["memory", "redis"])
async def backend(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Backend]:
    if request.param == "memory":
        memory = MemoryLedger(clock)
        yield Backend(memory.hold, memory.renew, memory.settle, clock.advance, is_redis=False)
        return
    server: RedisServer = request.getfixturevalue("still_redis")
    server.call("FLUSHALL")
    link = Link(parse_url(server.url), deadline=30)
    redis = RedisLedger(link)
    yield Backend(
        redis.hold,
        lambda name, accounts, lease: redis.renew([(name, accounts)], lease),
        lambda name, spent: redis.settle([(name, spent)]),
        server.advance,
        is_redis=True,
    )
    await link.close()


def passes(standings: Sequence[Standing]) -> bool:
    return not any(standing.retry_after for standing in standings)


async def test_so_much_is_held_and_no_more(backend: Backend) -> None:
    key = backend.key()
    assert [passes(await backend.held(str(at), Account(key, 3))) for at in range(5)] == [True] * 3 + [False] * 2
    await backend.do(backend.settle("1", [Spent(key, 1, 0)]))
    assert await backend.held("5", Account(key, 3)) == [Standing(3, 0)]


async def test_what_one_account_refuses_is_held_from_none(backend: Backend) -> None:
    wide, narrow = backend.key(), backend.key()
    accounts = Account(wide, 10, 4), Account(narrow, 5, 4)
    assert passes(await backend.held("a", *accounts))
    refused = await backend.held("b", *accounts)
    assert [standing.used for standing in refused] == [4, 4]
    assert [standing.retry_after > 0 for standing in refused] == [False, True]
    assert passes(await backend.held("c", Account(wide, 10, 6)))


async def test_a_hold_comes_back_after_its_lease_unless_it_is_renewed(backend: Backend) -> None:
    key = backend.key()
    account = Account(key, 2)
    for name in "ab":
        await backend.held(name, account)
    backend.advance(LEASE - 1)
    await backend.do(backend.renew("a", [account], LEASE))
    backend.advance(1)
    assert await backend.held("c", account) == [Standing(2, 0)]  # a and c
    assert not passes(await backend.held("d", account))
    backend.advance(LEASE - 1)
    assert await backend.held("d", account) == [Standing(2, 0)]  # c and d


async def test_a_hold_may_be_settled_after_its_lease(backend: Backend) -> None:
    account = Account(backend.key(), 1)
    await backend.held("a", account)
    backend.advance(LEASE + 1)
    await backend.do(backend.settle("a", [Spent(account.key, 1, 0)]))
    assert await backend.held("b", account) == [Standing(1, 0)]


async def test_a_renewal_holds_again_what_was_forgotten(backend: Backend) -> None:
    key = backend.key()
    await backend.do(backend.renew("a", [Account(key, 1)], LEASE))
    assert not passes(await backend.held("b", Account(key, 1)))


async def test_what_is_spent_takes_the_place_of_what_was_held_until_it_leaves_the_window(backend: Backend) -> None:
    key = backend.key()
    account = Account(key, 10, 8, 100)
    assert passes(await backend.held("a", account))
    await backend.do(backend.settle("a", [Spent(key, 8, 3, 100)]))
    backend.advance(10)
    (refused,) = await backend.held("b", account)
    assert refused == Standing(3, 90)  # seven are left, eight asked for
    backend.advance(89.5)
    assert not passes(await backend.held("b", account))
    backend.advance(0.5)
    assert await backend.held("b", account) == [Standing(8, 0)]


async def test_what_was_spent_after_the_lease_counts_all_the_same(backend: Backend) -> None:
    key = backend.key()
    await backend.held("a", Account(key, 10, 1, 100))
    backend.advance(LEASE + 1)
    await backend.do(backend.settle("a", [Spent(key, 1, 9, 100)]))
    assert not passes(await backend.held("b", Account(key, 10, 2, 100)))


async def test_asked_a_second_time_a_hold_is_the_same(backend: Backend) -> None:
    """As where the first answer was lost on its way."""
    key = backend.key()
    for _ in range(2):
        assert await backend.held("a", Account(key, 1)) == [Standing(1, 0)]


async def test_what_is_spent_is_forgotten_with_its_window_whatever_was_held_before(backend: Backend) -> None:
    """The sum has no life of its own."""
    key = backend.key()
    await backend.held("a", Account(key, 1, 1, 40))
    await backend.do(backend.settle("a", [Spent(key, 1, 1, 40)]))
    backend.advance(122)
    assert passes(await backend.held("b", Account(key, 1, 1, 40)))


SPANS = st.sampled_from([0.5, 1.0, 7.0, 30.0, 61.0])


@dataclass
class Model:
    """Everything is kept for ever."""

    now: float = 0.0
    held: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    spent: list[tuple[str, float, int]] = field(default_factory=list)

    def used(self, account: Account, name: str) -> int:
        held = sum(
            amount
            for (key, holder), (ends, amount) in self.held.items()
            if key == account.key and ends > self.now and holder != name
        )
        return held + sum(
            amount for key, at, amount in self.spent if key == account.key and at > self.now - account.window
        )


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_any_story_ends_as_the_rule_says(backend: Backend, data: st.DataObject) -> None:
    model = Model()
    keys = [backend.key() for _ in range(2)]
    windows = {keys[0]: 0.0, keys[1]: 40.0}
    limits = {key: data.draw(st.integers(1, 9)) for key in keys}
    names = count()
    open_: list[tuple[str, list[Account]]] = []
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(st.sampled_from(["hold", "hold", "settle", "renew", "wait"]))
        if step == "hold":
            chosen = data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique=True))
            amounts = st.integers(1, 5)
            accounts = [Account(key, limits[key], data.draw(amounts), windows[key]) for key in chosen]
            name = f"n{next(names)}"
            expected = all(model.used(one, name) + one.amount <= one.limit for one in accounts)
            standings = await backend.held(name, *accounts)
            assert passes(standings) == expected
            if not expected and all(one.amount <= one.limit for one in accounts) and data.draw(st.booleans()):
                wait = max(standing.retry_after for standing in standings)
                backend.advance(wait)
                model.now += wait
                expected = True  # after waiting as long as told
                assert passes(await backend.held(name, *accounts))
            if expected:
                model.held |= {(one.key, name): (model.now + LEASE, one.amount) for one in accounts}
                open_.append((name, accounts))
        elif step == "wait":
            seconds = data.draw(SPANS)
            backend.advance(seconds)
            model.now += seconds
        elif open_ and step == "renew":
            name, accounts = data.draw(st.sampled_from(open_))
            await backend.do(backend.renew(name, accounts, LEASE))
            model.held |= {(one.key, name): (model.now + LEASE, one.amount) for one in accounts}
        elif open_:
            name, accounts = open_.pop(data.draw(st.integers(0, len(open_) - 1)))
            spent = [
                Spent(one.key, one.amount, data.draw(st.integers(0, 5)) if one.window else 0, one.window)
                for one in accounts
            ]
            await backend.do(backend.settle(name, spent))
            for one in spent:
                model.held.pop((one.key, name), None)
                if one.amount:
                    model.spent.append((one.key, model.now, one.amount))


async def test_waiting_as_long_as_told_succeeds(backend: Backend) -> None:
    key = backend.key()
    account = Account(key, 5, 3, 40)
    for name in "abc":
        await backend.held(name, account)
        await backend.do(backend.settle(name, [Spent(key, 3, 1, 40)]))
        backend.advance(5)
    (refused,) = await backend.held("d", account)
    assert refused.retry_after == 25
    backend.advance(refused.retry_after)
    assert passes(await backend.held("d", account))
    (refused,) = await backend.held("e", account)  # one that is held may be spent as it ends
    assert refused.retry_after == 100
    backend.advance(refused.retry_after)
    assert passes(await backend.held("e", account))


async def test_of_a_thousand_at_once_exactly_the_limit_is_held(real_redis: RedisServer) -> None:
    links = [Link(parse_url(real_redis.url), deadline=30) for _ in range(2)]
    ledgers = [RedisLedger(link) for link in links]
    account = Account("crowd/site", 37, 1, 3600)
    held = await asyncio.gather(*[ledgers[at % 2].hold(f"crowd{at}", [account], LEASE) for at in range(1000)])
    assert sum(map(passes, held)) == 37
    for link in links:
        await link.close()


async def test_without_redis_every_operation_says_so() -> None:
    link = Link(parse_url(f"redis://127.0.0.1:{free_port()}/0"))
    ledger = RedisLedger(link)
    account = Account("a/b", 1)
    for asking in (
        ledger.hold("n", [account], LEASE),
        ledger.renew([("n", [account])], LEASE),
        ledger.settle([("n", [Spent("a/b", 1, 0)])]),
    ):
        with pytest.raises(StoreDown):
            await asking
    await link.close()


async def test_what_isnt_a_ledger_in_redis_is_store_down(still_redis: RedisServer) -> None:
    still_redis.call("SET", "sidegate:{a}/b:held", "text")
    link = Link(parse_url(still_redis.url), deadline=30)
    with pytest.raises(StoreDown, match="ResponseError"):
        await RedisLedger(link).hold("n", [Account("a/b", 1)], LEASE)
    still_redis.call("FLUSHALL")
    await link.close()


async def test_every_key_has_an_end(still_redis: RedisServer) -> None:
    still_redis.call("FLUSHALL")
    link = Link(parse_url(still_redis.url), deadline=30)
    ledger = RedisLedger(link)
    account = Account("a/b", 5, 1, 100)
    for name in "cd":
        await ledger.hold(name, [account], LEASE)
    await ledger.settle([("c", [Spent("a/b", 1, 2, 100)])])
    keys = [f"sidegate:{{a}}/b:{kind}" for kind in ("held", "spent", "sum")]
    assert all(0 < int(still_redis.call("TTL", key)[1:]) <= 220 for key in keys)
    assert still_redis.call("DBSIZE") == b":3"
    await link.close()


def test_a_process_keeps_so_many_accounts_and_forgets_those_that_ended(clock: Clock) -> None:
    ledger = MemoryLedger(clock, max_accounts=3)
    for at in range(5):
        ledger.hold(f"n{at}", [Account(f"a/{at}", 1)], LEASE)
    assert len(ledger._books) == 3
    clock.advance(LEASE)
    ledger.hold("n", [Account("a/new", 1)], LEASE)
    ledger.hold("m", [Account("a/newer", 1)], LEASE)
    assert set(ledger._books) == {"a/new", "a/newer"}


def test_what_was_spent_is_told_in_sums(clock: Clock) -> None:
    ledger = MemoryLedger(clock)
    for name, amount in (("a", 2), ("b", 3)):
        ledger.settle(name, [Spent("s/x", 1, amount, 100)])
        clock.advance(60)
    ledger.hold("c", [Account("s/y", 9)], LEASE)
    assert list(ledger.spent()) == [Spent("s/x", 0, 3, 100)]
