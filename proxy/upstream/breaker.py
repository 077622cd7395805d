"""Stop asking an upstream that keeps failing; let a few requests try it now and then until it recovers.

closed     requests pass; `failures` in a row open the circuit
open       requests are refused for `cooldown` seconds
half_open  `probes` requests are let through: all of them succeed, or the circuit opens again

States, counters and listeners are pybreaker's. Its calls are for plain functions, so an answer that streams is settled
through it after the fact; and its clock, its half-open crowd and its late results are replaced here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal, NoReturn, Protocol

import pybreaker
from pydantic import Field

from proxy.config import Section
from proxy.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable

_STATES = {
    pybreaker.STATE_CLOSED: "closed",
    pybreaker.STATE_OPEN: "open",
    pybreaker.STATE_HALF_OPEN: "half_open",
}


Count = Literal["connect", "timeout", "answer", "break"]


class BreakerSettings(Section):
    """`counts`: no connection; a deadline; any other failure before the first text; an answer that broke off."""

    failures: int = Field(5, ge=1, le=1000)  # in a row
    cooldown: float = Field(30, gt=0, le=3600, allow_inf_nan=False)  # seconds
    probes: int = Field(1, ge=1, le=100)
    counts: tuple[Count, ...] = Field(("connect", "timeout", "answer", "break"), min_length=1)


class Peers(Protocol):
    """The same upstream's circuits in other processes."""

    def tripped(self, cooldown: float) -> None:
        """It opened here."""
        ...

    async def lease(self) -> str:
        """Leave to try the upstream, for one attempt. Raises UpstreamUnavailable where others are trying it."""
        ...

    def good(self, lease: str) -> None:
        """The attempt was a success."""
        ...

    def release(self, lease: str) -> None:
        """The attempt says nothing."""
        ...


class _Failed(Exception):
    """What pybreaker is told to count; the error itself goes its own way, untouched."""


def _fail() -> NoReturn:
    raise _Failed


def _succeed() -> None:
    return


class Breaker:
    """One upstream's circuit. `on_change` gets the breaker's name and the new state. For one event loop."""

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[str, str], None] | None = None,
    ) -> None:
        self.name = name
        self.peers: Peers | None = None  # set once, before the first attempt
        self._is_told = False  # a change that came from the peers is not told to them
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._ends = 0.0  # of the cooldown
        self._times_opened = 0  # an attempt that began before the circuit last opened says nothing about it now
        self._probes = 0  # under way, or good
        self._breaks = 0  # answers that broke off after they had begun, in a row
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=settings.failures,
            reset_timeout=settings.cooldown,
            success_threshold=settings.probes,
            listeners=[_Watch(self._changed)],
            name=name,
            throw_new_error_on_trip=False,
        )

    @property
    def probes(self) -> int:
        return self._settings.probes

    @property
    def state(self) -> str:
        """half_open as soon as the next request would be let through to try the upstream."""
        state = _STATES[self._circuit.current_state]
        return "half_open" if state == "open" and self._clock() >= self._ends else state

    @property
    def retry_after(self) -> float:
        """Seconds until it is worth asking again: at least 1 where a request would be refused now, otherwise 0."""
        if self._circuit.current_state == pybreaker.STATE_OPEN:
            rest = self._ends - self._clock()
            return max(1.0, rest) if rest > 0 else 0.0
        is_full = self._circuit.current_state == pybreaker.STATE_HALF_OPEN and self._probes >= self._settings.probes
        return 1.0 if is_full else 0.0

    def attempt(self, lease: str = "") -> Attempt:
        """A context around one request and its answer."""
        return Attempt(self, lease)

    async def lease(self) -> str:
        """What an attempt needs while the circuit is tried; empty where it needs nothing."""
        return await self.peers.lease() if self.peers is not None and self.state == "half_open" else ""

    def trip(self, seconds: float) -> None:
        """It opened elsewhere, and may be tried in so many seconds."""
        self._is_told = True
        if self._circuit.current_state != pybreaker.STATE_OPEN:
            self._circuit.open()
        self._is_told = False
        self._ends = self._clock() + seconds

    def close(self) -> None:
        """It closed elsewhere."""
        if self._circuit.current_state != pybreaker.STATE_CLOSED:
            self._circuit.close()

    def check(self) -> None:
        """Raise UpstreamUnavailable where an attempt would."""
        if wait := self.retry_after:
            raise UpstreamUnavailable(f"the circuit of {self.name} is {self.state}", retry_after=wait)

    def _admit(self) -> int:
        """Let one request through, or raise UpstreamUnavailable. Returns the generation it belongs to."""
        self.check()
        if self._circuit.current_state == pybreaker.STATE_OPEN:
            self._circuit.half_open()
            self._probes = 0
        if self._circuit.current_state == pybreaker.STATE_HALF_OPEN:
            self._probes += 1
        return self._times_opened

    def _opened(self, generation: int, lease: str) -> None:
        if generation == self._times_opened:
            self._circuit.call(_succeed)
            if lease and self.peers is not None:
                self.peers.good(lease)

    def _counts(self, error: UpstreamError, *, has_begun: bool) -> bool:
        kind: Count = "answer"
        if has_begun:
            kind = "break"
        elif not error.was_sent:
            kind = "connect"
        elif isinstance(error, UpstreamTimeout):
            kind = "timeout"
        return kind in self._settings.counts

    def _failed(self, generation: int) -> None:
        if generation == self._times_opened:
            with suppress(_Failed):
                self._circuit.call(_fail)

    def _neutral(self, generation: int, lease: str) -> None:
        """In half-open, whoever is of this generation is a probe, and another may take its place."""
        if lease and self.peers is not None:
            self.peers.release(lease)
        if generation == self._times_opened and self._circuit.current_state == pybreaker.STATE_HALF_OPEN:
            self._probes -= 1

    def _completed(self, generation: int) -> None:
        if generation == self._times_opened:
            self._breaks = 0

    def _broke(self, generation: int) -> None:
        if generation == self._times_opened:
            self._breaks += 1
            if self._breaks >= self._settings.failures:
                self._circuit.open()

    def _changed(self, state: str) -> None:
        if state == "open":
            self._ends = self._clock() + self._settings.cooldown
            self._times_opened += 1
            self._breaks = 0
            if self.peers is not None and not self._is_told:
                self.peers.tripped(self._settings.cooldown)
        if self._on_change is not None:
            self._on_change(self.name, state)


class _Watch(pybreaker.CircuitBreakerListener):
    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        self._changed(_STATES[new_state.name])


class Attempt:
    """One request and its answer, as the breaker sees them. Entering raises UpstreamUnavailable.

    An UpstreamError before `ok` is a failure; after it, an answer that broke off, which is counted apart; each only if
    it is one that counts. An end without an error is a success. Anything else that ends it (the client left, a filter
    stopped it) says nothing.
    """

    __slots__ = ("_breaker", "_generation", "_is_ok", "_lease")

    def __init__(self, breaker: Breaker, lease: str = "") -> None:
        self._breaker = breaker
        self._lease = lease
        self._generation = -1
        self._is_ok = False

    def __enter__(self) -> Attempt:
        try:
            self._generation = self._breaker._admit()
        except UpstreamUnavailable:
            self._breaker._neutral(-1, self._lease)
            raise
        return self

    def ok(self) -> bool:
        """The answer has begun. True for the first call; later ones change nothing."""
        if self._is_ok:
            return False
        self._is_ok = True
        self._breaker._opened(self._generation, self._lease)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.ok()
            self._breaker._completed(self._generation)
        elif isinstance(error, UpstreamError) and self._breaker._counts(error, has_begun=self._is_ok):
            if self._is_ok:
                self._breaker._broke(self._generation)
            else:
                self._breaker._failed(self._generation)
        elif not self._is_ok:
            self._breaker._neutral(self._generation, self._lease)
