"""One answer: events that are written once and read by whoever may, from whichever number on.

The flow writes it as its sink. Listeners come and go; what happens when the last one has left is the site's choice.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace

from proxy.errors import ChallengeRequired, Draining, OutputBlocked, ProxyError
from proxy.model import Client, Count, Message, Request, Verdict
from proxy.streams import StreamSettings
from proxy.streams.event import Event, Fields
from proxy.streams.news import News
from proxy.streams.packed import Packed

LAST = frozenset({"done", "error"})
OVERHEAD = 4096  # bytes of a kept answer besides its text, about


def error_fields(error: ProxyError, request_id: str) -> Fields:
    """What a client is told on an open stream."""
    fields: Fields = {"code": error.code, "message": error.public, "request_id": request_id}
    if error.retry_after is not None:
        fields["retry_after"] = math.ceil(error.retry_after)
    if isinstance(error, OutputBlocked):
        fields["finish"] = error.finish
    if isinstance(error, ChallengeRequired) and error.challenge is not None:
        fields["challenge"] = error.challenge
    return fields


async def _nothing() -> None:
    """For an answer that holds nothing to be given back."""


class Transcript(ABC):
    """What listeners have of an answer, wherever it runs. `failure` is what it ended in, if it did."""

    def __init__(self) -> None:
        self._running: list[Event] = []
        self.events: Sequence[Event] = self._running
        self.failure: ProxyError | None = None
        self.has_opened = False
        self.request_id = ""
        self.counts: tuple[Count, ...] = ()

    @property
    @abstractmethod
    def id(self) -> str: ...

    @property
    def is_over(self) -> bool:
        return bool(self.events) and self.events[-1].name in LAST

    @property
    def early(self) -> ProxyError | None:
        """The failure of an answer whose upstream never opened: over HTTP that can still be a plain refusal."""
        return None if self.has_opened else self.failure

    @property
    def text(self) -> str:
        return "".join(str(event.fields["text"]) for event in self.events if event.name == "delta")

    @abstractmethod
    def listening(self) -> AbstractContextManager[None]:
        """While this lasts somebody is there to read."""

    @abstractmethod
    async def opened(self, seconds: float) -> None:
        """Wait until the upstream has opened, the answer is over or listeners are sent away; for `seconds` at most."""

    @abstractmethod
    def follow(self, after: int = -1) -> AsyncGenerator[Sequence[Event], None]:
        """All events behind number `after`, as they come. Where listeners are sent away it ends, before the answer is
        over, in parting().
        """

    def parting(self, error: ProxyError) -> Event:
        """An error of this listening, not of the answer: it takes the number of the last event, so whoever comes back
        behind that number misses nothing.
        """
        return Event(max(0, len(self.events) - 1), "error", error_fields(error, self.request_id))


class Answer(Transcript):
    """A Sink."""

    def __init__(
        self, request: Request, settings: StreamSettings, announce: Callable[[Request], None] = lambda _: None
    ) -> None:
        super().__init__()
        self.request = request
        self.request_id = request.id
        self.is_admitted = False
        self._text_bytes = 0
        self._settings = settings
        self._announce = announce
        self._news = News()
        self._listeners = 0
        self._is_heard_elsewhere = False
        self._is_detached = False
        self._is_parting = False
        self._leave: Callable[[], None] = lambda: None  # what to do when nobody has listened for long enough
        self._milestone: Callable[[], None] = lambda: None
        self._give_back: Callable[[], Awaitable[None]] = _nothing
        self._patience: asyncio.TimerHandle | None = None

    @property
    def id(self) -> str:
        return self.request.answer_id

    # The flow's side.

    def admit(self, request: Request) -> None:
        self.request = request
        self.counts = request.counts
        self.is_admitted = True
        self._add("start", {"answer_id": self.id})
        self._announce(request)

    async def start(self) -> None:
        self.has_opened = True
        self._news.tell()

    async def send(self, text: str) -> None:
        self._text_bytes += len(text.encode())
        if self._text_bytes > self._settings.journal_bytes:
            raise OutputBlocked("the answer is over streams.journal_bytes", finish="length")
        self._add("delta", {"text": text})

    async def done(self) -> None:
        bill = self.request.bill
        fields: Fields = {"answer_id": self.id}
        if bill.usage:
            fields["usage"] = asdict(bill.usage)
        if bill.finish != "stop":
            fields["finish"] = bill.finish
        self._add("done", fields)

    async def fail(self, error: ProxyError) -> None:
        if not self.is_admitted:
            await self._give_back()
        self.break_off(error)

    # The registry's side.

    def on_refusal(self, act: Callable[[], Awaitable[None]]) -> None:
        """Have this done, which never raises, before anybody is told that the guard refused the message."""
        self._give_back = act

    def break_off(self, error: ProxyError) -> None:
        if not self.is_over:
            self.failure = error
        self._add("error", error_fields(error, self.request.id))

    def stop(self) -> None:
        """It was ended from outside, and that is no failure."""
        if not self.is_over:
            self._add("done", {"answer_id": self.id, "stopped": True})

    def pack(self) -> int:
        """It is over, and only kept: for its owner's next look, and no more of the visitor's than that takes.

        Returns bytes of memory, about.
        """
        self.events = packed = Packed(self._running)
        self._running = []
        request = self.request
        for file in request.message.files:
            file.close()
        nobody = Client(request.id, "", request.client.route)
        self.request = replace(request, client=nobody, message=Message(""), counts=(), verdict=Verdict(), values={})
        return packed.size + OVERHEAD

    def detach(self) -> None:
        """Nobody is meant to listen all the time: it goes on without."""
        self._is_detached = True

    def part(self) -> None:
        """Its process ends: listeners are sent away, to come back through another one. The answer goes on meanwhile."""
        self._is_parting = True
        self._news.tell()

    def abandon_by(self, leave: Callable[[], None]) -> None:
        self._leave = leave

    def on_milestone(self, tell: Callable[[], None]) -> None:
        """`tell` is called at the beginning and at the end."""
        self._milestone = tell

    def heard_elsewhere(self, is_heard: bool) -> None:
        """Somebody listens through another replica, or nobody does any more: one listener more or less."""
        if is_heard != self._is_heard_elsewhere:
            self._is_heard_elsewhere = is_heard
            (self._come if is_heard else self._go)()

    def close(self) -> None:
        """No timer is left behind."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    # The listeners' side.

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._come()
        try:
            yield
        finally:
            self._go()

    async def opened(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not (self.has_opened or self.is_over or self._is_parting):
                    await self._news.wait()
        except TimeoutError:
            return

    async def admitted(self) -> None:
        """Wait until the guard has let the message pass or refused it. The guard's stages end this."""
        while not (self.is_admitted or self.is_over):
            await self._news.wait()

    async def follow(self, after: int = -1) -> AsyncGenerator[Sequence[Event], None]:
        """Ends with the answer, which the flow's timeouts end."""
        at = after + 1
        while True:
            if at < len(self.events):
                batch = self.events[at:]
                at = len(self.events)
                yield batch
            elif self.is_over:
                return
            elif self._is_parting:
                yield [self.parting(Draining("the process is shutting down", retry_after=1))]
                return
            else:
                await self._news.wait()  # a timeout for each piece would cost more than the piece

    def _add(self, name: str, fields: Fields) -> None:
        if self.is_over:
            return
        self._running.append(Event(len(self._running), name, fields))
        self._news.tell()
        if name != "delta":
            self._milestone()

    def _come(self) -> None:
        self.close()
        self._listeners += 1

    def _go(self) -> None:
        self._listeners -= 1
        if not (self._listeners or self.is_over or self._is_detached):
            self._left()

    def _left(self) -> None:
        match self._settings.on_disconnect:
            case "cancel" if not self._is_parting:
                self._leave()
            case "cancel" | "grace":
                loop = asyncio.get_running_loop()
                self._patience = loop.call_later(self._settings.grace, self._leave)
            case "finish":
                return
