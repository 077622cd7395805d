"""How much a session behaves as a stolen one, or a program's, does: signals with weights, and what their sum leads to.

| signal | points | |
|---|---|---|
| address | 5 | another address of the same network (IPv4 /24, IPv6 /48) than at its opening |
| network | 25 | another network |
| asn | 30 | another provider, where a trusted front says so |
| country | 40 | another country, where a trusted front says so |
| tls | 20 | another TLS fingerprint, where a trusted front says so; it differs between HTTP/1.1 and HTTP/2, too |
| device | 60 | another value than the page sent at its opening, or none any more |
| openings | 30 | opened when its address had opened many |
| messages | 40 | more messages than a person types |
| age | 10 | a very long session |

From `note` points on it is told, from `challenge` on the client has to prove itself, from `end` on the session ends.
Another browser needs no sum: see fingerprint.py. What it stops: a token that was carried elsewhere, programs in
visitors' sessions. What it doesn't: a thief behind the same address; rates are counted by each replica for itself.
"""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, Protocol

from pydantic import Field, model_validator

from proxy.config import Section
from proxy.errors import ChallengeRequired, SessionInvalid
from proxy.guard.fingerprint import changes, lacks_device
from proxy.model import Client, Mode, Request, Session
from proxy.telemetry import Metrics, audit

MAX_KNOWN = 10_000  # sessions, and addresses, whose rates are known
NO_HEADERS = frozenset(
    {"ws", "events", "answers", "waiting", "pressed"}
)  # what a browser opens without headers of the page's own
Points = Annotated[int, Field(ge=0, le=1000)]
Step = Literal["", "note", "challenge", "end"]


class RiskWeights(Section):
    """Points of each signal."""

    address: Points = 5
    network: Points = 25
    asn: Points = 30
    country: Points = 40
    tls: Points = 20
    device: Points = 60
    openings: Points = 30
    messages: Points = 40
    age: Points = 10


class RiskSettings(Section):
    """`openings`: sessions of one address in a minute that are many; `messages`: of one session in ten seconds; `age`:
    seconds that are long for a session."""

    mode: Mode = "observe"
    note: Annotated[int, Field(ge=1, le=10_000)] = 20
    challenge: Annotated[int, Field(ge=1, le=10_000)] = 50
    end: Annotated[int, Field(ge=1, le=10_000)] = 100
    openings: Annotated[int, Field(ge=1, le=10_000)] = 10
    messages: Annotated[int, Field(ge=2, le=1_000)] = 20
    age: Annotated[int, Field(ge=60, le=31_536_000)] = 43_200
    weights: RiskWeights = RiskWeights()

    @model_validator(mode="after")
    def _in_order(self) -> RiskSettings:
        if not self.note <= self.challenge <= self.end:
            raise ValueError("note, challenge and end have to grow in this order, such as 20, 50 and 100")
        return self


class Challenge(Protocol):
    """How a client proves itself."""

    async def demand(self, client: Client, session: Session) -> None:
        """Raises ChallengeRequired unless this session's client has proved itself."""
        ...


class Rates:
    """Who did something `number` times within `seconds`. Bounded: those that were quiet longest are forgotten."""

    def __init__(self, number: int, seconds: float, clock: Callable[[], float]) -> None:
        self._number = number
        self._seconds = seconds
        self._clock = clock
        self._times: OrderedDict[str, array[float]] = OrderedDict()  # no deque: that takes 700 bytes for one

    def count(self, who: str) -> bool:
        """Count one more; is that many?"""
        times = self._times.setdefault(who, array("d"))
        if len(times) == self._number:
            del times[0]
        times.append(self._clock())
        self._times.move_to_end(who)
        if len(self._times) > MAX_KNOWN:
            self._times.popitem(last=False)
        return self.is_high(who)

    def is_high(self, who: str) -> bool:
        times = self._times.get(who)
        return times is not None and len(times) == self._number and self._clock() - times[0] < self._seconds


class Risk:
    """Judges each request, and each message, of a session. `print_of` is a client's fingerprint; `end` ends a session.

    `clock` gives Unix time, `steady` never goes back.
    """

    def __init__(
        self,
        settings: RiskSettings,
        print_of: Callable[[Client], str],
        end: Callable[[Session, str], Awaitable[None]],
        challenge: Challenge,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mode = settings.mode
        self._settings = settings
        self._points = settings.weights.model_dump()
        self._print_of = print_of
        self._end = end
        self._challenge = challenge
        self._metrics = metrics
        self._clock = clock
        self._messages = Rates(settings.messages, 10.0, steady)
        self._told: OrderedDict[str, Step] = OrderedDict()

    def count_message(self, session: Session) -> None:
        self._messages.count(session.id)

    def signals(self, client: Client, session: Session) -> list[str]:
        """What speaks against it, in the order of the table."""
        now = self._print_of(client)
        changed = changes(session.fingerprint, now)
        found = {name for name in changed if name in self._points}
        if "network" in found:
            found.discard("address")  # it goes without saying
        also = {
            "device": client.route not in NO_HEADERS and lacks_device(session.fingerprint, now),
            "openings": session.has_many,
            "messages": self._messages.is_high(session.id),
            "age": 0 < session.born < self._clock() - self._settings.age,
        }
        found |= {name for name, is_so in also.items() if is_so}
        return [name for name in self._points if name in found]

    async def judge(self, client: Client, session: Session) -> None:
        """Raises ChallengeRequired or SessionInvalid, where it comes to that."""
        signals = self.signals(client, session)
        points = sum(self._points[name] for name in signals)
        step = self._step(points)
        if step and self._told.get(session.id) != step:
            self._tell(client, session, step, points, signals)
        if step == "end":
            if self.mode == "enforce":
                await self._end(session, "risk")
            raise SessionInvalid(f"{points} points of risk: {', '.join(signals)}")
        if step == "challenge":
            if self.mode == "enforce":
                await self._challenge.demand(client, session)
            else:
                raise ChallengeRequired(f"{points} points of risk: {', '.join(signals)}")

    def _step(self, points: int) -> Step:
        steps: tuple[tuple[int, Step], ...] = (
            (self._settings.end, "end"), (self._settings.challenge, "challenge"), (self._settings.note, "note"),
        )  # fmt: skip
        return next((step for least, step in steps if points >= least), "")

    def _tell(self, client: Client, session: Session, step: Step, points: int, signals: list[str]) -> None:
        """Once for each step that a session comes to."""
        self._told[session.id] = step
        self._told.move_to_end(session.id)
        if len(self._told) > MAX_KNOWN:
            self._told.popitem(last=False)
        self._metrics.risk_steps.labels(session.site, step, self.mode).inc()
        audit(
            "SECURITY_ALERT", reason="risk", step=step, mode=self.mode, points=points, signals=signals,
            site=session.site, session=session.id, ip=client.ip, request_id=client.request_id,
        )  # fmt: skip


class RiskOfClient:
    """The connect stage."""

    name = "risk"

    def __init__(self, risk: Risk) -> None:
        self._risk = risk
        self.mode: Mode = risk.mode

    async def check(self, client: Client) -> Client:
        if client.session is not None:
            await self._risk.judge(client, client.session)
        return client


class RiskOfMessage:
    """The message stage: a socket's client is judged again with each message."""

    name = "risk"

    def __init__(self, risk: Risk) -> None:
        self._risk = risk
        self.mode: Mode = risk.mode

    async def check(self, request: Request) -> Request:
        self._risk.count_message(request.session)
        await self._risk.judge(request.client, request.session)
        return request
