"""What supervisor and worker say to each other, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.control import MAX_FRAME, Channel, Say, Unusable, WorkerEnd, packed, sealed, unpacked, unsealed
from proxy.totals import Family, Report
from tests.sidegate import load, tree

REPORT = Report((Family("n", "counter", "N", {("n_total", (("a", "b"),)): 2.0}),), {"status": "ok"})


async def report() -> Report:
    return REPORT


@asynccontextmanager
async def ends() -> AsyncIterator[tuple[Channel, Channel]]:
    one, other = socket.socketpair()
    channels = await Channel.over(one), await Channel.over(other)
    try:
        async with asyncio.timeout(10):
            yield channels
    finally:
        for channel in channels:
            channel.close()
        await asyncio.sleep(0)


def test_settings_arrive_with_their_secrets_as_they_were_checked() -> None:
    settings = load(tree({"kind": "echo"}, ops={"port": 0, "token": {"env": "JWT_SECRET_KEY"}}))
    arrived = unsealed(sealed(settings))
    assert arrived == settings
    with pytest.raises(TypeError):
        pickle.dumps(settings)  # nobody else writes secrets down


@given(st.lists(st.binary(max_size=20)))
def test_parts_come_out_as_they_went_in(parts: list[bytes]) -> None:
    assert unpacked(packed(parts)) == parts


async def test_a_worker_reports_when_asked_and_at_its_end() -> None:
    async with ends() as (supervisor, channel), asyncio.TaskGroup() as tasks:
        end = WorkerEnd(channel)
        listening = tasks.create_task(end.listen(report))
        end.ready()
        assert await supervisor.hear() == (Say.READY, b"")
        supervisor.say(Say.REPORT)
        assert await supervisor.hear() == (Say.REPORT, REPORT.dump())
        listening.cancel()
        await end.goodbye(REPORT)
        assert await supervisor.hear() == (Say.ENDED, REPORT.dump())
        assert await supervisor.hear() is None


async def test_a_worker_gets_what_the_others_count() -> None:
    async with ends() as (supervisor, channel), asyncio.TaskGroup() as tasks:
        end = WorkerEnd(channel)
        listening = tasks.create_task(end.listen(report))
        gathering = [tasks.create_task(end.gather()) for _ in range(2)]
        for _ in gathering:
            assert await supervisor.hear() == (Say.GATHER, b"")
            supervisor.say(Say.GATHER, packed([REPORT.dump(), Report().dump()]))
        assert [await gathered for gathered in gathering] == [[REPORT, Report()]] * 2
        listening.cancel()


@pytest.mark.parametrize(("word", "is_replaced"), [(Say.STOP, False), (Say.REPLACE, True), (None, True)])
async def test_a_worker_leaves_when_it_is_told_or_left_alone(word: Say | None, is_replaced: bool) -> None:
    async with ends() as (supervisor, channel), asyncio.TaskGroup() as tasks:
        end = WorkerEnd(channel)
        listening = tasks.create_task(end.listen(report))
        if word is None:
            supervisor.close()
        else:
            supervisor.say(word)
        await end.leave.wait()
        assert end.is_replaced is is_replaced
        assert end.hurry.is_set() is (word is not Say.REPLACE)
        if word is Say.REPLACE:
            supervisor.say(Say.STOP)
            await end.hurry.wait()
        listening.cancel()


@pytest.mark.parametrize(("length", "kind"), [(MAX_FRAME + 1, 0), (0, 99)])
async def test_what_nobody_says_is_refused(length: int, kind: int) -> None:
    one, other = socket.socketpair()
    channel = await Channel.over(one)
    other.sendall(length.to_bytes(4, "big") + bytes([kind]))
    with other, pytest.raises(Unusable):
        await channel.hear()
    channel.close()


async def test_a_worker_takes_no_word_that_is_not_for_it() -> None:
    async with ends() as (supervisor, channel):
        supervisor.say(Say.ENDED)
        with pytest.raises(Unusable):
            await WorkerEnd(channel).listen(report)
