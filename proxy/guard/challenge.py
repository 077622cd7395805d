"""Proof of work, asked for under pressure: a puzzle that a browser solves in a moment and a flood can't afford.

In ALTCHA's format (altcha.org), by its library. Nothing leaves for a third party, no cookie is needed, nobody clicks.
What it stops: programs that only speak HTTP, and makes every session that writes cost a second of computing, more for
addresses with a bad name. What it doesn't: whoever pays for that computing, such as a farm of real browsers. A solution
is good for one session, once, and for a while.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal

from altcha.v1 import ChallengeOptions, Payload, create_challenge, verify_solution
from pydantic import Field

from proxy.config import Section
from proxy.errors import ChallengeRequired, Denied
from proxy.guard.risk import Rates
from proxy.model import Client, Mode, Request, Session
from proxy.store import Store
from proxy.telemetry import Metrics

MAX_KNOWN = 20_000  # sessions that are known here to have proved themselves
MAX_SOLUTION_CHARS = 2_000
HARDEST = 16  # times the ordinary work


class ChallengeSettings(Section):
    """`off`: asked for a session's risk alone. `auto`: also of everybody on a site, while `pressure` requests a minute
    are refused there. `always`: of everybody. `max_number`: attempts that a puzzle takes at most, on average half."""

    mode: Literal["off", "auto", "always"] = "off"
    pressure: Annotated[int, Field(ge=1, le=100_000)] = 200
    max_number: Annotated[int, Field(ge=100, le=10_000_000)] = 50_000
    solve_within: Annotated[int, Field(ge=10, le=3600)] = 300
    good_for: Annotated[int, Field(ge=60, le=86_400)] = 3600


class Challenges:
    """A Challenge. `trust` says how far a client's address is trusted, 1 being fully; `clock` gives Unix time."""

    def __init__(
        self,
        settings: ChallengeSettings,
        key: bytes,
        store: Store,
        trust: Callable[[Client], float],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._key = hmac.digest(key, b"sidegate challenges", "sha256").hex()
        self._store = store
        self._trust = trust
        self._metrics = metrics
        self._clock = clock
        self._refused = Rates(settings.pressure, 60.0, steady)
        self._proved: OrderedDict[str, float] = OrderedDict()  # until when

    def denied(self, denied: Denied, client: Client) -> None:
        """Somebody was refused."""
        if self._settings.mode == "auto" and not isinstance(denied, ChallengeRequired):
            for site in [client.site] if client.site else client.sites:
                self._refused.count(site.name)

    def is_asked_for(self, site: str) -> bool:
        """Is everybody asked, on this site, now?"""
        return self._settings.mode == "always" or (self._settings.mode == "auto" and self._refused.is_high(site))

    async def demand(self, client: Client, session: Session) -> None:
        """Raises ChallengeRequired, with a puzzle, unless this session has solved one or its client solves one now."""
        name = f"proved:{session.site}:{session.id}"
        if self._proved.get(name, 0.0) > self._clock():
            return None
        if client.solution:
            await self._verify(client.solution, session)
            self._metrics.challenges.labels(session.site, "solved").inc()
            await self._store.add(name, self._settings.good_for)
            return self._remember(name)
        if await self._store.has(name):  # at another replica
            return self._remember(name)
        self._metrics.challenges.labels(session.site, "asked").inc()
        raise self._required(client, session, "no solution")

    async def _verify(self, solution: str, session: Session) -> None:
        """Raises ChallengeRequired where it doesn't solve a puzzle of this session's, or did before."""
        if not await self._is_right(solution, session):
            self._metrics.challenges.labels(session.site, "failed").inc()
            raise ChallengeRequired("the solution is wrong, late, somebody else's or was used before")

    async def _is_right(self, solution: str, session: Session) -> bool:
        if len(solution) > MAX_SOLUTION_CHARS or not solution.isascii():
            return False
        try:
            payload = Payload.from_base64(solution)
            _, ends, params = payload.parse_salt()
            is_right, _ = verify_solution(payload, self._key, check_expires=False)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        if not is_right or ends is None or ends <= self._clock() or params.get("for") != [self._owner(session)]:
            return False
        return await self._store.add(f"solved:{payload.challenge}", self._settings.solve_within + 1)

    def _required(self, client: Client, session: Session, detail: str) -> ChallengeRequired:
        work = min(HARDEST, 1 / self._trust(client) ** 2)
        ends = datetime.fromtimestamp(self._clock() + self._settings.solve_within, UTC)
        options = ChallengeOptions(
            max_number=round(self._settings.max_number * work),
            hmac_key=self._key,
            expires=ends,
            params={"for": self._owner(session)},
        )
        made = create_challenge(options)
        return ChallengeRequired(
            detail,
            challenge={
                "algorithm": made.algorithm,
                "challenge": made.challenge,
                "maxnumber": made.max_number,
                "salt": made.salt,
                "signature": made.signature,
            },
        )

    def _owner(self, session: Session) -> str:
        """Whose a puzzle is, without telling who that is."""
        return hmac.digest(self._key.encode(), f"{session.site}\0{session.id}".encode(), "sha256")[:12].hex()

    def _remember(self, name: str) -> None:
        self._proved[name] = self._clock() + self._settings.good_for
        self._proved.move_to_end(name)
        if len(self._proved) > MAX_KNOWN:
            self._proved.popitem(last=False)


class Challenged:
    """A message stage: while a site is under pressure, only who has proved something is heard."""

    name = "challenge"
    mode: Mode = "enforce"

    def __init__(self, challenges: Challenges) -> None:
        self._challenges = challenges

    async def check(self, request: Request) -> Request:
        if self._challenges.is_asked_for(request.site.name):
            await self._challenges.demand(request.client, request.session)
        return request
