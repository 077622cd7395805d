"""Circuits that all replicas share: what opens in one is open in all, and the probes are so many in total.

Nothing is said or asked while all is well. What it doesn't do: failures are still counted by each replica, so one that
is asked seldom may learn of a dead upstream only from the others. While the store is down each replica decides alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from uuid import uuid4

from proxy.background import Background
from proxy.errors import UpstreamUnavailable
from proxy.store import Circuit, Circuits, StoreDown
from proxy.upstream.breaker import Breaker

log = logging.getLogger(__name__)

_AGAIN = 0.5  # seconds until a lost connection is tried again
_LOOK = 5.0  # seconds after which the state is read, in case a change was not heard
_MAX_UNSAID = 1000

Saying = Callable[[], Coroutine[None, None, None]]


class Gossip:
    """The circuits of one process. One background task speaks and listens, from start() to close()."""

    def __init__(self, circuits: Circuits, breakers: Mapping[str, tuple[Breaker, float]]) -> None:
        """`breakers` by upstream, each with the seconds that a probe may take."""
        self._circuits = circuits
        self._unsaid: asyncio.Queue[Saying] = asyncio.Queue(_MAX_UNSAID)
        self._mouths = {
            name: _Mouth(circuits, breaker, seconds, self._say) for name, (breaker, seconds) in breakers.items()
        }
        self._background = Background()

    def start(self) -> None:
        for mouth in self._mouths.values():
            mouth.breaker.peers = mouth
        self._background.begin(self._run(), "circuit gossip")

    async def close(self) -> None:
        for mouth in self._mouths.values():
            mouth.breaker.peers = None
        await self._background.end()

    def _say(self, saying: Saying) -> None:
        try:
            self._unsaid.put_nowait(saying)
        except asyncio.QueueFull:
            log.warning("the other replicas are not told of a change of a circuit: too many changes wait")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._speak())
            tasks.create_task(self._listen())
            tasks.create_task(self._look_around())

    async def _speak(self) -> None:
        while True:
            saying = await self._unsaid.get()
            try:
                await saying()
            except StoreDown as down:
                log.info("the other replicas were not told of a change of a circuit (%s)", down)

    async def _listen(self) -> None:
        while True:
            try:
                async with aclosing(self._circuits.changes()) as changes:
                    async for change in changes:
                        if change is None:
                            await self._look()
                        elif change[0] in self._mouths:
                            self._mouths[change[0]].hear(change[1])
            except StoreDown:
                await asyncio.sleep(_AGAIN)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self._look()
            except StoreDown:
                continue

    async def _look(self) -> None:
        for name, mouth in self._mouths.items():
            mouth.hear(await self._circuits.state(name))


class _Mouth:
    """The Peers of one breaker."""

    def __init__(self, circuits: Circuits, breaker: Breaker, seconds: float, say: Callable[[Saying], None]) -> None:
        self.breaker = breaker
        self._circuits = circuits
        self._seconds = seconds
        self._say = say
        self._generation: int | None = None  # of the opening that all know of; None: of one that only we know of

    def hear(self, circuit: Circuit) -> None:
        if circuit.rest is not None:
            if circuit.generation != self._generation:
                self._generation = circuit.generation
                self.breaker.trip(circuit.rest)
        elif self._generation is not None and circuit.generation >= self._generation:
            self.breaker.close()

    def tripped(self, cooldown: float) -> None:
        before, self._generation = self._generation, None

        async def say() -> None:
            self.hear(await self._circuits.trip(self.breaker.name, cooldown, before or 0))

        self._say(say)

    async def lease(self) -> str:
        if self._generation is None:
            return ""
        lease, is_ours = uuid4().hex, False
        name, generation, probes = self.breaker.name, self._generation, self.breaker.probes
        try:
            is_ours = await self._circuits.probe(name, generation, probes, self._seconds, lease)
        except StoreDown:
            return ""
        except asyncio.CancelledError:
            self.release(lease)
            raise
        if not is_ours:
            raise UpstreamUnavailable(f"the circuit of {name} is being tried by others", retry_after=1)
        return lease

    def good(self, lease: str) -> None:
        if self._generation is not None:
            name, generation, probes = self.breaker.name, self._generation, self.breaker.probes
            self._say(lambda: self._circuits.good(name, generation, probes, lease))

    def release(self, lease: str) -> None:
        self._say(lambda: self._circuits.release(self.breaker.name, lease))
