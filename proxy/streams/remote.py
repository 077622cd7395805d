"""An answer of another replica, read from the journal by polling: the same to listeners, half a second late at most.

When its replica gives no sign of life, the answer is ended here in an error, for all who read it from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress

from proxy.errors import Draining, ProxyError, UpstreamError, UpstreamUnavailable
from proxy.store import Journals, StoreDown
from proxy.streams.answer import Transcript, error_fields
from proxy.streams.event import Event
from proxy.streams.seal import Box, Broken

log = logging.getLogger(__name__)

FASTEST, SLOWEST = 0.1, 0.5  # seconds between two looks: the longer it is silent, the more
PATIENCE = 5.0  # how long the journal may be away, or have lost what we were reading
INTERRUPTED = "This answer was interrupted. Please ask again."


class RemoteAnswer(Transcript):
    """load() first. Listening is seen by the replica that runs it, which then doesn't end it for want of listeners.

    One listener's: an error of our own (the journal is away, this process ends) is its last event.
    """

    def __init__(
        self,
        answer_id: str,
        box: Box,
        store: Journals,
        cut: asyncio.Event,
        interrupted: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        super().__init__()
        self._id = answer_id
        self._box = box
        self._store = store
        self._cut = cut
        self._interrupted = interrupted
        self._clock = clock
        self._read = 0  # batches

    @property
    def id(self) -> str:
        return self._id

    async def load(self) -> bool:
        """Read all there is so far. False when there is nothing. Raises StoreDown."""
        while not self.is_over and await self._look(listens=False):
            pass
        return bool(self.events)

    async def stop(self) -> None:
        """Its replica ends it, within half a second. Raises StoreDown."""
        if not self.is_over:
            await self._store.stop(self._box.name)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Looking for news is what says so."""
        yield

    async def opened(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async with aclosing(self._changes()) as changes:
                    async for _ in changes:
                        if self.has_opened:
                            return

    async def follow(self, after: int = -1) -> AsyncGenerator[Sequence[Event], None]:
        at = after + 1
        async with aclosing(self._changes()) as changes:
            async for _ in changes:
                if at < len(self.events):
                    batch = self.events[at:]
                    at = len(self.events)
                    yield batch
        if self.failure is not None and after + 1 >= len(self.events):
            yield self.events[-1:]  # this listener had seen more than was journaled, but not how it ended

    async def _changes(self) -> AsyncGenerator[None, None]:
        """After every look, until the answer is over. Its replica's timeouts end it, or their absence."""
        well, pause = self._clock(), FASTEST
        yield
        while not self.is_over:
            try:
                has_news = await self._look(listens=True)
                well = self._clock()
            except StoreDown as down:
                has_news = False
                if self._clock() - well > PATIENCE:
                    self._end_here(UpstreamUnavailable(f"journal: {down}", retry_after=1))
            yield
            if has_news:
                pause = FASTEST
            elif not self.is_over:
                await self._wait(pause)
                pause = min(pause * 1.5, SLOWEST)
            if self._cut.is_set() and not self.is_over:
                self._end_here(Draining("the process is shutting down", retry_after=1))
                yield

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._cut.wait()

    async def _look(self, *, listens: bool) -> bool:
        """True when there was news. Raises StoreDown, also when the journal lost what we are reading."""
        found = await self._store.look(self._box.name, self._read, listens=listens)
        if self._read and (found is None or found.length < self._read):
            raise StoreDown("the journal of this answer is gone")
        if found is None:
            return False
        try:
            for data in found.batches:
                self._add(data)
        except Broken as broken:
            log.warning("an answer in the journal can't be read: %s", broken)
            self._end_here(UpstreamError("journal is broken", public=INTERRUPTED))
            return True
        if self._read == found.length and not (found.is_alive or self.is_over):
            return await self._bury()
        return bool(found.batches)

    def _add(self, data: bytes) -> None:
        self.request_id, self.has_opened, events = self._box.open(self._read, len(self.events), data)
        self._read += 1
        self._running += events
        if self.is_over and self.events[-1].name == "error":
            self.failure = _error(self.events[-1])

    async def _bury(self) -> bool:
        error = UpstreamError("its replica is gone", public=INTERRUPTED)
        last = Event(len(self.events), "error", error_fields(error, self.request_id))
        data = self._box.seal(self._read, [last], self.request_id, has_opened=self.has_opened)
        if await self._store.bury(self._box.name, self._read, data):
            log.warning("answer %s broke off: its replica gives no sign of life", self.id)
            self._interrupted()
            self._add(data)
        return True  # or there is more to read

    def _end_here(self, error: ProxyError) -> None:
        if not self.is_over:
            self.failure = error
            self._running.append(self.parting(error))


def _error(event: Event) -> ProxyError:
    """What an answer ended in, as far as its event tells."""
    code, public, wait = (event.fields.get(name) for name in ("code", "message", "retry_after"))
    kind = _KINDS.get(str(code), ProxyError)
    return kind("at another replica", public=str(public), retry_after=wait if isinstance(wait, int) else None)


def _kinds() -> dict[str, type[ProxyError]]:
    found: dict[str, type[ProxyError]] = {}
    todo: list[type[ProxyError]] = [ProxyError]
    for kind in todo:  # grows as it goes, so that a class comes before those made of it
        found.setdefault(kind.code, kind)
        todo += kind.__subclasses__()
    return found


_KINDS = _kinds()
