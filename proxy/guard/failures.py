"""Credentials that nobody was given: who brings too many of them waits, and ever longer.

What it stops: guessing API keys (while an address waits, or a key is being guessed, even the right one is refused where
it wasn't used before), and a log full of bad tokens. Good tokens pass meanwhile, since their signatures can't be
guessed: nobody is locked out by a neighbour. Nothing waits in here: a refusal says when to come back. What it doesn't:
each replica learns of a block with the first bad credential that it sees itself.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

from proxy.errors import Denied, RateLimited, SessionInvalid
from proxy.guard.auth import presented
from proxy.guard.keys import FailureSettings, key_id, shown
from proxy.guard.subjects import ip_key
from proxy.model import Client, Mode, Stage
from proxy.store import Hit, Store, Tier
from proxy.telemetry import Metrics, audit

WINDOWS = ((1, 60.0), (2, 600.0), (3, 3600.0))  # so many times the limit, in so many seconds
MAX_BLOCKED = 10_000
MAX_GOOD = 10_000
COUNTED = frozenset({"auth_failed", "forbidden_scope", "session_invalid"})


class Failures:
    """`clock` gives seconds that never go back."""

    def __init__(
        self, settings: FailureSettings, store: Store, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = settings.limit
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._blocked: OrderedDict[str, float] = OrderedDict()  # until when
        # API keys that were good from this address: a guesser doesn't lock out who has one.
        self._good: OrderedDict[tuple[str, int], None] = OrderedDict()

    @asynccontextmanager
    async def watching(self, client: Client, refresh_token: str | None = None) -> AsyncIterator[None]:
        """Around the judging of this client's credential, or of a refresh token.

        Raises RateLimited where there were too many bad ones, before or after judging; one store call for each bad one.
        """
        judged = presented(client) if refresh_token is None else ("refresh", refresh_token)
        if judged is None:
            yield
            return
        kind, value = judged
        wait = self._wait(_subjects(client, kind, value)) if self._blocked else 0
        if wait > 0 and kind == "api_key" and (client.ip, hash(value)) not in self._good:
            self._metrics.auth_failures.labels(kind, RateLimited.code).inc()
            raise _too_many(wait)
        try:
            yield
        except Denied as denied:
            if wait > 0 and denied.is_guess:
                self._metrics.auth_failures.labels(kind, RateLimited.code).inc()
                raise _too_many(wait) from denied
            if denied.code in COUNTED:
                await self._count(client, kind, value, denied)
            raise

    def remember(self, client: Client) -> None:
        """The client's credential is good."""
        judged = presented(client)
        if judged is not None and judged[0] == "api_key":
            mark = client.ip, hash(judged[1])
            self._good[mark] = None
            self._good.move_to_end(mark)
            if len(self._good) > MAX_GOOD:
                self._good.popitem(last=False)

    def _wait(self, subjects: Iterable[str]) -> float:
        now = self._clock()
        return max(self._blocked.get(subject, now) - now for subject in subjects)

    async def _count(self, client: Client, kind: str, value: str, denied: Denied) -> None:
        self._metrics.auth_failures.labels(kind, denied.code).inc()
        if not denied.is_guess and denied.code == SessionInvalid.code:
            return  # sessions end all the time
        audit(
            "AUTH_FAILED", kind=kind, key=shown(value), code=denied.code, detail=denied.detail,
            ip=client.ip, request_id=client.request_id,
        )  # fmt: skip
        if not denied.is_guess:
            return
        subjects = list(_subjects(client, kind, value))
        tiers = [
            Tier(f"failures:{subject}:{window:g}", times * self._limit, window)
            for subject in subjects
            for times, window in WINDOWS
        ]
        hits = await self._store.hit(tiers)
        for number, subject in enumerate(subjects):
            self._block(subject, hits[number * len(WINDOWS) : (number + 1) * len(WINDOWS)])
        if wait := max(hit.retry_after for hit in hits):
            raise _too_many(wait) from denied

    def _block(self, subject: str, hits: list[Hit]) -> None:
        wait = max(hit.retry_after or (hit.reset if hit.remaining == 0 else 0) for hit in hits)
        if wait > 0:
            self._blocked[subject] = self._clock() + wait
            self._blocked.move_to_end(subject)
            if len(self._blocked) > MAX_BLOCKED:
                self._blocked.popitem(last=False)


class Watched:
    """A connect stage whose refusals count."""

    def __init__(self, stage: Stage[Client], failures: Failures) -> None:
        self._stage = stage
        self._failures = failures

    @property
    def name(self) -> str:
        return self._stage.name

    @property
    def mode(self) -> Mode:
        return self._stage.mode

    async def check(self, client: Client) -> Client:
        async with self._failures.watching(client):
            passed = await self._stage.check(client)
        if passed.session is not None or passed.identity.key:
            self._failures.remember(client)
        return passed


def _subjects(client: Client, kind: str, value: str) -> Iterator[str]:
    """Who is counted: the address; and an API key by its id. Embed keys are public and other tokens have no id that a
    stranger couldn't name: blocking those would lock everybody out."""
    yield f"ip:{ip_key(client.ip)}"
    if kind == "api_key" and (name := key_id(value)):
        yield f"key:{name}"


def _too_many(wait: float) -> RateLimited:
    return RateLimited(
        "too many credentials that are not accepted", retry_after=wait,
        public="Too many failed attempts. Please wait.",
    )  # fmt: skip
