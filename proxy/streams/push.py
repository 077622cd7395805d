"""What a session is told without having asked: kept for a while, and read by all who listen, each event once by each.

push    text that was sent to the session later              start   an answer of the session has begun somewhere

Nothing here knows who may send or listen: the edge does.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import orjson

from proxy.errors import Draining
from proxy.streams.event import Event, Fields
from proxy.streams.news import News

CHANNEL = "push"  # what stands before the number in an event's id
MAX_EACH = {"push": 100, "start": 20}  # kept for one session; the oldest goes first
MAX_KEPT = 20_000  # of each, of all sessions
MAX_KEPT_BYTES = 64 * 1024 * 1024
OVERHEAD = 1024  # bytes of an event besides its fields, about
SWEEP_SECONDS = 5.0


class Address(NamedTuple):
    """A session, by the name that the upstream knows it by; and its site, so that no other site's filters apply."""

    site: str
    owned: str


@dataclass(frozen=True, slots=True)
class Sent:
    """`delivered`: somebody was listening. Otherwise it is kept for whoever comes."""

    id: str
    delivered: bool


class Channels(Protocol):
    """All sessions' channels. Numbers grow with time, also over restarts, so one seen last is good for ever."""

    async def send(self, address: Address, fields: Fields, ttl: float) -> Sent:
        """Send a push; its `id` is put in front of the fields. Raises Draining once closed."""
        ...

    def announce(self, address: Address, answer_id: str, ttl: float) -> None:
        """Say that an answer has begun. Never waits, never fails."""
        ...

    def follow(self, address: Address, after: int = -1) -> AsyncGenerator[Sequence[Event], None]:
        """All events behind number `after`, as they come. Endless: the listener's leaving or close() ends it.

        Raises Draining once closed.
        """
        ...

    def listen(self, address: Address, act: Callable[[], None]) -> None:
        """Have `act` done when there may be more to read(), and when closed: follow() without a task that waits."""
        ...

    def leave(self, address: Address, act: Callable[[], None]) -> None:
        """Whoever began to listen() leaves."""
        ...

    async def read(self, address: Address, after: int) -> Sequence[Event]:
        """The events behind number `after`, for somebody who listens. Raises Draining once closed."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Session:
    events: dict[int, Event] = field(default_factory=dict)  # by number, in order
    news: News = field(default_factory=News)
    listeners: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    address: Address
    name: str
    size: int
    ends: float


class MemoryChannels:
    """Those of one process. `clock` gives Unix time.

    Bounded in number and bytes: the oldest events go first, and where bytes are short `start` before any push.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        *,
        max_kept: int = MAX_KEPT,
        max_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        self._clock = clock
        self._max_kept = max_kept
        self._max_bytes = max_bytes
        self._sessions: dict[Address, _Session] = {}
        self._kept: dict[int, _Kept] = {}
        self._oldest: dict[str, OrderedDict[int, None]] = {name: OrderedDict() for name in MAX_EACH}
        self._size = 0
        self._last = 0
        self._sweeping: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def send(self, address: Address, fields: Fields, ttl: float) -> Sent:
        if self._is_closed:
            raise Draining("no pushes while draining", retry_after=1)
        number = self._next()
        event_id = f"{CHANNEL}:{number}"
        session = self._add(address, Event(number, "push", {"id": event_id, **fields}), ttl)
        return Sent(event_id, session.listeners > 0)

    def announce(self, address: Address, answer_id: str, ttl: float) -> None:
        if not self._is_closed:
            self._add(address, Event(self._next(), "start", {"answer_id": answer_id}), ttl)

    async def follow(self, address: Address, after: int = -1) -> AsyncGenerator[Sequence[Event], None]:
        session = self._sessions.setdefault(address, _Session())
        session.listeners += 1
        try:
            while True:
                if batch := await self.read(address, after):
                    after = batch[-1].number
                    yield batch
                else:
                    await session.news.wait()
        finally:
            session.listeners -= 1
            self._tidy(address, session)

    def listen(self, address: Address, act: Callable[[], None]) -> None:
        session = self._sessions.setdefault(address, _Session())
        session.listeners += 1
        session.news.on_tell(act)

    def leave(self, address: Address, act: Callable[[], None]) -> None:
        session = self._sessions[address]
        session.listeners -= 1
        session.news.off(act)
        self._tidy(address, session)

    async def read(self, address: Address, after: int) -> Sequence[Event]:
        if self._is_closed:
            raise Draining("the process is shutting down", retry_after=1)
        events, now = self._sessions[address].events, self._clock()
        return [event for number, event in events.items() if number > after and self._lasts(number, now)]

    def close(self) -> None:
        self._is_closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for session in self._sessions.values():
            session.news.tell()

    def _next(self) -> int:
        """Microseconds, and never the same twice: what a client saw last is older than all that comes."""
        self._last = max(self._last + 1, round(self._clock() * 1_000_000))
        return self._last

    def _add(self, address: Address, event: Event, ttl: float) -> _Session:
        session = self._sessions.setdefault(address, _Session())
        alike = [number for number, known in session.events.items() if known.name == event.name]
        if len(alike) >= MAX_EACH[event.name]:
            self._forget(alike[0])
        session.events[event.number] = event
        kept = _Kept(address, event.name, len(orjson.dumps(event.fields)) + OVERHEAD, self._clock() + ttl)
        self._kept[event.number] = kept
        self._oldest[event.name][event.number] = None
        self._size += kept.size
        if len(self._oldest[event.name]) > self._max_kept:
            self._forget(next(iter(self._oldest[event.name])))
        while self._size > self._max_bytes:
            self._forget(next(iter(self._oldest["start"] or self._oldest["push"])))
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        session.news.tell()
        return session

    def _lasts(self, number: int, now: float) -> bool:
        return now < self._kept[number].ends

    def _sweep(self) -> None:
        """Every few seconds, while anything is kept: sites keep theirs for different times."""
        now = self._clock()
        for number in [number for number in self._kept if not self._lasts(number, now)]:
            self._forget(number)
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep) if self._kept else None

    def _forget(self, number: int) -> None:
        kept = self._kept.pop(number)
        del self._oldest[kept.name][number]
        self._size -= kept.size
        session = self._sessions[kept.address]
        del session.events[number]
        self._tidy(kept.address, session)

    def _tidy(self, address: Address, session: _Session) -> None:
        if not session.listeners and not session.events:
            self._sessions.pop(address, None)
