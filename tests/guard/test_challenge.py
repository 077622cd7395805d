"""Proof of work: asked for under pressure, solved once, good for one session and for a while."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from altcha.v1 import Challenge as Puzzle
from altcha.v1 import Payload, solve_challenge

from proxy.errors import ChallengeRequired, ContentBlocked
from proxy.guard.challenge import MAX_SOLUTION_CHARS, Challenged, Challenges, ChallengeSettings
from proxy.model import Session
from proxy.store.memory import MemoryStore
from proxy.telemetry import Metrics
from tests.clients import CLIENT, SESSION, SHOP, Clock, client, request
from tests.flows.test_replicas import AT_ONCE, pair
from tests.sidegate import Visitor, sidegate
from tests.upstreams import stream, webhook

OTHER = Session("s2", "shop", "", 2e9)
EASY = {"max_number": 100}


class World:
    def __init__(self, trust: float = 1.0, **settings: Any) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.challenges = Challenges(
            ChallengeSettings.model_validate({"mode": "always"} | EASY | settings),
            b"k" * 32, MemoryStore(self.clock), lambda _: trust, self.metrics, self.clock, self.clock,
        )  # fmt: skip

    async def puzzle(self, session: Session = SESSION) -> dict[str, Any]:
        with pytest.raises(ChallengeRequired) as asked:
            await self.challenges.demand(CLIENT, session)
        assert asked.value.challenge is not None
        return asked.value.challenge

    async def passes(self, solution: str | None, session: Session = SESSION) -> bool:
        try:
            await self.challenges.demand(client(solution=solution), session)
        except ChallengeRequired:
            return False
        return True


def solved(puzzle: dict[str, Any]) -> str:
    """As a browser does it, by the maintained library."""
    made = Puzzle(puzzle["algorithm"], puzzle["challenge"], puzzle["maxnumber"], puzzle["salt"], puzzle["signature"])
    found = solve_challenge(made.challenge, made.salt, made.algorithm, made.max_number)
    assert found is not None
    return Payload(made.algorithm, made.challenge, found.number, made.salt, made.signature).to_base64()


async def test_a_solved_puzzle_is_good_for_its_session_and_for_a_while() -> None:
    world = World(good_for=600)
    assert await world.passes(solved(await world.puzzle()))
    assert await world.passes(None)
    assert not await world.passes(None, OTHER)
    world.clock.advance(601)
    assert not await world.passes(None)
    assert world.metrics.challenges.labels("shop", "solved")._value.get() == 1


async def test_a_solution_is_good_once_in_time_and_for_whom_it_was_asked() -> None:
    world = World(solve_within=60, good_for=60)
    solution = solved(await world.puzzle())
    assert not await world.passes(solution, OTHER)
    assert await world.passes(solution)
    world.clock.advance(30)
    late = solved(await world.puzzle(OTHER))
    world.clock.advance(31)
    assert not await world.passes(solution)  # used, and the session is to prove itself anew
    world.clock.advance(30)
    assert not await world.passes(late, OTHER)


async def test_a_puzzle_of_another_key_or_changed_is_no_puzzle() -> None:
    world, elsewhere = World(), World()
    elsewhere.challenges._key = "other"
    assert not await world.passes(solved(await elsewhere.puzzle()))
    payload = orjson.loads(base64.b64decode(solved(await world.puzzle())))
    for change in (
        {"number": payload["number"] + 1},
        {"salt": payload["salt"] + "&more=1"},
        {"algorithm": "SHA-1"},
        {"signature": payload["signature"][::-1]},
    ):
        assert not await world.passes(base64.b64encode(orjson.dumps(payload | change)).decode())


@pytest.mark.parametrize(
    "solution",
    ["", "x", "é", "e30=", "W10=", "bnVsbA==", "x" * (MAX_SOLUTION_CHARS + 1), base64.b64encode(b"{").decode()],
)
async def test_nonsense_is_no_solution(solution: str) -> None:
    assert not await World().passes(solution)


async def test_a_bad_name_makes_it_harder_up_to_a_bound() -> None:
    assert (await World().puzzle())["maxnumber"] == 100
    assert (await World(trust=0.5).puzzle())["maxnumber"] == 400
    assert (await World(trust=0.01).puzzle())["maxnumber"] == 1600


async def test_so_many_sessions_are_remembered_here_and_the_store_knows_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.guard.challenge.MAX_KNOWN", 1)
    world = World()
    for session in (SESSION, OTHER):
        assert await world.passes(solved(await world.puzzle(session)), session)
    assert len(world.challenges._proved) == 1
    assert await world.passes(None)


async def test_pressure_is_many_refusals_in_a_minute_on_this_site() -> None:
    world = World(mode="auto", pressure=3)
    stage = Challenged(world.challenges)
    blog = replace(SHOP, name="blog")
    for _ in range(3):
        await stage.check(request())
        world.challenges.denied(ContentBlocked("an attack"), client(site=SHOP))
    with pytest.raises(ChallengeRequired):
        await stage.check(request())
    await stage.check(request(site=blog))
    for _ in range(3):
        world.challenges.denied(ContentBlocked("an attack"), client(sites=(blog, SHOP)))
    with pytest.raises(ChallengeRequired):
        await stage.check(request(site=blog))
    world.clock.advance(60)
    await stage.check(request())


async def test_puzzles_are_no_pressure_and_off_is_off() -> None:
    world = World(mode="auto", pressure=1)
    world.challenges.denied(ChallengeRequired("asked"), client(site=SHOP))
    assert not world.challenges.is_asked_for("shop")
    quiet = World(mode="off")
    for _ in range(1000):
        quiet.challenges.denied(ContentBlocked("an attack"), client(site=SHOP))
    assert not quiet.challenges.is_asked_for("shop")


ALWAYS = {"mode": "always", **EASY}


async def asked(visitor: Visitor) -> dict[str, Any]:
    status, problem = await visitor.problem(AT_ONCE)
    assert (status, problem["code"]) == (428, "challenge_required")
    puzzle: dict[str, Any] = problem["challenge"]
    return puzzle


async def test_a_program_that_solves_nothing_costs_nothing() -> None:
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, challenge=ALWAYS) as visitor,
    ):
        await visitor.session()
        puzzle = await asked(visitor)
        assert puzzle.keys() == {"algorithm", "challenge", "maxnumber", "salt", "signature"}
        assert await asked(visitor)
        assert hook.asked == []
        events = await visitor.events(headers={"X-Challenge-Solution": solved(puzzle)})
        assert events[-1].name == "done"
        assert (await visitor.events())[-1].name == "done"
        assert len(hook.asked) == 2


async def test_a_refused_message_can_be_sent_again_with_its_key() -> None:
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, challenge=ALWAYS) as visitor,
    ):
        await visitor.session()
        key = {"Idempotency-Key": "k1"}
        _, problem = await visitor.problem(headers=key)
        events = await visitor.events(headers=key | {"X-Challenge-Solution": solved(problem["challenge"])})
        assert events[-1].name == "done"
        assert len(hook.asked) == 1


async def test_on_a_websocket_it_is_a_frame_each_way() -> None:
    async with sidegate({"kind": "echo", "delay": 0}, challenge=ALWAYS) as visitor:
        await visitor.session()
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers) as socket:
            await socket.send_json({"type": "message", "id": "m1", "message": "hello"})
            frame = await socket.receive_json(timeout=10)
            assert (frame["type"], frame["code"], frame["reply_to"]) == ("challenge", "challenge_required", "m1")
            solution = solved(frame["challenge"])
            await socket.send_json({"type": "message", "id": "m2", "message": "hello", "challenge": solution})
            assert (await socket.receive_json(timeout=10))["type"] == "start"
            while (frame := await socket.receive_json(timeout=10))["type"] != "done":
                assert frame["type"] == "delta"
            assert not socket.closed


async def test_what_one_replica_saw_solved_is_known_to_the_other(tmp_path: Path) -> None:
    async with pair(tmp_path, challenge=ALWAYS) as both:
        await both.session()
        puzzle = await asked(both.a)
        headers = {"X-Challenge-Solution": solved(puzzle)}
        assert (await both.b.events(AT_ONCE, headers=headers))[-1].name == "done"
        assert (await both.a.events(AT_ONCE))[-1].name == "done"


async def test_a_session_at_risk_may_prove_itself(tmp_path: Path) -> None:
    risk = {"mode": "enforce", "messages": 2, "note": 10, "challenge": 30, "end": 1000}
    async with sidegate({"kind": "echo", "delay": 0}, challenge=EASY, session={"risk": risk}) as visitor:
        await visitor.session()
        for _ in range(2):
            async with visitor.post() as response:
                status = response.status
                body = await response.read()
        assert status == 428
        headers = {"X-Challenge-Solution": solved(orjson.loads(body)["challenge"])}
        for _ in range(3):
            assert (await visitor.events(headers=headers))[-1].name == "done"
