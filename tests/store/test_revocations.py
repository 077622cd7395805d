"""The log of revocations in a real Redis: in order, bounded, gone when nobody needs it; and with a file, restarted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.errors import SessionInvalid
from proxy.guard.revocation import Revocations
from proxy.model import Session
from proxy.store import Mark, StoreDown
from proxy.store.redis import revocations
from proxy.store.redis.link import Link
from proxy.store.redis.revocations import RedisRevocations
from proxy.store.url import parse_url
from tests.servers import RedisServer

KEEP = 1000


@pytest.fixture
async def log(still_redis: RedisServer) -> AsyncIterator[RedisRevocations]:
    still_redis.call("FLUSHALL")
    link = Link(parse_url(still_redis.url), deadline=30)
    yield RedisRevocations(link)
    await link.close()


def marks(*names: str) -> list[Mark]:
    return [Mark(name, 5, 1005) for name in names]


async def test_marks_come_in_order_page_by_page(log: RedisRevocations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "PAGE", 2)
    await log.revoke(marks("a", "b"), KEEP)
    await log.revoke(marks("c"), KEEP)
    first = await log.revoked(-1)
    assert first.marks == marks("a", "b")
    second = await log.revoked(first.place)
    assert second.marks == marks("c")
    assert second.place == second.newest == first.newest
    last = await log.revoked(second.place)
    assert (last.marks, last.place) == ([], second.place)


async def test_a_log_is_begun_once(log: RedisRevocations) -> None:
    nothing = await log.revoked(-1)
    assert (nothing.name, nothing.newest) == (None, 0)
    await log.begin("first", 100)
    await log.begin("second", 200)
    found = await log.revoked(-1)
    assert (found.name, found.since) == ("first", 100)


async def test_marks_go_when_nobody_needs_them(log: RedisRevocations, still_redis: RedisServer) -> None:
    await log.begin("first", 100)
    await log.revoke(marks("a"), KEEP)
    still_redis.advance(KEEP - 1)
    await log.revoke(marks("b"), KEEP)
    still_redis.advance(2)
    await log.revoke(marks("c"), KEEP)
    assert (await log.revoked(-1)).marks == marks("b", "c")
    still_redis.advance(KEEP + 1)
    gone = await log.revoked(-1)
    assert (gone.name, gone.marks, gone.newest) == ("first", [], 0)


async def test_a_full_log_takes_no_more(log: RedisRevocations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "MAX_MARKS", 2)
    await log.revoke(marks("a"), KEEP)
    with pytest.raises(StoreDown, match="already"):
        await log.revoke(marks("b", "c"), KEEP)
    assert (await log.revoked(-1)).marks == marks("a")


async def test_a_clock_that_goes_back_loses_no_mark(log: RedisRevocations, still_redis: RedisServer) -> None:
    await log.revoke(marks("a"), KEEP)
    place = (await log.revoked(-1)).place
    still_redis.advance(-10)
    await log.revoke(marks("b"), KEEP)
    assert (await log.revoked(place)).marks == marks("b")
    still_redis.advance(10)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_with_an_append_only_file_a_restart_loses_no_revocation_that_was_confirmed(how: str) -> None:
    """Also where no replica is left that knew of it, and Redis had no chance to say goodbye."""
    ended, other = Session("s1", "shop", "", 2e12, born=10), Session("s2", "shop", "", 2e12, born=10)
    with RedisServer(options=("--appendonly", "yes", "--appendfsync", "everysec")) as server:
        for turn in range(2):
            link = Link(parse_url(server.url), deadline=30)
            replica = Revocations(b"k" * 32, KEEP, RedisRevocations(link), clock=lambda: 10)
            await replica.start()
            if turn == 0:
                await replica.end(ended)
            replica.check(other)
            with pytest.raises(SessionInvalid):
                replica.check(ended)
            await replica.close()
            await link.close()
            if turn == 0:
                getattr(server, how)()
                server.start()
