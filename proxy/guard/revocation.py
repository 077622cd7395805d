"""Sessions that were ended before their time: by their visitor, by a replayed refresh token, by their owner's admin.

What it stops: every token of such a session, its sockets and streams, at every replica that shares the Redis, within a
second. No request asks Redis: each replica reads the shared log four times a second and judges by what it read.
What it doesn't: with the memory store a restart forgets who was ended, and their tokens are good again until they
expire; a log that Redis lost together with all replicas can't be known, so what is older than the new one is refused.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from types import TracebackType
from typing import Literal
from uuid import uuid4

from proxy.background import Background
from proxy.errors import SessionInvalid, UpstreamUnavailable
from proxy.model import Session
from proxy.store import Mark, RevocationLog, StoreDown

log = logging.getLogger(__name__)

EVERY = 0.25  # seconds between two looks at the log
SOON = 60.0  # seconds before a session ends, in which what lasts as long as it has a timer of its own
MAX_MARKS = 100_000  # as many as the log keeps
MAX_SAID = 1_000  # in one round trip
LATER = "This can't be done right now. Please try again shortly."
Kind = Literal["session", "owner", "key", "site"]


class Revocations:
    """What one replica knows. Without a log it is the only one.

    `keep`: seconds that any token of a session can live. `patience`: seconds without Redis after which what is known is
    too old to go by. `clock` gives Unix time, `steady` never goes back.
    """

    def __init__(
        self,
        key: bytes,
        keep: float,
        shared: RevocationLog | None = None,
        patience: float = 300,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = hmac.digest(key, b"sidegate revocations", "sha256")
        self._keep = math.ceil(keep)
        self._shared = shared
        self._patience = patience
        self._clock = clock
        self._steady = steady
        self._marks: dict[str, Mark] = {}  # in the order of `until`
        self._unsaid: dict[str, Mark] = {}  # those that the log doesn't have yet
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        self._lasting: set[_Lasting] = set()
        self._look_at_ends: asyncio.TimerHandle | None = None
        self._acts: list[Callable[[], None]] = []
        self._log: str | None = None  # the name of the one that was read
        self._place = -1
        # Until a log was read, nothing is known of what began before this process.
        self._since = 0 if shared is None else int(clock())
        self._heard = steady()
        self._background = Background()

    def check(self, session: Session) -> None:
        """Raises SessionInvalid for one that has ended, UpstreamUnavailable where that can't be known."""
        self._tidy()
        if self._clock() >= session.ends:
            raise SessionInvalid("the session is over")
        if self._shared is not None:
            if self._steady() - self._heard > self._patience:
                raise UpstreamUnavailable("who was ended isn't known: redis is away for too long", retry_after=5)
            if self._log is None and 0 < session.born < self._since:
                raise UpstreamUnavailable("who was ended isn't known: redis was not reached yet", retry_after=5)
        if self.is_revoked(session):
            raise SessionInvalid("the session was ended")

    def is_revoked(self, session: Session) -> bool:
        if 0 < session.born < self._since:  # 0: as old as the key in the configuration that it hangs on
            return True
        if not self._marks:
            return False
        marks = map(self._marks.get, self._subjects(session))
        return any(mark is not None and session.born <= mark.at for mark in marks)

    async def end(self, session: Session) -> None:
        """End it for everybody. Raises UpstreamUnavailable where that could not be written down: it has ended here all
        the same, and the others are told as soon as Redis is back, if this process is still there."""
        await self.end_all(session.site, "session", session.id)

    async def end_all(self, site: str, kind: Kind, value: str = "") -> None:
        """End a session by its id, or all of an owner, a key or the site that have begun so far. As end()."""
        await self._end(self.name(kind, site, value))

    async def _end(self, subject: str) -> None:
        self._tidy()
        now = int(self._clock())
        if subject not in self._marks and len(self._marks) >= MAX_MARKS:
            raise UpstreamUnavailable(f"{MAX_MARKS} revocations are known already", retry_after=60, public=LATER)
        mark = Mark(subject, now, now + self._keep)
        self._take([mark])
        if self._shared is None:
            return
        self._unsaid[subject] = mark
        try:
            await self._say(self._shared)
        except StoreDown as down:
            raise UpstreamUnavailable(
                f"the revocation was not written down: {down}", retry_after=5, public=LATER
            ) from down

    async def end_names(self, names: Sequence[str]) -> None:
        """End sessions whose name() is known, and no more. As end()."""
        for name in names:
            await self._end(name)

    def on_change(self, act: Callable[[], None]) -> None:
        """Have this done whenever sessions were ended."""
        self._acts.append(act)

    def lasting(self, session: Session) -> AbstractAsyncContextManager[None]:
        """What is done within is cut short when the session ends: then SessionInvalid is raised."""
        return _Lasting(self, session)

    def enter(self, one: _Lasting) -> None:
        self._lasting.add(one)
        if self._look_at_ends is None:
            self._look_at_ends = asyncio.get_running_loop().call_later(SOON, self._set_timers)
        one.set_timer(self._clock(), SOON * 2)

    def leave(self, one: _Lasting) -> None:
        self._lasting.remove(one)
        if not self._lasting and self._look_at_ends is not None:
            self._look_at_ends.cancel()
            self._look_at_ends = None

    def _set_timers(self) -> None:
        """For those that end before the look after the next one. A timer takes 500 bytes, and most would wait for
        hours."""
        self._look_at_ends = asyncio.get_running_loop().call_later(SOON, self._set_timers)
        now = self._clock()
        for one in self._lasting:
            one.set_timer(now, SOON * 2)

    async def start(self) -> None:
        """Look once, and go on looking until close()."""
        if self._shared is not None:
            await self._look(self._shared)
            self._background.begin(self._keep_looking(self._shared), "revocations")

    async def close(self) -> None:
        await self._background.end()

    async def _keep_looking(self, shared: RevocationLog) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self._look(shared)

    async def _look(self, shared: RevocationLog) -> None:
        try:
            await self._read(shared)
            await self._say(shared)
        except StoreDown as down:
            log.debug("the log of revocations can't be read (%s)", down)
        else:
            self._heard = self._steady()

    async def _read(self, shared: RevocationLog) -> None:
        found = await shared.revoked(self._place)
        if found.name is None:
            log.warning("redis has no log of revocations, and gets one; sessions from before %d end", self._since)
            await shared.begin(uuid4().hex, self._since)
            found = await shared.revoked(self._place)
        if found.name != self._log or found.newest < self._place:
            # Another log, or one that lost entries: it is read from its beginning, and gets those that only we know of.
            self._tidy()
            self._log, self._place, self._unsaid = found.name, -1, dict(self._marks)
            found = await shared.revoked(self._place)
        if found.since != self._since:
            self._since = found.since
            self._tell(list(self._watchers))
        while found.marks:
            for mark in found.marks:
                if self._unsaid.get(mark.subject) == mark:
                    del self._unsaid[mark.subject]
            self._take(found.marks)
            self._place = found.place
            found = await shared.revoked(self._place)

    async def _say(self, shared: RevocationLog) -> None:
        unsaid = list(self._unsaid.values())
        for first in range(0, len(unsaid), MAX_SAID):
            said = unsaid[first : first + MAX_SAID]
            await shared.revoke(said, self._keep)
            for mark in said:
                if self._unsaid.get(mark.subject) == mark:
                    del self._unsaid[mark.subject]

    def _take(self, marks: Sequence[Mark]) -> None:
        now, news = self._clock(), []
        for mark in marks:
            known = self._marks.get(mark.subject)
            if mark.until > now and (known is None or known.at < mark.at):
                self._marks.pop(mark.subject, None)
                self._marks[mark.subject] = mark
                news.append(mark.subject)
        self._tell(news)

    def _tell(self, subjects: Sequence[str]) -> None:
        for subject in subjects:
            for act in list(self._watchers.get(subject, ())):
                act()
        if subjects:
            for act in self._acts:
                act()

    def _tidy(self) -> None:
        """Forget what nobody could use any more."""
        now = self._clock()
        while self._marks and (oldest := next(iter(self._marks.values()))).until <= now:
            del self._marks[oldest.subject]
            self._unsaid.pop(oldest.subject, None)
            if not self._marks:
                self._marks = {}  # an emptied one keeps its room

    def watch(self, session: Session, act: Callable[[], None]) -> list[str]:
        """Have this done whenever this session may have been ended. Returns what unwatch() takes."""
        subjects = self._subjects(session)
        for subject in subjects:
            self._watchers.setdefault(subject, set()).add(act)
        return subjects

    def unwatch(self, subjects: list[str], act: Callable[[], None]) -> None:
        for subject in subjects:
            self._watchers[subject].discard(act)
            if not self._watchers[subject]:
                del self._watchers[subject]

    def _subjects(self, session: Session) -> list[str]:
        """What a session can be ended by."""
        said: list[tuple[Kind, str]] = [("session", session.id), ("site", "")]
        if session.owner:
            said.append(("owner", session.owner))
        if session.key:
            said.append(("key", session.key))
        return [self.name(kind, session.site, value) for kind, value in said]

    def name(self, kind: Kind, site: str, value: str) -> str:
        """As it is kept where others may see it: it says nothing of ids and owners. 32 hex digits."""
        return _name(self._names, kind, site, value)


@lru_cache(4096)
def _name(key: bytes, kind: Kind, site: str, value: str) -> str:
    return hmac.digest(key, f"{kind}\0{site}\0{value}".encode(), "sha256")[:16].hex()


class _Lasting(AbstractAsyncContextManager[None]):
    """A class and no generator: each open connection has one."""

    __slots__ = ("_limit", "_revocations", "_session", "_subjects")

    def __init__(self, revocations: Revocations, session: Session) -> None:
        self._revocations = revocations
        self._session = session
        self._limit = asyncio.timeout(None)
        self._subjects: list[str] = []

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._revocations.enter(self)
        self._subjects = self._revocations.watch(self._session, self._cut)
        self._cut()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._revocations.unwatch(self._subjects, self._cut)
        self._revocations.leave(self)
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            raise SessionInvalid("the session ended meanwhile") from None

    def set_timer(self, now: float, within: float) -> None:
        """Where the session ends within so many seconds, and it has none yet. `now`: Unix time."""
        left = self._session.ends - now
        if left < within and self._limit.when() is None:
            self._limit.reschedule(asyncio.get_running_loop().time() + left)

    def _cut(self) -> None:
        if self._revocations.is_revoked(self._session) and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())
