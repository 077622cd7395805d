"""So many at a time, first come first served, nobody for ever, and no slot is lost whoever leaves when."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamUnavailable
from proxy.upstream.slots import Slots
from tests.upstream.script import LoopClock


class Crowd:
    """Holders of slots: each writes its number when it gets one, and keeps it until told."""

    def __init__(self, slots: Slots, tasks: asyncio.TaskGroup) -> None:
        self.slots = slots
        self.entered: list[int] = []
        self.refused: list[UpstreamUnavailable] = []
        self.holding: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self._group = tasks

    async def come(self, number: int) -> None:
        self.tasks[number] = self._group.create_task(self._hold(number))
        await settle()

    async def leave(self, number: int) -> None:
        self.holding[number].set()
        await settle()

    async def _hold(self, number: int) -> None:
        try:
            async with self.slots.one():
                self.entered.append(number)
                self.holding[number] = asyncio.Event()
                await self.holding[number].wait()
        except UpstreamUnavailable as error:
            self.refused.append(error)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_waits_is_served_in_the_order_of_coming() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        crowd = Crowd(Slots("support", 2, 10, 60), tasks)
        for number in range(5):
            await crowd.come(number)
        assert (crowd.entered, crowd.slots.active, crowd.slots.waiting) == ([0, 1], 2, 3)
        for number in (1, 0, 2, 3, 4):
            await crowd.leave(number)
        assert crowd.entered == [0, 1, 2, 3, 4]
    assert (crowd.slots.active, crowd.slots.waiting) == (0, 0)


async def test_who_comes_to_a_full_queue_is_refused_at_once_and_told_when_to_come_back() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        crowd = Crowd(Slots("support", 1, 1, 60), tasks)
        for number in range(3):
            await crowd.come(number)
        (refusal,) = crowd.refused
        assert refusal.code == "upstream_unavailable"
        assert refusal.retry_after is not None
        assert 1 <= refusal.retry_after <= 60
        assert crowd.slots.waiting == 1
        await crowd.leave(0)
        await crowd.leave(1)


async def test_nobody_waits_longer_than_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock(monkeypatch)
    async with asyncio.timeout(1000), asyncio.TaskGroup() as tasks:
        crowd = Crowd(Slots("support", 1, 1, 60), tasks)
        await crowd.come(0)
        await crowd.come(1)
        clock.advance(61)
        await asyncio.wait([crowd.tasks[1]])
        assert [error.detail for error in crowd.refused] == ["support: no slot in time"]
        assert crowd.slots.waiting == 0
        await crowd.leave(0)
    assert crowd.slots.active == 0


async def test_who_leaves_while_waiting_frees_the_place() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        crowd = Crowd(Slots("support", 1, 1, 60), tasks)
        await crowd.come(0)
        await crowd.come(1)
        crowd.tasks[1].cancel()
        await settle()
        await crowd.come(2)
        assert not crowd.refused
        await crowd.leave(0)
        assert crowd.entered == [0, 2]
        await crowd.leave(2)


async def test_a_slot_that_was_given_to_somebody_who_left_goes_to_the_next() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        crowd = Crowd(Slots("support", 1, 2, 60), tasks)
        for number in range(3):
            await crowd.come(number)
        crowd.holding[0].set()
        while crowd.slots.waiting == 2:  # noqa: ASYNC110 - the very tick in which the slot is handed over
            await asyncio.sleep(0)
        crowd.tasks[1].cancel()
        await settle()
        assert crowd.entered == [0, 2]
        await crowd.leave(2)
    assert crowd.slots.active == 0


async def test_dismissed_are_all_who_wait_and_nobody_else() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        crowd = Crowd(Slots("support", 1, 5, 60), tasks)
        for number in range(3):
            await crowd.come(number)
        crowd.slots.dismiss("the circuit opened")
        await settle()
        assert [error.detail for error in crowd.refused] == ["the circuit opened"] * 2
        assert (crowd.slots.active, crowd.slots.waiting) == (1, 0)
        await crowd.leave(0)
    assert crowd.slots.active == 0


@settings(deadline=None, max_examples=50)
@given(limit=st.integers(1, 3), max_waiting=st.integers(0, 3), seed=st.integers())
def test_whatever_happens_no_slot_is_lost_and_no_more_are_given(limit: int, max_waiting: int, seed: int) -> None:
    async def story() -> None:
        chance = random.Random(seed)
        slots = Slots("support", limit, max_waiting, 60)
        inside = 0

        async def visit() -> None:
            nonlocal inside
            try:
                async with slots.one():
                    inside += 1
                    assert inside <= limit
                    try:
                        for _ in range(chance.randrange(4)):
                            await asyncio.sleep(0)
                    finally:
                        inside -= 1
            except UpstreamUnavailable:
                return

        async with asyncio.TaskGroup() as tasks:
            visits = []
            for _ in range(30):
                visits.append(tasks.create_task(visit()))
                assert slots.waiting <= max_waiting
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
                if chance.random() < 0.3:
                    chance.choice(visits).cancel()
                if chance.random() < 0.05:
                    slots.dismiss("enough")
        assert (slots.active, slots.waiting) == (0, 0)

    asyncio.run(story())
