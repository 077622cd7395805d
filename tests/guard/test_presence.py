"""Who is listed, told and counted; what the list says to those without the key; and what happens without Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from proxy.errors import RateLimited, UpstreamUnavailable
from proxy.guard import presence as module
from proxy.guard.presence import AGAIN, LISTED_SECONDS, Presence
from proxy.guard.revocation import Revocations
from proxy.model import Session
from proxy.store import Listed, StoreDown
from proxy.store.sessions import MemorySessions
from tests.clients import Clock, client
from tests.until import until

KEY = b"k" * 32


class Away(MemorySessions):
    """A list that may be away, and counts who was told."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.is_down = False
        self.told: list[int] = []

    async def enter(self, site: str, session: Listed, most: int, most_of_owner: int, keep: int) -> list[str] | None:
        self._ask()
        return await super().enter(site, session, most, most_of_owner, keep)

    async def seen(self, site: str, sessions: Sequence[Listed], keep: int) -> None:
        self._ask()
        self.told.append(len(sessions))
        await super().seen(site, sessions, keep)

    async def leave(self, site: str, session: Listed) -> None:
        self._ask()
        await super().leave(site, session)

    async def listed(self, site: str, owner: str, first: int, number: int, keep: int) -> list[Listed]:
        self._ask()
        return await super().listed(site, owner, first, number, keep)

    def _ask(self) -> None:
        if self.is_down:
            raise StoreDown("away")


class World:
    def __init__(self, most: int = 100, most_of_owner: int = 2) -> None:
        self.clock = Clock()
        self.sessions = Away(self.clock)
        self.revocations = Revocations(KEY, 10_000, clock=self.clock)
        self.presence = Presence(self.sessions, self.revocations, KEY, most, most_of_owner, self.clock)

    def session(self, name: str = "s1", **facts: object) -> Session:
        session = Session(name, "shop", "", self.clock() + 1000, born=int(self.clock()))
        return replace(session, **facts)  # type: ignore[arg-type]  # the fields have several types

    async def ids(self, site: str = "shop", owner: str = "") -> list[str]:
        return [known.id for known in await self.presence.listed(site, owner)]


async def test_the_list_says_who_when_and_around_where() -> None:
    world = World()
    await world.presence.enter(world.session(owner="jwt:ann", key="jwt"), client())
    (known,) = await world.presence.listed("shop", "jwt:ann")
    assert known == module.Known("s1", "shop", "jwt:ann", "jwt", 1_000_000, "192.0.2.0/24", 1_000_000.0)


async def test_without_the_key_the_list_says_nothing() -> None:
    world = World()
    await world.presence.enter(world.session(owner="jwt:ann"), client())
    (sealed,) = await world.sessions.listed("shop", "", 0, 10, LISTED_SECONDS)
    for word in ("s1", "ann", "192.0.2"):
        assert word not in repr(sealed)
    other = Presence(world.sessions, world.revocations, b"x" * 32, 100, 2)
    assert await other.listed("shop") == []
    await world.sessions.seen("shop", [Listed(sealed.name, "", b"short")], LISTED_SECONDS)
    await world.sessions.seen("shop", [replace(sealed, name="0" * 32)], LISTED_SECONDS)  # put under another name
    assert await world.ids() == []


async def test_a_full_site_takes_no_more() -> None:
    world = World(most=1)
    await world.presence.enter(world.session(), client())
    with pytest.raises(RateLimited):
        await world.presence.enter(world.session("s2"), client())
    await world.presence.enter(world.session("s2", site="blog"), client())


async def test_an_owners_oldest_session_ends_when_there_are_too_many() -> None:
    world = World()
    sessions = [world.session(f"s{number}", owner="jwt:ann") for number in range(3)]
    for session in sessions:
        await world.presence.enter(session, client())
        world.clock.advance(1)
    assert [world.revocations.is_revoked(session) for session in sessions] == [True, False, False]
    assert await world.ids() == ["s2", "s1"]


async def test_who_is_seen_all_the_time_is_told_once_a_minute() -> None:
    world = World()
    session = world.session()
    for _ in range(round(3 * AGAIN)):
        world.presence.seen(session, client())
        world.presence.seen(world.session(site="blog"), client())
        await world.presence.tell()
        world.clock.advance(1)
    assert len(world.sessions.told) == 6
    assert await world.ids() == await world.ids("blog") == ["s1"]
    world.clock.advance(AGAIN)
    await world.presence.tell()
    assert not world.presence._told


async def test_who_leaves_is_not_told_of_any_more() -> None:
    world = World()
    await world.presence.enter(world.session(), client())
    world.presence.seen(world.session("s2"), client())
    for name in ("s1", "s2"):
        await world.presence.leave(world.session(name))
    await world.presence.tell()
    assert await world.ids() == []
    assert world.presence.active() == 0


async def test_without_the_list_sessions_go_on_uncounted_and_are_told_of_later() -> None:
    world = World(most=1)
    world.sessions.is_down = True
    for name in ("s1", "s2"):
        await world.presence.enter(world.session(name), client())
        world.presence.seen(world.session(name), client())
    await world.presence.tell()
    await world.presence.leave(world.session("s2"))
    with pytest.raises(UpstreamUnavailable):
        await world.presence.listed("shop")
    world.sessions.is_down = False
    await world.presence.tell()
    assert await world.ids() == []
    world.presence.seen(world.session(), client())
    await world.presence.tell()
    assert await world.ids() == ["s1"]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACTIVE", 2)
    world = World()
    for number in range(5):
        world.presence.seen(world.session(f"s{number}"), client())
        await world.presence.tell()
    assert world.presence.active() == len(world.presence._told) == 2
    for number in range(5, 9):
        world.presence.seen(world.session(f"s{number}"), client())
    assert len(world.presence._untold) == 2


async def test_it_tells_by_itself_from_start_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_EVERY", 0.01)
    world = World()
    world.presence.start()
    world.presence.seen(world.session(), client())
    async with asyncio.timeout(10):
        while not await world.ids():  # noqa: ASYNC110 - it is another task that tells
            await asyncio.sleep(0.01)
    await world.presence.close()
    await world.presence.close()


async def test_what_ends_its_telling_is_told_and_raised_when_it_closes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "TELL_EVERY", 0.0)
    world = World()

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.presence, "tell", broken)
    world.presence.start()
    await until(lambda: "presence ended: ZeroDivisionError" in caplog.text)
    with pytest.raises(ZeroDivisionError):
        await world.presence.close()
