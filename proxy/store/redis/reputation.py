"""Who misbehaved of late, for several replicas. See Reputations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from proxy.store import StoreDown
from proxy.store.redis.link import Link, milliseconds
from proxy.store.reputation import ROUNDED, Block, Repute, Rule

PREFIX = "sidegate:{reputation}"  # one slot of a cluster: each script also changes the set of all
BLOCKED, STATE = f"{PREFIX}:blocked", f"{PREFIX}:state"
MAX_BLOCKS = 20_000  # those that end last, in one round trip


class RedisReputations:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._script = link.script("reputation")

    async def note(self, points: Mapping[str, float], rule: Rule) -> dict[str, Repute]:
        numbers = (milliseconds(rule.half_life), rule.block_after - ROUNDED, milliseconds(rule.block_for))
        words = [str(number) for number in (*numbers, milliseconds(rule.longest), rule.block_after / 2)]
        said = list(points.items())
        calls = [(_keys(subject), ["note", subject, str(count), *words]) for subject, count in said]
        found = {}
        answers = await self._link.ask(partial(self._link.evaluate, self._script, calls))
        for (subject, _), answer in zip(said, answers, strict=True):
            if not isinstance(answer, bytes):
                raise StoreDown(type(answer).__name__)
            score, blocked = answer.split()
            found[subject] = Repute(float(score), int(blocked) / 1000)
        return found

    async def block(self, subject: str, seconds: float) -> None:
        await self._link.ask(lambda: self._script(_keys(subject), ["block", subject, milliseconds(seconds)]))

    async def unblock(self, subject: str) -> None:
        await self._link.ask(lambda: self._script(_keys(subject), ["unblock", subject]))

    async def blocks(self, known: int) -> tuple[int, Sequence[Block]] | None:
        state = int(await self._link.ask(lambda: self._link.redis.get(STATE)) or 0)
        if state == known:
            return None
        found: Any = await self._link.ask(  # Any: redis-py's pairs
            lambda: self._link.redis.zrange(BLOCKED, 0, MAX_BLOCKS - 1, desc=True, withscores=True)
        )
        seconds, micro = await self._link.ask(self._time)
        now = seconds + micro / 1_000_000
        return state, [_block(member.decode(), until / 1000 - now) for member, until in found if until / 1000 > now]

    async def _time(self) -> tuple[int, int]:
        """Of any server: blocks are longer than clocks differ."""
        answer: Any = await self._link.redis.time()
        seconds, micro = next(iter(answer.values())) if isinstance(answer, dict) else answer
        return int(seconds), int(micro)


def _keys(subject: str) -> list[str]:
    return [f"{PREFIX}:of:{subject}", BLOCKED, STATE]


def _block(member: str, left: float) -> Block:
    return Block(member.removesuffix("!"), left, by_hand=member.endswith("!"))
