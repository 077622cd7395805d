"""One timer for many: each is visited once in a period, and nobody when there is nobody."""

from __future__ import annotations

import asyncio

import pytest

from proxy.edge.rounds import TURNS, Rounds
from tests.upstream.script import LoopClock


class Member:
    def __init__(self) -> None:
        self.visits = 0

    def visit(self) -> None:
        self.visits += 1


async def pass_turns(clock: LoopClock, turns: int) -> None:
    for _ in range(turns):
        clock.advance(1)
        for _ in range(3):  # the loop looks for timers that are due, and runs them
            await asyncio.sleep(0)


async def test_each_member_is_visited_once_in_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock(monkeypatch)
    rounds = Rounds(seconds=TURNS)  # a turn a second
    first, second = Member(), Member()
    turn = rounds.join(first)
    await pass_turns(clock, 5)
    other = rounds.join(second)
    await pass_turns(clock, TURNS - 6)
    assert (first.visits, second.visits) == (0, 0)
    await pass_turns(clock, 1)
    assert (first.visits, second.visits) == (1, 0)
    await pass_turns(clock, 5)
    assert (first.visits, second.visits) == (1, 1)
    await pass_turns(clock, TURNS)
    assert (first.visits, second.visits) == (2, 2)
    rounds.leave(first, turn)
    await pass_turns(clock, TURNS)
    assert (first.visits, second.visits) == (2, 3)
    rounds.leave(second, other)
    await pass_turns(clock, TURNS)
    assert (first.visits, second.visits) == (2, 3)


async def test_a_member_that_leaves_while_it_is_visited_takes_nobody_along(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LoopClock(monkeypatch)
    rounds = Rounds(seconds=TURNS)

    class Leaver(Member):
        def visit(self) -> None:
            super().visit()
            rounds.leave(self, turn)

    leavers, stayer = [Leaver() for _ in range(3)], Member()
    (turn,) = {rounds.join(member) for member in (*leavers, stayer)}
    await pass_turns(clock, 2 * TURNS)
    assert [member.visits for member in leavers] == [1, 1, 1]
    assert stayer.visits == 2
    rounds.leave(stayer, turn)
