"""What a replica knows of sessions that were ended: from itself, from the others, and when it can't know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from proxy.errors import SessionInvalid, UpstreamUnavailable
from proxy.guard.revocation import Revocations
from proxy.model import Session
from proxy.store import Mark, Marks, StoreDown
from tests.clients import Clock
from tests.until import until

KEY = b"k" * 32
KEEP, PATIENCE = 1000, 60
PAGE = 3


@dataclass
class Log:
    """A RevocationLog in memory, that can be away, lose everything or the last entries, and be full."""

    facts: tuple[str, int] | None = None
    entries: list[Mark] = field(default_factory=list)
    is_down: bool = False
    is_full: bool = False

    def lose(self, number: int | None = None) -> None:
        """So many entries; without a number, all that there is."""
        if number is None:
            self.facts, self.entries = None, []
        else:
            del self.entries[-number:]

    async def begin(self, name: str, since: int) -> None:
        self.facts = self.facts or (name, since)

    async def revoke(self, marks: Sequence[Mark], keep: float) -> None:
        self._ask()
        assert keep == KEEP
        if self.is_full:
            raise StoreDown("full")
        self.entries += marks

    async def revoked(self, after: int) -> Marks:
        self._ask()
        name, since = self.facts or (None, 0)
        page = self.entries[after + 1 : after + 1 + PAGE]
        return Marks(name, since, len(self.entries) - 1, after + len(page), page)

    def _ask(self) -> None:
        if self.is_down:
            raise StoreDown("away")


class World:
    """One log, one clock, and as many replicas as are asked for."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.steady = Clock()
        self.log = Log()

    async def replica(self) -> Revocations:
        revocations = Revocations(KEY, KEEP, self.log, PATIENCE, self.clock, self.steady)
        await revocations._look(self.log)
        return revocations

    async def look(self, *replicas: Revocations) -> None:
        for replica in replicas:
            await replica._look(self.log)

    def session(self, name: str = "s1", **facts: object) -> Session:
        now = int(self.clock())
        session = Session(name, "shop", "", now + KEEP, born=now)
        return replace(session, **facts)  # type: ignore[arg-type]  # the fields have several types

    def pass_(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.steady.advance(seconds)


def alone(clock: Clock) -> Revocations:
    return Revocations(KEY, KEEP, clock=clock)


async def test_an_ended_session_is_refused_and_no_other() -> None:
    world = World()
    revocations = alone(world.clock)
    session, others = world.session(), [world.session("s2"), world.session(site="blog"), world.session("")]
    await revocations.end(session)
    with pytest.raises(SessionInvalid, match="was ended"):
        revocations.check(session)
    for other in others:
        revocations.check(other)


async def test_a_session_is_over_at_its_end() -> None:
    world = World()
    session = world.session()
    world.pass_(KEEP)
    with pytest.raises(SessionInvalid, match="over"):
        alone(world.clock).check(session)


@pytest.mark.parametrize("kind", ["owner", "key", "site"])
async def test_all_of_an_owner_a_key_or_a_site_end_and_later_ones_do_not(kind: str) -> None:
    world = World()
    revocations = alone(world.clock)
    facts = {} if kind == "site" else {kind: "anna"}
    before = world.session(**facts)
    await revocations.end_all("shop", kind, facts.get(kind, ""))  # type: ignore[arg-type]  # one of the three
    world.pass_(1)
    after = world.session("s2", **facts)
    assert revocations.is_revoked(before)
    assert not revocations.is_revoked(after)
    assert not revocations.is_revoked(world.session("s3", site="blog", born=0, **facts))
    if facts:
        assert not revocations.is_revoked(world.session("s4", born=0, **{kind: "bert"}))
    await revocations.end_all("shop", kind, facts.get(kind, ""))  # type: ignore[arg-type]  # one of the three
    assert revocations.is_revoked(after)


async def test_what_nobody_could_use_any_more_is_forgotten() -> None:
    world = World()
    replica = await world.replica()
    for number in range(5):
        await replica.end(world.session(f"s{number}"))
        world.pass_(1)
    world.pass_(KEEP - 4)
    await world.look(replica)
    replica.check(world.session("other"))
    assert len(replica._marks) == 3
    world.pass_(3)
    await world.look(replica)
    replica.check(world.session("other"))
    assert not replica._marks


async def test_what_one_replica_ends_every_replica_refuses_after_its_next_look() -> None:
    world = World()
    one, other = await world.replica(), await world.replica()
    sessions = [world.session(f"s{number}") for number in range(3 * PAGE)]
    for session in sessions:
        await one.end(session)
        other.check(session)
    await world.look(other)
    assert all(other.is_revoked(session) for session in sessions)


async def test_a_new_replica_knows_what_was_ended_before() -> None:
    world = World()
    session = world.session()
    await (await world.replica()).end(session)
    assert (await world.replica()).is_revoked(session)


async def test_a_revocation_that_cannot_be_written_down_is_an_error_and_told_later() -> None:
    world = World()
    one, other = await world.replica(), await world.replica()
    world.log.is_down = True
    with pytest.raises(UpstreamUnavailable, match="not written down"):
        await one.end(world.session())
    assert one.is_revoked(world.session())
    world.log.is_down = False
    await world.look(one, other)
    assert other.is_revoked(world.session())
    assert len(world.log.entries) == 1


async def test_a_log_that_lost_its_last_entries_gets_them_back() -> None:
    world = World()
    one, other = await world.replica(), await world.replica()
    for name in ("s1", "s2", "s3"):
        await one.end(world.session(name))
    await world.look(one, other)
    world.log.lose(2)
    await other.end(world.session("s4"))
    await world.look(one, other, one)
    new = await world.replica()
    assert all(new.is_revoked(world.session(name)) for name in ("s1", "s2", "s3", "s4"))


async def test_a_log_that_is_lost_is_written_anew_by_whoever_knows_it() -> None:
    world = World()
    one, other = await world.replica(), await world.replica()
    lives = world.session("s2")
    await one.end(world.session())
    await world.look(other)
    world.pass_(5)
    world.log.lose()
    await world.look(other, one)
    new = await world.replica()
    assert new.is_revoked(world.session(born=lives.born))
    for replica in (one, other, new):
        replica.check(lives)


async def test_where_nobody_is_left_who_knows_it_older_sessions_end() -> None:
    world = World()
    await world.replica()
    before = world.session("s2")
    world.pass_(5)
    world.log.lose()
    new = await world.replica()
    with pytest.raises(SessionInvalid):
        new.check(before)
    new.check(world.session("s3"))
    new.check(world.session("what hangs on a key of the configuration", born=0))


async def test_a_replica_that_never_reached_the_log_refuses_what_is_older_than_itself() -> None:
    world = World()
    before = world.session()
    world.pass_(5)
    world.log.is_down = True
    replica = await world.replica()
    with pytest.raises(UpstreamUnavailable, match="not reached yet"):
        replica.check(before)
    replica.check(world.session("s2"))
    world.log = Log(("first", 0))
    await world.look(replica)
    replica.check(before)


async def test_a_replica_that_hears_nothing_for_too_long_refuses_everybody_until_it_hears_again() -> None:
    world = World()
    replica = await world.replica()
    world.log.is_down = True
    world.pass_(PATIENCE)
    await world.look(replica)
    replica.check(world.session())
    world.pass_(1)
    with pytest.raises(UpstreamUnavailable, match="too long"):
        replica.check(world.session())
    world.log.is_down = False
    await world.look(replica)
    replica.check(world.session())


async def test_too_many_revocations_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    replica = await world.replica()
    world.log.is_full = True
    with pytest.raises(UpstreamUnavailable):
        await replica.end(world.session())
    monkeypatch.setattr("proxy.guard.revocation.MAX_MARKS", 1)
    with pytest.raises(UpstreamUnavailable, match="known already"):
        await replica.end(world.session("s2"))
    world.log.is_full = False
    await replica.end(world.session())


async def test_many_that_were_not_told_are_told_in_several_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.guard.revocation.MAX_SAID", 2)
    world = World()
    one, other = await world.replica(), await world.replica()
    world.log.is_down = True
    for number in range(5):
        with pytest.raises(UpstreamUnavailable):
            await one.end(world.session(f"s{number}"))
    world.log.is_down = False
    await world.look(one, other)
    assert all(other.is_revoked(world.session(f"s{number}")) for number in range(5))


async def test_what_is_ended_again_while_it_is_told_is_told_again() -> None:
    world = World()
    replica = await world.replica()
    first = world.log.revoke

    async def meanwhile(marks: Sequence[Mark], keep: float) -> None:
        await first(marks, keep)
        if len(world.log.entries) == 1:
            world.pass_(1)
            replica._unsaid[marks[0].subject] = replace(marks[0], at=marks[0].at + 1)

    world.log.revoke = meanwhile  # type: ignore[method-assign]  # the second end comes at the worst moment
    await replica.end(world.session())
    await world.look(replica)
    assert [mark.at for mark in world.log.entries] == [1_000_000, 1_000_001]


async def test_what_is_done_is_cut_short_when_its_session_is_ended_elsewhere() -> None:
    world = World()
    one, other = await world.replica(), await world.replica()
    session, started = world.session(), asyncio.Event()
    told: list[str] = []
    other.on_change(lambda: told.append("changed"))

    async def listen() -> None:
        async with other.lasting(session):
            started.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(_refused(listen()))
        await started.wait()
        await one.end(world.session("somebody else"))
        await world.look(other)
        await one.end(session)
        await world.look(other)
        await listening
    assert told == ["changed", "changed"]
    assert not other._watchers


async def _refused(listening: asyncio.Future[None] | object) -> None:
    with pytest.raises(SessionInvalid):
        await listening  # type: ignore[misc]  # a coroutine


async def test_a_lost_log_ends_what_is_done_for_older_sessions() -> None:
    world = World()
    replica = await world.replica()
    session, started = world.session(), asyncio.Event()

    async def listen() -> None:
        async with replica.lasting(session):
            started.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(_refused(listen()))
        await started.wait()
        world.pass_(5)
        world.log.lose()
        await world.log.begin("begun by a replica that knew nothing", int(world.clock()))
        await world.look(replica)


async def test_what_has_ended_already_is_cut_at_once_and_nothing_else_is() -> None:
    clock = Clock()
    world = World()
    revocations = alone(clock)
    gone = world.session("gone")
    await revocations.end(gone)
    with pytest.raises(SessionInvalid):
        async with revocations.lasting(gone):
            await asyncio.Event().wait()
    with pytest.raises(SessionInvalid):
        async with revocations.lasting(world.session("over", ends=clock())):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError):  # somebody else's
        async with revocations.lasting(world.session("lives")):
            raise TimeoutError
    async with revocations.lasting(world.session("one")), revocations.lasting(world.session("two")):
        pass
    assert not revocations._watchers


async def test_what_lasts_long_is_cut_when_its_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.guard.revocation.SOON", 0.01)
    clock = Clock()
    revocations = alone(clock)

    async def last() -> None:
        async with revocations.lasting(World().session(ends=clock() + 1000)):
            clock.advance(1000)
            await asyncio.Event().wait()

    async with asyncio.timeout(10):
        with pytest.raises(SessionInvalid):
            await last()
    assert not revocations._lasting
    assert revocations._look_at_ends is None


async def test_it_looks_by_itself_from_start_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.guard.revocation.EVERY", 0.01)
    world = World()
    one = await world.replica()
    other = Revocations(KEY, KEEP, world.log, PATIENCE, world.clock, world.steady)
    await other.start()
    await one.end(world.session())
    async with asyncio.timeout(10):
        while not other.is_revoked(world.session()):  # noqa: ASYNC110 - its looking is another task
            await asyncio.sleep(0.01)
    await other.close()
    by_itself = alone(world.clock)
    await by_itself.start()
    await by_itself.close()


async def test_what_ends_its_looking_is_told_and_raised_when_it_closes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.guard.revocation.EVERY", 0.0)
    world = World()
    replica = Revocations(KEY, KEEP, world.log, PATIENCE, world.clock, world.steady)
    await replica.start()

    async def broken(_: int) -> Marks:
        raise ZeroDivisionError

    world.log.revoked = broken  # type: ignore[assignment, method-assign]  # a mistake of ours
    await until(lambda: "revocations ended: ZeroDivisionError" in caplog.text)
    with pytest.raises(ZeroDivisionError):
        await replica.close()
