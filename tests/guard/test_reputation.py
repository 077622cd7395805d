"""Misbehaviour has a price: smaller limits, then a block, at every replica; and only for whom it should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.errors import AuthFailed, Blocked, ContentBlocked, Denied, RateLimited, SessionInvalid
from proxy.guard.limits import Limits, LimitSettings
from proxy.guard.reputation import BlockList, Reputation, ReputationSettings, Repute
from proxy.model import Request, Session
from proxy.store import StoreDown
from proxy.store.memory import MemoryStore
from proxy.store.reputation import Block, MemoryReputations
from tests.clients import CLIENT, SESSION, Clock, client, request
from tests.edge.test_admin import OPS, TOKEN, config, run
from tests.flows.test_replicas import AT_ONCE, pair
from tests.sidegate import Visitor, sidegate
from tests.until import until
from tests.upstreams import stream, webhook

BAD = ContentBlocked("an attack")


def made(clock: Clock | None = None, **settings: Any) -> Reputation:
    given = ReputationSettings.model_validate({"mode": "enforce"} | settings)
    return Reputation(given, MemoryReputations(clock or Clock()))


def misbehave(reputation: Reputation, times: int, denied: Denied = BAD, **facts: Any) -> None:
    for _ in range(times):
        reputation.denied(denied, client(**facts))


async def test_after_so_many_refusals_an_address_is_blocked_for_a_while() -> None:
    clock = Clock()
    reputation = made(clock)
    stage: Repute = Repute(reputation)
    misbehave(reputation, 9)
    assert await stage.check(CLIENT) is CLIENT
    misbehave(reputation, 1)
    with pytest.raises(Blocked) as refused:
        await stage.check(CLIENT)
    assert refused.value.retry_after == 900
    await stage.check(client(ip="198.51.100.1"))
    clock.advance(900)
    await stage.check(CLIENT)


async def test_a_session_is_blocked_wherever_it_comes_from() -> None:
    reputation = made()
    stage: Repute = Repute(reputation)
    for number in range(10):
        misbehave(reputation, 1, ip=f"198.51.100.{number}", session=SESSION)
    elsewhere = request(ip="203.0.113.5")
    with pytest.raises(Blocked, match="session is blocked"):
        await stage.check(with_session(elsewhere, SESSION))
    await stage.check(with_session(elsewhere, Session("s2", "shop", "", 2e9)))


def with_session(asked: Request, session: Session) -> Request:
    return replace(asked, client=replace(asked.client, session=session), session=session)


@pytest.mark.parametrize(
    ("denied", "times"),
    [(RateLimited("over"), 951), (SessionInvalid("expired"), 96), (AuthFailed("guess"), 10)],
)
async def test_clumsiness_weighs_less_than_guessing(denied: Denied, times: int) -> None:
    reputation = made()
    misbehave(reputation, times - 1, denied)
    reputation.check(CLIENT)
    misbehave(reputation, 1, denied)
    with pytest.raises(Blocked):
        reputation.check(CLIENT)


async def test_being_refused_while_blocked_adds_nothing() -> None:
    clock = Clock()
    reputation = made(clock)
    misbehave(reputation, 10)
    misbehave(reputation, 1000, Blocked("again"))
    clock.advance(900)
    reputation.check(CLIENT)


async def test_networks_that_are_written_down_come_first() -> None:
    reputation = made(allow=["192.0.2.0/24"], block=["198.51.100.0/24", "2001:db8::/32"])
    misbehave(reputation, 100)
    reputation.check(CLIENT)
    listed = BlockList(reputation)
    assert await listed.check(CLIENT) is CLIENT
    for ip in ("198.51.100.9", "2001:db8::1"):
        with pytest.raises(Blocked, match="is in reputation"):
            await listed.check(client(ip=ip))
    await listed.check(client(ip="unknown"))
    with pytest.raises(Blocked):
        await BlockList(made(block=["192.0.2.0/24"], mode="observe")).check(CLIENT)


async def test_a_hand_holds_also_where_points_are_only_observed() -> None:
    clock = Clock()
    reputation = made(clock, mode="observe")
    listed = BlockList(reputation)
    await reputation.block("session:shop/s1", 60)
    await listed.check(CLIENT)
    with pytest.raises(Blocked, match="session is blocked by hand"):
        await listed.check(with_session(request(), SESSION))
    clock.advance(60)
    await listed.check(with_session(request(), SESSION))


def test_what_is_no_network_is_refused_with_advice() -> None:
    with pytest.raises(ValidationError, match="write an address or a CIDR"):
        ReputationSettings.model_validate({"block": ["everybody"]})
    assert ReputationSettings.model_validate({"allow": ["192.0.2.7/24"]}).allow == ("192.0.2.0/24",)


async def test_a_bad_name_shrinks_the_own_limits_and_nobody_elses() -> None:
    clock = Clock()
    reputation = made(clock, half_life=86_400)
    rules = (
        LimitSettings(per="ip", limit=8, window=60, burst=4),
        LimitSettings(per="session", limit=100, window=60),
        LimitSettings(per="site", limit=50, window=60),
    )
    stage = Limits({"shop": rules}, MemoryStore(clock=clock), "enforce", reputation.trust)
    assert [count.limit for count in (await stage.check(request())).counts] == [8, 100, 50]
    misbehave(reputation, 5)
    assert reputation.trust(CLIENT) == 1.0
    misbehave(reputation, 4)
    assert 0.25 < reputation.trust(CLIENT) < 0.5
    clock.advance(30)
    counts = (await stage.check(request())).counts
    assert [count.limit // 10 for count in counts] == [0, 4, 5]
    assert [count.limit - count.remaining for count in counts][1:] == [2, 2]
    assert reputation.trust(client(ip="198.51.100.1")) == 1.0


async def test_observed_it_shrinks_and_blocks_nothing() -> None:
    async with sidegate(ECHO, reputation={"block_after": 2}) as visitor:
        await visitor.session()
        await attack(visitor, 5)
        assert (await visitor.events())[-1].name == "done"
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            assert 'sidegate_denied_total{code="blocked",mode="observe",stage="reputation"}' in await response.text()


ECHO = {"kind": "echo", "delay": 0}
STRICT = {"block_after": 3, "block_for": 600, "mode": "enforce"}
ATTACK = "1' OR '1'='1' UNION SELECT password FROM users --"


async def attack(visitor: Visitor, times: int) -> list[str]:
    return [(await visitor.problem(ATTACK))[1]["code"] for _ in range(times)]


async def test_attacks_end_in_a_block_that_costs_the_upstream_nothing() -> None:
    async with webhook(lambda _: stream("hi")) as hook, sidegate(
        {"kind": "n8n", "url": hook.url}, reputation=STRICT
    ) as visitor:  # fmt: skip
        await visitor.session()
        assert await attack(visitor, 4) == ["content_blocked"] * 3 + ["blocked"]
        async with visitor.post("hello", accept="application/json") as response:
            assert response.status == 403
            assert 590 < (await response.json(content_type=None))["retry_after"] <= 600
        assert hook.asked == []


async def test_a_page_that_is_not_ours_is_counted_before_it_has_a_session() -> None:
    async with sidegate(ECHO, reputation=STRICT) as visitor:
        codes = []
        for _ in range(4):
            headers = visitor.headers | {"Origin": "https://evil.example"}
            async with visitor.http.post(f"{visitor.url}/v1/session", headers=headers) as response:
                codes.append((await response.json(content_type=None))["code"])
        assert codes == ["origin_denied"] * 3 + ["blocked"]


async def test_replicas_tell_each_other_and_a_hand_can_forgive(tmp_path: Path) -> None:
    async with pair(tmp_path, reputation=STRICT) as both:
        await both.session()
        assert await attack(both.a, 2) == ["content_blocked"] * 2
        await settled(both.redis, 2)
        assert await attack(both.b, 1) == ["content_blocked"]  # the third of all
        await until_code(both.a, "blocked")
        await until_code(both.b, "blocked")


async def settled(redis: Any, points: int) -> None:
    key = "sidegate:{reputation}:of:ip:127.0.0.1"
    await until(lambda: float(redis.ask("HGET", key, "score") or 0) > points - 0.1)


async def until_code(visitor: Visitor, code: str) -> None:
    async with asyncio.timeout(10):
        while True:
            async with visitor.post(AT_ONCE, accept="application/json") as response:
                if (await response.json(content_type=None)).get("code") == code:
                    return
            await asyncio.sleep(0.05)


async def test_the_command_line_lists_blocks_and_forgives(tmp_path: Path) -> None:
    async with sidegate(ECHO, ops=OPS, reputation=STRICT) as visitor:
        path = config(tmp_path, int(visitor.ops_url.rpartition(":")[2]))
        await visitor.session()
        await attack(visitor, 3)
        code, output = await run("--config", path, "blocks", "list")
        assert code == 0
        assert [line.split()[0].partition(":")[0] for line in output.splitlines()] == ["ip", "session"]
        for subject in (line.split()[0] for line in output.splitlines()):
            assert await run("--config", path, "blocks", "remove", subject) == (0, FORGOTTEN)
        assert (await visitor.events())[-1].name == "done"
        assert (await run("--config", path, "blocks", "add", "ip:127.0.0.1", "--seconds", "60"))[0] == 0
        assert (await visitor.problem())[1]["code"] == "blocked"
        code, output = await run("--config", path, "blocks", "list")
        assert "by hand" in output
        code, output = await run("--config", path, "blocks", "add", "everybody")
        assert (code, "ip:ADDRESS or session:SITE/ID" in output) == (1, True)


async def test_blocks_are_nobodys_to_see_without_the_token() -> None:
    async with sidegate(ECHO, ops=OPS) as visitor:
        for method in ("GET", "PUT", "DELETE"):
            url = f"{visitor.ops_url}/admin/blocks" + ("" if method == "GET" else "/ip:192.0.2.7")
            async with visitor.http.request(method, url) as response:
                assert response.status == 401
        async with visitor.http.get(
            f"{visitor.ops_url}/admin/blocks", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as response:
            assert await response.json() == {"blocks": []}


FORGOTTEN = "Forgotten, at every replica within a second.\n"


class Away:
    """A shared store that isn't there until it is."""

    def __init__(self) -> None:
        self.is_up = False
        self.noted: dict[str, float] = {}
        self.asked = 0

    async def note(self, points: dict[str, float], rule: object) -> dict[str, Any]:
        self.asked += 1
        if not self.is_up:
            raise StoreDown("away")
        for subject, count in points.items():
            self.noted[subject] = self.noted.get(subject, 0) + count
        return {subject: MemoryReputations(Clock()).note(subject, count, rule) for subject, count in points.items()}  # type: ignore[arg-type]  # a Rule

    async def block(self, *_: object) -> None:
        raise StoreDown("away")

    unblock = block

    async def blocks(self, known: int) -> tuple[int, list[Block]] | None:
        self.asked += 1
        if not self.is_up:
            raise StoreDown("away")
        return None if known == 1 else (1, [Block("ip:203.0.113.9", 60)])


async def test_what_could_not_be_told_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.guard.reputation.EVERY", 0.01)
    away = Away()
    settings = ReputationSettings(mode="enforce")
    reputation = Reputation(settings, MemoryReputations(Clock()), away)  # type: ignore[arg-type]  # a stand-in
    reputation.start()
    misbehave(reputation, 3)
    async with asyncio.timeout(10), AsyncExitStack() as stack:
        stack.push_async_callback(reputation.close)
        await until(lambda: away.asked >= 4)
        with pytest.raises(StoreDown):
            await reputation.block("ip:198.51.100.1", 60)
        with pytest.raises(Blocked):  # here it is, all the same
            reputation.check(client(ip="198.51.100.1"))
        away.is_up = True
        await until(lambda: away.noted == {"ip:192.0.2.7": 3})
        while True:  # and what others block is heard of
            try:
                reputation.check(client(ip="203.0.113.9"))
            except Blocked:
                break
            await asyncio.sleep(0.01)


async def test_only_so_many_are_waited_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.guard.reputation.MAX_UNSAID", 2)
    reputation = Reputation(ReputationSettings(), MemoryReputations(Clock()), Away())  # type: ignore[arg-type]  # a stand-in
    for number in range(4):
        misbehave(reputation, 1, ip=f"198.51.100.{number}")
    misbehave(reputation, 1, ip="198.51.100.0")
    assert reputation._unsaid == {"ip:198.51.100.0": 2, "ip:198.51.100.1": 1}


class Known:
    """A shared store that says what it is told to."""

    def __init__(self) -> None:
        self.found: list[Block] = []
        self.state = 0
        self.unblocked: list[str] = []
        self.noted = 0.0
        self.meanwhile: list[Callable[[], None]] = []

    async def note(self, points: dict[str, float], rule: Any) -> dict[str, Any]:
        if self.meanwhile:
            self.meanwhile.pop()()
        self.noted += sum(points.values())
        return {subject: MemoryReputations(Clock()).note(subject, count, rule) for subject, count in points.items()}

    async def unblock(self, subject: str) -> None:
        self.unblocked.append(subject)

    async def blocks(self, known: int) -> tuple[int, list[Block]] | None:
        return None if known == self.state else (self.state, self.found)


async def test_what_others_block_and_forgive_is_followed() -> None:
    clock, known = Clock(), Known()
    reputation = Reputation(ReputationSettings(mode="enforce"), MemoryReputations(clock), known)  # type: ignore[arg-type]  # a stand-in
    known.found, known.state = [Block("ip:203.0.113.8", 30), Block("ip:203.0.113.9", 60)], 1
    await reputation._hear(known)  # type: ignore[arg-type]  # as above
    await reputation._hear(known)  # type: ignore[arg-type]  # nothing new
    assert await reputation.blocks() == known.found
    for address in (8, 9):
        with pytest.raises(Blocked):
            reputation.check(client(ip=f"203.0.113.{address}"))
    known.found, known.state = [Block("ip:203.0.113.9", 10)], 2  # the other was let in again
    await reputation._hear(known)  # type: ignore[arg-type]  # as above
    reputation.check(client(ip="203.0.113.8"))
    clock.advance(30)
    with pytest.raises(Blocked):  # what is known here lasts longer
        reputation.check(client(ip="203.0.113.9"))
    await reputation.unblock("ip:203.0.113.9")
    assert known.unblocked == ["ip:203.0.113.9"]
    reputation.check(client(ip="203.0.113.9"))
    known.state = -1
    assert await reputation.blocks() == ()


async def test_points_that_come_while_others_are_told_are_told_as_well() -> None:
    known = Known()
    reputation = Reputation(ReputationSettings(), MemoryReputations(Clock()), known)  # type: ignore[arg-type]  # a stand-in
    known.meanwhile = [lambda: misbehave(reputation, 2)]
    reputation.start()
    misbehave(reputation, 1)
    await until(lambda: known.noted == 3)
    await reputation.close()
