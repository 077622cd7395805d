"""The circuit opens after failures, lets exactly the probes through, and is fooled by nobody who comes late."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.errors import ClientGone, OutputBlocked, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from proxy.upstream.breaker import Attempt, Breaker, BreakerSettings, Count
from tests.clients import Clock


def breaker(failures: int = 3, probes: int = 1, clock: Clock | None = None) -> Breaker:
    return Breaker("support", BreakerSettings(failures=failures, cooldown=30, probes=probes), clock or Clock())


def fail(circuit: Breaker, error: BaseException | None = None) -> None:
    error = error or UpstreamError("broken")
    with suppress(type(error)), circuit.attempt():
        raise error


def break_off(circuit: Breaker) -> None:
    with suppress(UpstreamError), circuit.attempt() as attempt:
        attempt.ok()
        raise UpstreamError("cut")


def succeed(circuit: Breaker) -> None:
    with circuit.attempt() as attempt:
        attempt.ok()


def enter(circuit: Breaker) -> Attempt:
    return circuit.attempt().__enter__()


def leave(attempt: Attempt, error: BaseException | None = None) -> None:
    attempt.__exit__(type(error) if error else None, error, None)


def opened(probes: int = 1) -> tuple[Breaker, Clock]:
    clock = Clock()
    circuit = breaker(failures=1, probes=probes, clock=clock)
    fail(circuit)
    return circuit, clock


def test_failures_in_a_row_open_the_circuit() -> None:
    circuit = breaker(failures=3)
    fail(circuit)
    fail(circuit, UpstreamTimeout("idle"))
    assert circuit.state == "closed"
    fail(circuit)
    assert circuit.state == "open"


def test_a_success_between_failures_starts_the_count_again() -> None:
    circuit = breaker(failures=2)
    fail(circuit)
    succeed(circuit)
    fail(circuit)
    assert circuit.state == "closed"


def test_an_open_circuit_refuses_and_says_how_long() -> None:
    circuit, clock = opened()
    clock.advance(10)
    with pytest.raises(UpstreamUnavailable) as caught, circuit.attempt():
        pytest.fail("let through")
    assert caught.value.retry_after == 20
    assert circuit.retry_after == 20


def test_nobody_is_told_to_come_back_in_less_than_a_second() -> None:
    circuit, clock = opened()
    clock.advance(29.9)
    with pytest.raises(UpstreamUnavailable) as caught, circuit.attempt():
        pytest.fail("let through")
    assert caught.value.retry_after == 1


def test_a_closed_circuit_has_nothing_to_wait_for() -> None:
    assert breaker().retry_after == 0


def test_after_the_cooldown_the_circuit_says_that_it_is_worth_asking() -> None:
    circuit, clock = opened()
    clock.advance(30)
    assert circuit.state == "half_open"
    assert circuit.retry_after == 0


def test_one_good_probe_closes_the_circuit() -> None:
    circuit, clock = opened()
    clock.advance(30)
    succeed(circuit)
    assert circuit.state == "closed"


def test_a_bad_probe_opens_it_for_another_cooldown() -> None:
    circuit, clock = opened()
    clock.advance(30)
    fail(circuit)
    assert circuit.state == "open"
    assert circuit.retry_after == 30


def test_while_the_probe_is_out_everybody_else_is_refused() -> None:
    circuit, clock = opened()
    clock.advance(30)
    probe = enter(circuit)
    with pytest.raises(UpstreamUnavailable) as caught:
        enter(circuit)
    assert caught.value.retry_after == 1
    assert circuit.state == "half_open"
    leave(probe)
    assert circuit.state == "closed"


def test_as_many_probes_as_set_have_to_succeed() -> None:
    circuit, clock = opened(probes=3)
    clock.advance(30)
    probes = [enter(circuit) for _ in range(3)]
    with pytest.raises(UpstreamUnavailable):
        enter(circuit)
    leave(probes[0])
    leave(probes[1])
    assert circuit.state == "half_open"
    with pytest.raises(UpstreamUnavailable):
        enter(circuit)
    leave(probes[2])
    assert circuit.state == "closed"


@pytest.mark.parametrize("error", [ClientGone(), OutputBlocked("links"), asyncio.CancelledError(), ValueError("bug")])
def test_what_says_nothing_about_the_upstream_changes_nothing(error: BaseException) -> None:
    circuit = breaker(failures=1)
    fail(circuit, error)
    assert circuit.state == "closed"


@pytest.mark.parametrize("error", [ClientGone(), asyncio.CancelledError()])
def test_a_probe_that_told_nothing_makes_room_for_another(error: BaseException) -> None:
    circuit, clock = opened()
    clock.advance(30)
    fail(circuit, error)
    assert circuit.state == "half_open"
    succeed(circuit)
    assert circuit.state == "closed"


def test_a_neutral_end_leaves_the_failures_counted() -> None:
    circuit = breaker(failures=2)
    fail(circuit)
    fail(circuit, ClientGone())
    fail(circuit)
    assert circuit.state == "open"


def test_a_late_success_does_not_close_an_open_circuit() -> None:
    circuit = breaker(failures=1)
    slow = enter(circuit)
    fail(circuit)
    leave(slow)
    assert circuit.state == "open"


def test_a_late_failure_does_not_reopen_a_circuit_that_is_being_tried() -> None:
    clock = Clock()
    circuit = breaker(failures=1, clock=clock)
    slow, slower, silent = enter(circuit), enter(circuit), enter(circuit)
    slower.ok()
    fail(circuit)
    clock.advance(30)
    probe = enter(circuit)
    leave(slow, UpstreamError("late"))
    leave(slower, UpstreamError("late"))
    leave(silent, ClientGone())
    assert circuit.state == "half_open"
    with pytest.raises(UpstreamUnavailable):
        enter(circuit)
    leave(probe)
    assert circuit.state == "closed"


def test_a_late_end_does_not_reset_the_breaks_of_today() -> None:
    clock = Clock()
    circuit = breaker(failures=2, clock=clock)
    slow = enter(circuit)
    slow.ok()
    fail(circuit)
    fail(circuit)
    clock.advance(30)
    succeed(circuit)
    break_off(circuit)
    leave(slow)
    break_off(circuit)
    assert circuit.state == "open"


def test_answers_that_break_off_open_the_circuit_too() -> None:
    circuit = breaker(failures=2)
    break_off(circuit)
    assert circuit.state == "closed"
    break_off(circuit)
    assert circuit.state == "open"


def test_a_completed_answer_starts_the_count_of_breaks_again() -> None:
    circuit = breaker(failures=2)
    break_off(circuit)
    succeed(circuit)
    break_off(circuit)
    assert circuit.state == "closed"


def test_a_client_that_leaves_in_mid_answer_counts_for_neither() -> None:
    circuit = breaker(failures=2)
    break_off(circuit)
    with suppress(ClientGone), circuit.attempt() as attempt:
        attempt.ok()
        raise ClientGone
    break_off(circuit)
    assert circuit.state == "open"


def test_the_probe_that_closed_the_circuit_may_still_break_off() -> None:
    circuit, clock = opened()
    clock.advance(30)
    probe = enter(circuit)
    probe.ok()
    assert circuit.state == "closed"
    leave(probe, UpstreamError("cut"))
    assert circuit.state == "open"


def test_ok_counts_once() -> None:
    circuit, clock = opened(probes=2)
    clock.advance(30)
    probe = enter(circuit)
    probe.ok()
    probe.ok()
    leave(probe)
    assert circuit.state == "half_open"


def test_every_change_is_told_with_the_name() -> None:
    changes: list[tuple[str, str]] = []
    clock = Clock()
    settings = BreakerSettings(failures=1, cooldown=30)
    circuit = Breaker("support", settings, clock, lambda name, state: changes.append((name, state)))
    fail(circuit)
    clock.advance(30)
    succeed(circuit)
    assert changes == [("support", "open"), ("support", "half_open"), ("support", "closed")]


def test_the_error_that_failed_goes_on_untouched() -> None:
    error = UpstreamError("broken")
    with pytest.raises(UpstreamError) as caught, breaker().attempt():
        raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None


@dataclass
class Flight:
    """An attempt under way, and when it began: how often the circuit had opened by then."""

    attempt: Attempt
    era: int
    is_ok: bool = False


@dataclass
class Model:
    """The rules, said once more: plainly, with the whole history at hand."""

    failures: int
    probes: int
    state: str = "closed"
    era: int = 0
    ends: float = 0
    failed: int = 0
    broken: int = 0
    good: int = 0
    flights: list[Flight] = field(default_factory=list)

    def open(self, now: float) -> None:
        self.state, self.ends, self.era = "open", now + 10, self.era + 1
        self.failed = self.broken = self.good = 0

    def is_refused(self, now: float) -> bool:
        if self.state == "open":
            return now < self.ends
        out = sum(flight.era == self.era and not flight.is_ok for flight in self.flights)
        return self.state == "half_open" and out + self.good >= self.probes


class Circuit(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(0)
        self.model = Model(failures=2, probes=2)
        self.circuit = Breaker("x", BreakerSettings(failures=2, cooldown=10, probes=2), self.clock)

    @rule(seconds=st.sampled_from([1, 4, 10]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def somebody_asks(self) -> None:
        model, attempt = self.model, self.circuit.attempt()
        if model.is_refused(self.clock.now):
            with pytest.raises(UpstreamUnavailable) as caught:
                attempt.__enter__()
            assert caught.value.retry_after
            assert caught.value.retry_after >= 1
            return
        if model.state == "open":
            model.state = "half_open"
        attempt.__enter__()
        model.flights.append(Flight(attempt, model.era))

    @precondition(lambda self: self.model.flights)
    @rule(number=st.integers(0))
    def an_answer_begins(self, number: int) -> None:
        flight = self.model.flights[number % len(self.model.flights)]
        flight.attempt.ok()
        self._begins(flight)

    @precondition(lambda self: self.model.flights)
    @rule(number=st.integers(0), end=st.sampled_from(["whole", "error", "client gone"]))
    def an_answer_ends(self, number: int, end: str) -> None:
        model = self.model
        flight = model.flights.pop(number % len(model.flights))
        leave(flight.attempt, {"whole": None, "error": UpstreamError("x"), "client gone": ClientGone()}[end])
        if end == "whole":
            self._begins(flight)
        if flight.era != model.era:
            return
        if end == "whole":
            model.broken = 0
        elif end == "error" and flight.is_ok:
            model.broken += 1
        elif end == "error":
            model.failed += 1
        if end == "error" and (
            max(model.failed, model.broken) >= model.failures or (model.state == "half_open" and not flight.is_ok)
        ):
            model.open(self.clock.now)

    def _begins(self, flight: Flight) -> None:
        model = self.model
        if flight.is_ok:
            return
        flight.is_ok = True
        if flight.era != model.era:
            return
        model.failed = 0
        if model.state == "half_open":
            model.good += 1
            if model.good == model.probes:
                model.state = "closed"

    @invariant()
    def the_state_is_the_models(self) -> None:
        expected = self.model.state
        if expected == "open" and self.clock.now >= self.model.ends:
            expected = "half_open"
        assert self.circuit.state == expected
        assert (self.circuit.retry_after > 0) == self.model.is_refused(self.clock.now)


TestCircuit = Circuit.TestCase
TestCircuit.settings = settings(deadline=None)


KINDS: dict[Count, UpstreamError] = {
    "connect": UpstreamError("no connection"),
    "timeout": UpstreamTimeout("first byte"),
    "answer": UpstreamError("status 500"),
    "break": UpstreamError("cut"),
}
KINDS["connect"].was_sent = False


@pytest.mark.parametrize("counted", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_only_what_counts_opens_the_circuit(counted: Count, kind: Count) -> None:
    circuit = Breaker("support", BreakerSettings(failures=1, counts=(counted,)), Clock())
    with suppress(UpstreamError), circuit.attempt() as attempt:
        if kind == "break":
            attempt.ok()
        raise KINDS[kind]
    assert (circuit.state == "open") == (kind == counted)


def test_a_probe_whose_failure_does_not_count_gives_its_place_to_another() -> None:
    clock = Clock()
    circuit = Breaker("support", BreakerSettings(failures=1, cooldown=30, counts=("connect",)), clock)
    fail(circuit, KINDS["connect"])
    clock.advance(30)
    fail(circuit, KINDS["answer"])
    assert circuit.state == "half_open"
    succeed(circuit)
    assert circuit.state == "closed"
