"""The list of sessions, in memory and in a real Redis: bounded for sites and owners, and gone when nobody was seen."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.guard.presence import LISTED_SECONDS, Presence
from proxy.guard.revocation import Revocations
from proxy.model import Session
from proxy.store import Listed, SessionList
from proxy.store import sessions as in_memory
from proxy.store.redis.link import Link
from proxy.store.redis.sessions import RedisSessions
from proxy.store.sessions import MemorySessions
from proxy.store.url import parse_url
from tests.clients import client
from tests.servers import RedisServer
from tests.store.conftest import Clock

KEEP = 100


@dataclass
class Backend:
    """A list whose time stands still until advance()."""

    sessions: SessionList
    advance: Callable[[float], None]
    keys: Callable[[], int]  # that it keeps anything under

    async def enter(self, name: str, owner: str = "", *, most: int = 100, most_of_owner: int = 3) -> list[str] | None:
        return await self.sessions.enter("shop", one(name, owner), most, most_of_owner, KEEP)

    async def names(self, owner: str = "", first: int = 0, number: int = 100) -> list[str]:
        return [known.name for known in await self.sessions.listed("shop", owner, first, number, KEEP)]


def one(name: str, owner: str = "") -> Listed:
    return Listed(name, owner, f"facts of {name}".encode())


@pytest.fixture(params=["memory", "redis"])
async def backend(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Backend]:
    if request.param == "memory":
        memory = MemorySessions(clock)
        yield Backend(memory, clock.advance, lambda: len(memory._sites) + len(memory._owners))
        return
    server: RedisServer = request.getfixturevalue("still_redis")
    server.call("FLUSHALL")
    link = Link(parse_url(server.url), deadline=30)
    yield Backend(RedisSessions(link), server.advance, lambda: int(server.call("KEYS", "*")[1:]))
    await link.close()


async def test_those_seen_last_come_first_and_page_by_page(backend: Backend) -> None:
    for name in "abcd":
        await backend.enter(name, "ann" if name in "bc" else "")
        backend.advance(1)
    await backend.sessions.seen("shop", [one("a")], KEEP)
    assert await backend.names() == ["a", "d", "c", "b"]
    assert await backend.names(first=1, number=2) == ["d", "c"]
    assert await backend.names("ann") == ["c", "b"]
    assert await backend.names("bert") == []
    assert await backend.sessions.listed("blog", "", 0, 100, KEEP) == []
    (known,) = await backend.sessions.listed("shop", "", 0, 1, KEEP)
    assert known.facts == b"facts of a"


async def test_who_isnt_seen_goes_and_may_come_back(backend: Backend) -> None:
    await backend.enter("a", "ann")
    await backend.enter("b")
    backend.advance(KEEP - 1)
    await backend.sessions.seen("shop", [one("b")], KEEP)
    backend.advance(2)
    assert await backend.names() == ["b"]
    assert await backend.names("ann") == []
    await backend.sessions.seen("shop", [one("a", "ann")], KEEP)
    assert await backend.names() == ["a", "b"]
    assert await backend.names("ann") == ["a"]


async def test_a_site_has_so_many_and_no_more(backend: Backend) -> None:
    for name in "ab":
        assert await backend.enter(name, most=2) == []
    assert await backend.enter("c", most=2) is None
    assert await backend.sessions.enter("blog", one("c"), 2, 3, KEEP) == []
    backend.advance(KEEP + 1)
    assert await backend.enter("c", most=2) == []
    assert await backend.names() == ["c"]


async def test_of_an_owner_those_go_that_were_seen_longest_ago(backend: Backend) -> None:
    for name in "abc":
        assert await backend.enter(name, "ann") == []
        backend.advance(1)
    await backend.enter("x", "bert")
    await backend.sessions.seen("shop", [one("a", "ann")], KEEP)
    backend.advance(1)
    assert await backend.enter("d", "ann") == ["b"]
    assert await backend.enter("e", "ann", most_of_owner=1) == ["c", "a", "d"]
    assert set(await backend.names()) == {"x", "e"}
    assert await backend.names("ann") == ["e"]


async def test_who_leaves_is_gone(backend: Backend) -> None:
    await backend.enter("a", "ann")
    await backend.enter("b")
    await backend.sessions.leave("shop", one("a", "ann"))
    await backend.sessions.leave("shop", one("unknown"))
    assert await backend.names() == ["b"]
    assert await backend.names("ann") == []
    await backend.sessions.leave("shop", one("b"))
    assert backend.keys() == 0


async def test_what_a_process_lists_is_bounded_whatever_was_configured(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_memory, "MAX_LISTED", 2)
    memory = MemorySessions(clock)
    await memory.seen("shop", [one("a"), one("b"), one("c")], KEEP)
    assert [known.name for known in await memory.listed("shop", "", 0, 100, KEEP)] == ["c", "b"]


async def test_a_hundred_thousand_sessions_leave_nothing_behind(backend: Backend) -> None:
    """Listed, seen, a tenth of them ended; then their time is over. Memory of this process, and keys of the store."""
    now = [1_000_000.0]
    revocations = Revocations(b"k" * 32, 60, clock=lambda: now[0])
    presence = Presence(backend.sessions, revocations, b"k" * 32, 1_000_000, 20, steady=lambda: now[0])
    resident = []
    for number in (2_000, 100_000):  # the first ones warm up what stays for good
        for at in range(number):
            owner = "ann" if at % 10 else ""
            session = Session(f"s{at}", "shop", "", now[0] + 60, owner, born=int(now[0]))
            presence.seen(session, client())
            if at % 10 == 0:
                await revocations.end(session)
        await presence.tell()
        assert presence.active() == number
        resident.append(memory())
        backend.advance(LISTED_SECONDS + 1)
        now[0] += LISTED_SECONDS + 1
        await presence.tell()
        revocations.check(Session("other", "shop", "", now[0] + 60))
        assert (presence.active(), await presence.listed("shop")) == (0, [])
        assert backend.keys() == 0
        assert [len(part) for part in (presence._active, presence._told, revocations._marks)] == [0, 0, 0]
        resident.append(memory())
    _, start, full, end = resident
    assert end - start < (full - start) / 5 + 4 * 1024 * 1024, resident  # what the allocator holds on to


def memory() -> int:
    """Resident bytes of this process, without what was freed and only kept for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
