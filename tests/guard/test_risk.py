"""What speaks against a session, what that leads to, and how often it is told."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.errors import ChallengeRequired, SessionInvalid
from proxy.guard import risk as module
from proxy.guard.fingerprint import fingerprint
from proxy.guard.risk import Rates, Risk, RiskOfClient, RiskOfMessage, RiskSettings, RiskWeights
from proxy.model import Client, Credential, Facts, Session
from proxy.telemetry import Metrics
from tests.clients import SHOP, Clock, client, request

KEY = b"k" * 32
FACTS = Facts("hints", "device", "tls", "de", "3320")
DOCS = Path(__file__).parents[2] / "docs"


class Solved:
    async def demand(self, client: Client, session: Session) -> None:
        """It was solved."""


class Unsolved:
    async def demand(self, client: Client, session: Session) -> None:
        raise ChallengeRequired("not solved")


class World:
    def __init__(self, challenge: Any = None, **settings: Any) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.ended: list[tuple[str, str]] = []
        self.settings = RiskSettings(**{"mode": "enforce"} | settings)
        self.risk = Risk(
            self.settings, self.print_of, self.end, challenge or Unsolved(), self.metrics, self.clock, self.clock
        )

    def print_of(self, who: Client) -> str:
        return fingerprint(who, KEY, "standard")

    async def end(self, session: Session, reason: str) -> None:
        self.ended.append((session.id, reason))

    def session(self, **facts: Any) -> Session:
        now = self.clock()
        born = Session("s1", "shop", self.print_of(client(facts=FACTS)), now + 1e6, born=int(now))
        return replace(born, **facts)

    def client(self, session: Session | None = None, **facts: Any) -> Client:
        return client(**{"facts": FACTS, "session": session or self.session(), "site": SHOP} | facts)

    async def points(self, session: Session | None = None, **facts: Any) -> int:
        who = self.client(session, **facts)
        assert who.session is not None
        found = self.risk.signals(who, who.session)
        return sum(self.settings.weights.model_dump()[name] for name in found)


CHANGED: dict[str, tuple[dict[str, Any], int]] = {
    "nothing": ({}, 0),
    "another address": ({"ip": "192.0.2.8"}, 5),
    "another network": ({"ip": "198.51.100.1"}, 25),
    "another provider": ({"facts": replace(FACTS, asn="1")}, 30),
    "another country": ({"facts": replace(FACTS, country="fr")}, 40),
    "another TLS fingerprint": ({"facts": replace(FACTS, tls="other")}, 20),
    "another value of the page": ({"facts": replace(FACTS, device="other")}, 60),
    "no value of the page": ({"facts": replace(FACTS, device="")}, 60),
    "no value where a browser can't send one": ({"facts": replace(FACTS, device=""), "route": "ws"}, 0),
    "nothing that a front says": ({"facts": Facts("", "device")}, 0),
    "everything": ({"ip": "198.51.100.1", "facts": Facts("hints", "x", "x", "x", "x")}, 175),
}


@pytest.mark.parametrize(("facts", "points"), CHANGED.values(), ids=CHANGED.keys())
async def test_what_changed_since_the_opening_has_its_weight(facts: dict[str, Any], points: int) -> None:
    assert await World().points(**facts) == points


async def test_many_openings_many_messages_and_age_have_their_weight() -> None:
    world = World(messages=3)
    session = world.session()
    assert await world.points(replace(session, has_many=True)) == 30
    for number in range(3):
        assert await world.points(session) == 0
        world.risk.count_message(session)
        world.clock.advance(1 if number < 2 else 0)
    assert await world.points(session) == 40
    assert await world.points(replace(session, id="s2")) == 0
    world.clock.advance(8)  # ten seconds after the first of the three
    assert await world.points(session) == 0
    world.clock.advance(43_200)
    assert await world.points(session) == 10
    assert await world.points(replace(session, born=0)) == 0  # as old as a key


async def test_a_fingerprint_that_is_off_says_nothing() -> None:
    world = World()
    world.print_of = lambda who: ""  # type: ignore[method-assign]  # as Sessions does with `off`
    assert await world.points(replace(world.session(), fingerprint=""), ip="198.51.100.1") == 0


async def step(world: World, **facts: Any) -> str:
    """What a request of a session comes to."""
    try:
        await RiskOfClient(world.risk).check(world.client(**facts))
    except (ChallengeRequired, SessionInvalid) as denied:
        return denied.code
    return ""


STEPS = [
    ({"ip": "192.0.2.8"}, ""),
    ({"ip": "198.51.100.1"}, "note"),
    ({"facts": replace(FACTS, device="x")}, "challenge"),
]
STEPS += [({"ip": "198.51.100.1", "facts": Facts("hints", "x", "x")}, "end")]


@pytest.mark.parametrize("mode", ["enforce", "observe"])
@pytest.mark.parametrize(("facts", "name"), STEPS)
async def test_each_sum_leads_to_its_step(
    mode: str, facts: dict[str, Any], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sidegate.audit")
    world = World(mode=mode)
    code = {"challenge": "challenge_required", "end": "session_invalid"}.get(name, "")
    for _ in range(3):
        assert await step(world, **facts) == code  # what is only observed goes on in the flow, and is counted there
    assert world.ended == ([("s1", "risk")] * 3 if (name, mode) == ("end", "enforce") else [])
    alerts = [vars(record)["fields"] for record in caplog.records if record.msg == "SECURITY_ALERT"]
    assert [(alert["step"], alert["mode"]) for alert in alerts] == ([(name, mode)] if name else [])  # once
    counted = {
        sample.labels["step"]: sample.value
        for family in world.metrics.risk_steps.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert counted == ({name: 1} if name else {})


async def test_who_solved_the_challenge_goes_on() -> None:
    world = World(Solved())
    assert await step(world, facts=replace(FACTS, device="x")) == ""


async def test_a_ticket_needs_no_value_of_the_page_on_a_socket() -> None:
    world = World()
    facts = {"facts": replace(FACTS, device=""), "route": "events", "credential": Credential("ticket", "t")}
    assert await step(world, **facts) == ""


async def test_without_a_session_there_is_no_risk() -> None:
    who = client()
    assert await RiskOfClient(World().risk).check(who) is who


async def test_a_sockets_messages_are_judged_one_by_one() -> None:
    world = World(messages=3, challenge=None, weights={"messages": 50})
    stage = RiskOfMessage(world.risk)
    message = request(session=world.session(), facts=FACTS)
    for _ in range(2):
        assert await stage.check(message) is message
    with pytest.raises(ChallengeRequired):
        await stage.check(message)
    world.clock.advance(10)
    await stage.check(message)


async def test_what_is_known_of_rates_and_steps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 2)
    world = World()
    for name in ("s1", "s2", "s3"):
        await step(world, session=world.session(id=name), ip="198.51.100.1")
    assert list(world.risk._told) == ["s2", "s3"]
    rates = Rates(1, 60, Clock())
    for name in ("a", "b", "c"):
        assert rates.count(name)
    assert [rates.is_high(name) for name in ("a", "b", "c")] == [False, True, True]


def test_steps_have_to_grow() -> None:
    with pytest.raises(ValidationError, match="grow in this order"):
        RiskSettings(note=60)


def test_the_weights_are_those_of_the_page() -> None:
    table = (DOCS / "security.md").read_text().split("| signal | points |")[1].split("\n\n")[0]
    assert dict(re.findall(r"\| `(\w+)` \| (\d+) \|", table)) == {
        name: str(points) for name, points in RiskWeights().model_dump().items()
    }
    said = re.findall(r"\| (\w+) \| (\d+) \| ", module.__doc__ or "")
    assert dict(said) == {name: str(points) for name, points in RiskWeights().model_dump().items()}
