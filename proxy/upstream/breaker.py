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
from typing import NoReturn

import pybreaker
from pydantic import Field

from proxy.config import Section
from proxy.errors import UpstreamError, UpstreamUnavailable

_STATES = {
    pybreaker.STATE_CLOSED: "closed",
    pybreaker.STATE_OPEN: "open",
    pybreaker.STATE_HALF_OPEN: "half_open",
}


class BreakerSettings(Section):
    failures: int = Field(5, ge=1, le=1000)  # in a row
    cooldown: float = Field(30, gt=0, le=3600, allow_inf_nan=False)  # seconds
    probes: int = Field(1, ge=1, le=100)


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

    def attempt(self) -> Attempt:
        """A context around one request and its answer."""
        return Attempt(self)

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

    def _opened(self, generation: int) -> None:
        if generation == self._times_opened:
            self._circuit.call(_succeed)

    def _failed(self, generation: int) -> None:
        if generation == self._times_opened:
            with suppress(_Failed):
                self._circuit.call(_fail)

    def _neutral(self, generation: int) -> None:
        """In half-open, whoever is of this generation is a probe, and another may take its place."""
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

    An UpstreamError before `ok` is a failure; after it, an answer that broke off, which is counted apart. An end
    without an error is a success. Anything else that ends it (the client left, a filter stopped it) says nothing.
    """

    __slots__ = ("_breaker", "_generation", "_is_ok")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._generation = -1
        self._is_ok = False

    def __enter__(self) -> Attempt:
        self._generation = self._breaker._admit()
        return self

    def ok(self) -> None:
        """The answer has begun. Later calls change nothing."""
        if not self._is_ok:
            self._is_ok = True
            self._breaker._opened(self._generation)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.ok()
            self._breaker._completed(self._generation)
        elif isinstance(error, UpstreamError):
            if self._is_ok:
                self._breaker._broke(self._generation)
            else:
                self._breaker._failed(self._generation)
        elif not self._is_ok:
            self._breaker._neutral(self._generation)
