"""What other replicas can read of this one's answers: written in batches, by one task, and never waited for.

An answer is written some 100 ms behind itself, and at once at its beginning and its end. What it doesn't save: the last
100 ms of a process that is killed, and what the upstream would still have said.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from proxy.model import Session
from proxy.store import ALIVE, Batch, Journals, Kept, StoreDown
from proxy.streams import StreamSettings
from proxy.streams.answer import Answer
from proxy.streams.event import Event
from proxy.streams.remote import RemoteAnswer
from proxy.streams.seal import Box, Sealer

log = logging.getLogger(__name__)

EVERY = 0.1  # seconds between two writes
SOON = 0.02  # at least between any two
SIGN_EVERY = 0.3  # a sign of life, which also brings what others want of us
AFTER_FAILURE = 0.5
AT_THE_END = 1.0  # for writing what is left when the process ends
MAX_EVENTS = 4096  # of one answer in one batch
MAX_BATCH_BYTES = 65_536  # of text in a batch, about
MAX_WRITE = 200  # answers in one round trip
MAX_WRITE_BYTES = 1_048_576


@dataclass(slots=True)
class _Entry:
    """How far one answer is written. `ends` remembers which event each batch ended in front of."""

    answer: Answer
    box: Box
    ttl: float
    most_bytes: int
    stop: Callable[[], None]
    written: int = 0  # batches
    ends: list[int] = field(default_factory=list)
    pending: bytes = b""  # sealed and sent, but not known to be there
    size: int = 0
    said: float = -math.inf  # when the store last heard of it, by our clock
    goal: int = 0  # events to write this time

    @property
    def at(self) -> int:
        return self.ends[self.written - 1] if self.written else 0

    @property
    def has_news(self) -> bool:
        return self.at < self.goal


class Journal:
    """Between start() and close() one task writes. Kept in memory: nothing but the answers themselves."""

    def __init__(
        self,
        store: Journals,
        sealer: Sealer,
        interrupted: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._interrupted = interrupted
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._wake = asyncio.Event()
        self._cut = asyncio.Event()
        self._down_since: float | None = None
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        # The one owner of this task is this object, and close() ends it.
        self._writer = asyncio.create_task(self._keep_writing(), name="journal")  # noqa: TID251

    async def close(self) -> None:
        """Write what is left, if that is quick, and end."""
        self.cut()
        writer = self._writer
        if writer is not None:
            writer.cancel()
            await asyncio.wait([writer])  # at once, since nothing in it holds a cancellation up
            with suppress(TimeoutError):
                async with asyncio.timeout(AT_THE_END):
                    await self.write()
            if not writer.cancelled():
                writer.result()  # raises what ended it

    def cut(self) -> None:
        """The process ends: who follows another replica's answer through this one is told."""
        self._cut.set()

    def follow(self, answer: Answer, settings: StreamSettings, stop: Callable[[], None]) -> None:
        """Write this answer from now on until it is over. `stop` is called when another replica was asked to end it."""
        request = answer.request
        box = self._sealer.box(request.site.name, request.session.id, answer.id)
        most = 2 * settings.journal_bytes + MAX_BATCH_BYTES  # text is a little longer as JSON, and in pieces
        self._entries[answer.id] = _Entry(answer, box, settings.journal_ttl, most, stop)
        answer.on_milestone(self._wake.set)

    def forget(self, answer_id: str) -> None:
        self._entries.pop(answer_id, None)

    async def find(self, session: Session, answer_id: str) -> RemoteAnswer | None:
        """An answer of this session that another replica runs, or ran. Raises StoreDown."""
        box = self._sealer.box(session.site, session.id, answer_id)
        answer = RemoteAnswer(answer_id, box, self._store, self._cut, self._interrupted, self._clock)
        if await answer.load():
            return answer
        await asyncio.sleep(EVERY)  # what has just begun may not be written yet
        return answer if await answer.load() else None

    async def write(self) -> bool:
        """Write all that is new, in as many round trips as that takes. False when the store is down."""
        for entry in self._entries.values():
            entry.goal = len(entry.answer.events)  # what comes while this goes on is for the next time
        while batches := self._next():
            try:
                answers = await self._store.keep([batch for _, batch in batches])
            except StoreDown as down:
                self._failed(down)
                return False
            self._worked()
            for (entry, batch), kept in zip(batches, answers, strict=True):
                self._settle(entry, batch, kept)
        return True

    async def _keep_writing(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._wake.wait()
            self._wake.clear()
            pause = SOON if await self.write() else AFTER_FAILURE
            await asyncio.sleep(pause)

    def _next(self) -> list[tuple[_Entry, Batch]]:
        """What the next round trip carries."""
        now = self._clock()
        chosen: list[tuple[_Entry, Batch]] = []
        size = 0
        for answer_id, entry in list(self._entries.items()):
            if not entry.answer.is_admitted:
                continue  # what the guard refuses has no id that anybody was told
            if not entry.pending and entry.has_news:
                self._seal(entry)
            if entry.size > entry.most_bytes:
                log.warning("answer %s is too large to be journaled", answer_id)
                self.forget(answer_id)
            elif entry.pending or now - entry.said >= SIGN_EVERY:
                chosen.append((entry, Batch(entry.box.name, entry.written, entry.pending, entry.ttl)))
                size += len(entry.pending)
            if len(chosen) >= MAX_WRITE or size >= MAX_WRITE_BYTES:
                break
        return chosen

    def _seal(self, entry: _Entry) -> None:
        """Batch number `written`. One that was lost is sealed again with the same events, for those who read on."""
        is_new = entry.written == len(entry.ends)
        if is_new:
            entry.ends.append(_end(entry.answer.events, entry.at))
        events = entry.answer.events[entry.at : entry.ends[entry.written]]
        answer = entry.answer
        entry.pending = entry.box.seal(entry.written, events, answer.request_id, has_opened=answer.has_opened)
        entry.size += len(entry.pending) if is_new else 0

    def _settle(self, entry: _Entry, batch: Batch, kept: Kept) -> None:
        entry.said = self._clock()
        if self._entries.pop(entry.answer.id, None) is not None:
            self._entries[entry.answer.id] = entry  # behind those that have not had their turn
        if kept.is_buried:
            log.warning("answer %s was taken for broken off by another replica", entry.answer.id)
            self._end(entry)
            return
        if kept.length < batch.number:  # Redis lost some, or all
            entry.written, entry.pending, entry.said = kept.length, b"", -math.inf
        elif batch.data:
            entry.written += 1
            entry.pending = b""
        entry.answer.heard_elsewhere(kept.is_heard)
        if entry.answer.is_over and entry.at == len(entry.answer.events):
            self._end(entry)
        elif kept.is_stopped:
            entry.stop()

    def _end(self, entry: _Entry) -> None:
        entry.answer.heard_elsewhere(False)
        self.forget(entry.answer.id)

    def _failed(self, down: StoreDown) -> None:
        if self._down_since is None:
            self._down_since = self._clock()
            log.warning("answers are not journaled at the moment (%s); they go on", down)
        elif self._clock() - self._down_since > ALIVE:
            for entry in self._entries.values():
                entry.answer.heard_elsewhere(False)  # nobody can be, or at least nobody can say so

    def _worked(self) -> None:
        if self._down_since is not None:
            self._down_since = None
            log.info("answers are journaled again")


def _end(events: Sequence[Event], at: int) -> int:
    """Where a batch that begins at `at` ends."""
    size, end = 0, at
    for event in events[at : at + MAX_EVENTS]:
        if size >= MAX_BATCH_BYTES:
            break
        text = event.fields.get("text")
        size += len(text) if isinstance(text, str) else 0
        end += 1
    return end
