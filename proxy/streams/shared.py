"""The channels of several replicas, in the store that they share: sealed, found by all, told to whoever listens.

One task looks for news, with one call for all who listen here, and only while somebody does; whose box got something
reads it. While the store is down a push is refused, a `start` is lost, and listeners wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from proxy.background import Background
from proxy.errors import Draining, UpstreamUnavailable
from proxy.store import Post, Posts, StoreDown
from proxy.streams.event import Event, Fields
from proxy.streams.push import CHANNEL, Address, Sent
from proxy.streams.seal import Box, Broken, Sealer

log = logging.getLogger(__name__)

EVERY = 0.1  # seconds between two looks
AFTER_FAILURE = 0.5
HEARD_WITHIN = 0.5  # how long another replica has to say that somebody there got it
ASK_EVERY = 0.05
MAX_WAITING = 1_000  # announcements that are not in the store yet


@dataclass(slots=True)
class _Heard:
    """A box that somebody listens to here."""

    listeners: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    acts: list[Callable[[], None]] = field(default_factory=list)


class SharedChannels:
    """`ttl` by site: how long what is sent is kept. Between start() and end() one task looks and writes."""

    def __init__(self, store: Posts, sealer: Sealer, ttl: Mapping[str, float]) -> None:
        self._store = store
        self._sealer = sealer
        self._ttl = ttl
        self._heard: dict[str, _Heard] = {}
        self._place: int | None = None  # behind which news are looked for; None: nobody has looked since somebody came
        self._waiting: deque[tuple[Address, str]] = deque()
        self._work = asyncio.Event()
        self._is_closed = False
        self._is_down = False
        self._background = Background()

    def start(self) -> None:
        self._background.begin(self._keep_looking(), "channels")

    async def end(self) -> None:
        self.close()
        await self._background.end()

    async def send(self, address: Address, fields: Fields, ttl: float) -> Sent:
        if self._is_closed:
            raise Draining("no pushes while draining", retry_after=1)
        try:
            number = await self._post(address, "push", fields, ttl)
            self._tell({self._box(address).name})  # whoever listens here needn't wait for the next look
            return Sent(f"{CHANNEL}:{number}", await self._is_heard(number))
        except StoreDown as down:
            raise UpstreamUnavailable(
                f"the store is down: {down}", retry_after=1, public="What is sent can't be kept right now."
            ) from down

    def announce(self, address: Address, answer_id: str, ttl: float) -> None:
        if not self._is_closed and len(self._waiting) < MAX_WAITING:
            self._waiting.append((address, answer_id))
            self._work.set()

    async def follow(self, address: Address, after: int = -1) -> AsyncGenerator[Sequence[Event], None]:
        box = self._box(address)
        heard = self._heard.setdefault(box.name, _Heard())
        heard.listeners += 1
        self._work.set()
        try:
            while True:
                news = heard.news
                if events := await self.read(address, after):
                    after = events[-1].number
                    yield events
                else:
                    await news.wait()
        finally:
            self._leave(box, heard)

    def listen(self, address: Address, act: Callable[[], None]) -> None:
        heard = self._heard.setdefault(self._box(address).name, _Heard())
        heard.listeners += 1
        heard.acts.append(act)
        self._work.set()

    def leave(self, address: Address, act: Callable[[], None]) -> None:
        box = self._box(address)
        heard = self._heard[box.name]
        heard.acts.remove(act)
        self._leave(box, heard)

    async def read(self, address: Address, after: int) -> Sequence[Event]:
        if self._is_closed:
            raise Draining("the process is shutting down", retry_after=1)
        events = await self._read(self._box(address), address.site, after)
        await self._take(events)
        return events

    def close(self) -> None:
        self._is_closed = True
        self._tell(set(self._heard))

    def _leave(self, box: Box, heard: _Heard) -> None:
        heard.listeners -= 1
        if not heard.listeners:
            self._heard.pop(box.name, None)

    def _box(self, address: Address) -> Box:
        return self._sealer.box(address.site, address.owned, CHANNEL)

    async def _post(self, address: Address, kind: str, fields: Fields, ttl: float) -> int:
        box = self._box(address)
        data = box.seal(0, [Event(0, kind, fields)], "", has_opened=False)
        return await self._store.post(box.name, kind, data, ttl)

    async def _is_heard(self, number: int) -> bool:
        """Does somebody get it right now, here or at another replica? Whoever does says so."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARD_WITHIN):
                while not await self._store.is_taken(number):  # noqa: ASYNC110 - it happens in another process
                    await asyncio.sleep(ASK_EVERY)
                return True
        return False

    async def _read(self, box: Box, site: str, after: int) -> list[Event]:
        try:
            posts = await self._store.posts(box.name, after, self._ttl[site])
        except StoreDown:
            return []  # when it is back, all who listen look again
        return [event for post in posts for event in _opened(box, post)]

    async def _take(self, events: Sequence[Event]) -> None:
        with suppress(StoreDown):  # then it counts as kept, which it is
            for event in events:
                if event.name == "push":
                    await self._store.take(event.number)

    async def _keep_looking(self) -> None:
        while True:
            self._work.clear()
            if not self._heard and not self._waiting:
                self._place = None
                await self._work.wait()
            try:
                await self._write()
                await self._look()
            except StoreDown as down:
                if not self._is_down:
                    log.warning("channels wait for the store (%s)", down)
                self._is_down = True
                await asyncio.sleep(AFTER_FAILURE)
            else:
                if self._is_down:
                    self._tell(set(self._heard))
                self._is_down = False
                await asyncio.sleep(EVERY)

    async def _write(self) -> None:
        while self._waiting:
            address, answer_id = self._waiting.popleft()
            await self._post(address, "start", {"answer_id": answer_id}, self._ttl[address.site])

    async def _look(self) -> None:
        if not self._heard:
            self._place = None
        elif self._place is None:
            self._place, _ = await self._store.boxes(None)
            self._tell(set(self._heard))  # what came between their first look and this place
        else:
            self._place, boxes = await self._store.boxes(self._place)
            self._tell(boxes)

    def _tell(self, boxes: set[str]) -> None:
        for name in boxes & self._heard.keys():
            heard = self._heard[name]
            news, heard.news = heard.news, asyncio.Event()
            news.set()
            for act in list(heard.acts):
                act()


def _opened(box: Box, post: Post) -> list[Event]:
    try:
        _, _, events = box.open(0, post.number, post.data)
    except Broken:
        log.warning("a post in the store is not what was sealed")
        return []
    first = {"id": f"{CHANNEL}:{post.number}"} if post.kind == "push" else {}
    return [Event(event.number, event.name, {**first, **event.fields}) for event in events]
