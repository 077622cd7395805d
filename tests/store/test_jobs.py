"""Jobs, in memory and in a real Redis: each is taken by one, comes back where it isn't ended, and is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from proxy.store import Held, Job, Jobs
from proxy.store import jobs as in_memory
from proxy.store.jobs import MemoryJobs
from proxy.store.redis import jobs as in_redis
from proxy.store.redis.jobs import RedisJobs
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from tests.servers import RedisServer
from tests.store.conftest import Clock

ROOM = 1_000_000


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
    assert await jobs.put("a", b"\x00\xff", ROOM)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(jobs.take(10)) for _ in range(20)]
    assert [task.result() for task in asked if task.result()] == [Job("a", b"\x00\xff", 1)]
    assert (await jobs.held()).waiting == 1
    await jobs.done("a")
    assert (await jobs.held(), await jobs.take(10)) == (Held(0, 0, 0, 0), None)


async def test_the_one_that_is_due_first_comes_first(backend: Backend) -> None:
    jobs = backend.jobs
    for name in ("b", "a"):
        await jobs.put(name, b"x", ROOM)
        backend.advance(1)
    assert [job.name for job in (await jobs.take(10), await jobs.take(10)) if job] == ["b", "a"]


async def test_a_job_that_nobody_ended_comes_back_after_its_lease(backend: Backend) -> None:
    jobs = backend.jobs
    await jobs.put("a", b"x", ROOM)
    await jobs.take(10)
    backend.advance(9)
    assert await jobs.take(10) is None
    backend.advance(2)
    assert await jobs.take(10) == Job("a", b"x", 2)


async def test_one_that_failed_comes_later(backend: Backend) -> None:
    jobs = backend.jobs
    await jobs.put("a", b"x", ROOM)
    await jobs.take(1000)
    await jobs.later("a", 5)
    await jobs.later("none", 5)
    assert await jobs.take(10) is None
    backend.advance(6)
    assert await jobs.take(10) == Job("a", b"x", 2)
    assert (await jobs.held()).waiting == 1


async def test_one_that_could_not_be_tried_comes_later_and_that_is_not_counted(backend: Backend) -> None:
    jobs = backend.jobs
    await jobs.put("a", b"x", ROOM)
    for _ in range(3):
        assert await jobs.take(1000) == Job("a", b"x", 1)
        await jobs.later("a", 5, is_try=False)
        await jobs.later("none", 5, is_try=False)
        assert await jobs.take(10) is None
        backend.advance(6)


async def test_one_that_was_given_up_waits_until_somebody_wants_it_again(backend: Backend) -> None:
    jobs = backend.jobs
    for name in ("a", "b"):
        await jobs.put(name, b"x", ROOM)
        await jobs.take(10)
        await jobs.bury(name, ROOM)
        backend.advance(1)
    await jobs.bury("none", ROOM)
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
    await jobs.put("a", b"x", ROOM)
    await jobs.take(10)
    await jobs.bury("a", ROOM)
    await jobs.put("a", b"y", ROOM)
    assert (await backend.names(), await jobs.take(10)) == ([], Job("a", b"y", 1))


async def test_there_is_an_end_to_how_many_are_kept(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = backend.jobs
    for module in (in_memory, in_redis):
        monkeypatch.setattr(module, "MOST_JOBS", 2)
    assert [await jobs.put(name, b"x", ROOM) for name in "abc"] == [True, True, False]
    for name in "abcd":
        await jobs.put(name, b"x", ROOM)
        backend.advance(1)
        while job := await jobs.take(100):
            await jobs.bury(job.name, ROOM)
            backend.advance(1)
    assert await backend.names() == ["d", "c"]


async def test_there_is_an_end_to_how_many_bytes_are_kept(backend: Backend) -> None:
    """So many that wait, and as many that were given up, of which the oldest go."""
    jobs = backend.jobs
    assert [await jobs.put(name, bytes(40), 100) for name in "abc"] == [True, True, False]
    assert await jobs.held() == Held(2, 80, 0, 0)
    assert not await jobs.put("a", bytes(80), 100)
    assert await jobs.put("a", bytes(20), 100)
    assert await jobs.held() == Held(2, 60, 0, 0)
    for name in "bacd":
        await jobs.put(name, bytes(40), 100)
        backend.advance(1)
        while job := await jobs.take(100):
            await jobs.bury(job.name, 100)
            backend.advance(1)
    assert await backend.names() == ["d", "c"]
    assert await jobs.held() == Held(0, 0, 2, 80)
    assert await jobs.again("c")
    assert await jobs.held() == Held(1, 40, 1, 40)
    await jobs.done("c")
    assert await jobs.put("d", bytes(10), 100)
    assert await jobs.held() == Held(1, 10, 0, 0)


@settings(
    deadline=None,
    max_examples=60,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "take", "done", "later", "hold", "bury", "again"]),
            st.sampled_from("abcd"),
            st.integers(0, 60),
        ),
        max_size=30,
    )
)
async def test_what_is_held_is_counted_right_whatever_is_done(
    backend: Backend, steps: list[tuple[str, str, int]]
) -> None:
    """Memory counts anew each time; Redis keeps the figures."""
    jobs = backend.jobs
    other = MemoryJobs(Clock())
    for every in (*"abcd",):
        await jobs.done(every)
    for what, name, size in steps:
        backend.advance(1)
        for each in (jobs, other):
            await act(each, what, name, size)
        assert await jobs.held() == await other.held()


async def act(jobs: Jobs, what: str, name: str, size: int) -> None:
    match what:
        case "put":
            await jobs.put(name, bytes(size), 100)
        case "take":
            await jobs.take(0)
        case "done":
            await jobs.done(name)
        case "later" | "hold":
            await jobs.later(name, 0, is_try=what == "later")
        case "bury":
            await jobs.bury(name, 100)
        case "again":
            await jobs.again(name)
