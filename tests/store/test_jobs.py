"""Jobs, in memory and in a real Redis: each is taken by one, comes back where it isn't ended, and is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from proxy.store import Job, Jobs
from proxy.store import jobs as in_memory
from proxy.store.jobs import MemoryJobs
from proxy.store.redis import jobs as in_redis
from proxy.store.redis.jobs import RedisJobs
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from tests.servers import RedisServer
from tests.store.conftest import Clock


@dataclass
class Backend:
    """Jobs whose time stands still until advance()."""

    jobs: Jobs
    advance: Callable[[float], None]

    async def names(self) -> list[str]:
        return [job.name for job in await self.jobs.dead(10)]


@pytest.fixture(params=["memory", "redis"])
async def backend(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Backend]:
    if request.param == "memory":
        yield Backend(MemoryJobs(clock), clock.advance)
        return
    server: RedisServer = request.getfixturevalue("still_redis")
    server.call("FLUSHALL")
    link = Link(parse_url(server.url), deadline=30)
    yield Backend(RedisJobs(link), server.advance)
    await link.close()


async def test_a_job_is_taken_by_one_and_is_gone_when_it_is_done(backend: Backend) -> None:
    jobs = backend.jobs
    assert await jobs.take(10) is None
    assert await jobs.put("a", b"\x00\xff")
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(jobs.take(10)) for _ in range(20)]
    assert [task.result() for task in asked if task.result()] == [Job("a", b"\x00\xff", 1)]
    assert await jobs.waiting() == 1
    await jobs.done("a")
    assert (await jobs.waiting(), await jobs.take(10)) == (0, None)


async def test_the_one_that_is_due_first_comes_first(backend: Backend) -> None:
    jobs = backend.jobs
    for name in ("b", "a"):
        await jobs.put(name, b"x")
        backend.advance(1)
    assert [job.name for job in (await jobs.take(10), await jobs.take(10)) if job] == ["b", "a"]


async def test_a_job_that_nobody_ended_comes_back_after_its_lease(backend: Backend) -> None:
    jobs = backend.jobs
    await jobs.put("a", b"x")
    await jobs.take(10)
    backend.advance(9)
    assert await jobs.take(10) is None
    backend.advance(2)
    assert await jobs.take(10) == Job("a", b"x", 2)


async def test_one_that_failed_comes_later(backend: Backend) -> None:
    jobs = backend.jobs
    await jobs.put("a", b"x")
    await jobs.take(1000)
    await jobs.later("a", 5)
    await jobs.later("none", 5)
    assert await jobs.take(10) is None
    backend.advance(6)
    assert await jobs.take(10) == Job("a", b"x", 2)
    assert await jobs.waiting() == 1


async def test_one_that_could_not_be_tried_comes_later_and_that_is_not_counted(backend: Backend) -> None:
    jobs = backend.jobs
    await jobs.put("a", b"x")
    for _ in range(3):
        assert await jobs.take(1000) == Job("a", b"x", 1)
        await jobs.later("a", 5, is_try=False)
        await jobs.later("none", 5, is_try=False)
        assert await jobs.take(10) is None
        backend.advance(6)


async def test_one_that_was_given_up_waits_until_somebody_wants_it_again(backend: Backend) -> None:
    jobs = backend.jobs
    for name in ("a", "b"):
        await jobs.put(name, b"x")
        await jobs.take(10)
        await jobs.bury(name)
        backend.advance(1)
    await jobs.bury("none")
    assert await backend.names() == ["b", "a"]
    (latest,) = await jobs.dead(1)
    assert (latest.name, latest.data, latest.tries) == ("b", b"x", 1)
    assert latest.at > 0
    assert await jobs.take(10) is None
    assert [await jobs.again("a"), await jobs.again("a"), await jobs.again("none")] == [True, False, False]
    assert await backend.names() == ["b"]
    assert await jobs.take(10) == Job("a", b"x", 1)


async def test_a_job_of_the_same_name_takes_the_place_of_the_first(backend: Backend) -> None:
    jobs = backend.jobs
    await jobs.put("a", b"x")
    await jobs.take(10)
    await jobs.bury("a")
    await jobs.put("a", b"y")
    assert (await backend.names(), await jobs.take(10)) == ([], Job("a", b"y", 1))


async def test_there_is_an_end_to_how_many_are_kept(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = backend.jobs
    for module in (in_memory, in_redis):
        monkeypatch.setattr(module, "MOST_JOBS", 2)
    assert [await jobs.put(name, b"x") for name in "abc"] == [True, True, False]
    for name in "abcd":
        await jobs.put(name, b"x")
        backend.advance(1)
        while job := await jobs.take(100):
            await jobs.bury(job.name)
            backend.advance(1)
    assert await backend.names() == ["d", "c"]


async def test_memory_has_an_end_in_bytes(clock: Clock) -> None:
    jobs = MemoryJobs(clock)
    big = bytes(in_memory.MAX_BYTES // 2)
    assert [await jobs.put(name, big) for name in "abc"] == [True, True, False]
    await jobs.done("a")
    assert await jobs.put("c", big)
