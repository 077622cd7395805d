"""Which sessions there are: those that were seen of late, listed where all replicas share the list.

What it stops: one owner, or one site, having any number of sessions at a time. What it doesn't: a session that was not
seen for LISTED_SECONDS is no longer listed or counted, though its tokens may still be good; while Redis is away nothing
is counted. The list is for the owner of the site to look at; whether a session is good never hangs on it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.background import Background
from proxy.errors import RateLimited, UpstreamUnavailable
from proxy.guard.fingerprint import network
from proxy.guard.revocation import Revocations
from proxy.model import Client, Session
from proxy.store import Listed, SessionList, StoreDown

log = logging.getLogger(__name__)

LISTED_SECONDS = 3600  # after it was last seen
ACTIVE_SECONDS = 900.0
MAX_ACTIVE = 100_000
TELL_EVERY = 5.0  # seconds between two round trips that say who was seen
AGAIN = 60.0  # seconds after which a session that is seen all the time is told again
NONCE_BYTES = 12  # NIST SP 800-38D section 8.2.2


@dataclass(frozen=True, slots=True)
class Known:
    """What the list says of a session. `born` and `seen`: Unix time; `network`: around its address when last told."""

    id: str
    site: str
    owner: str
    key: str
    born: int
    network: str
    seen: float


class Presence:
    """`secret` encrypts what is listed. `most`: of a site; `most_of_owner`: of an owner there.

    One background task tells the list who was seen, from start() to close().
    """

    def __init__(
        self,
        sessions: SessionList,
        revocations: Revocations,
        secret: bytes,
        most: int,
        most_of_owner: int,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._revocations = revocations
        self._cipher = AESGCM(hmac.digest(secret, b"sidegate session list", "sha256"))
        self._most = most
        self._most_of_owner = most_of_owner
        self._steady = steady
        self._active: OrderedDict[tuple[str, str], float] = OrderedDict()  # by site and id, when it was last seen
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()  # when the list was last told
        self._untold: dict[tuple[str, str], tuple[Session, str]] = {}
        self._background = Background()

    async def enter(self, session: Session, client: Client) -> None:
        """List a new session; where its owner has too many, those end that were seen longest ago.

        Raises RateLimited where the site has too many, and UpstreamUnavailable where the end of the others can't be
        written down. While the list can't be reached nobody is counted.
        """
        try:
            gone = await self._sessions.enter(
                session.site, self._seal(session, client.ip), self._most, self._most_of_owner, LISTED_SECONDS
            )
        except StoreDown as down:
            log.info("a session isn't listed (%s)", down)
            return
        if gone is None:
            raise RateLimited(f"the site has {self._most} sessions", retry_after=60)
        self._told[session.site, session.id] = self._steady()
        await self._revocations.end_names(gone)

    def seen(self, session: Session, client: Client) -> None:
        """It was used just now; the list is told of it soon."""
        now, place = self._steady(), (session.site, session.id)
        self._active[place] = now
        self._active.move_to_end(place)
        self._forget(now)
        if place not in self._told:
            self._untold[place] = session, client.ip

    def active(self) -> int:
        """Sessions that this process saw within the last ACTIVE_SECONDS; counts up to MAX_ACTIVE."""
        self._forget(self._steady())
        return len(self._active)

    async def leave(self, session: Session) -> None:
        """It has ended. Where the list can't be reached it stays there until its time."""
        place = session.site, session.id
        self._active.pop(place, None)
        self._untold.pop(place, None)
        try:
            await self._sessions.leave(session.site, self._seal(session, ""))
        except StoreDown as down:
            log.info("a session that ended is still listed (%s)", down)

    async def listed(self, site: str, owner: str = "", first: int = 0, number: int = 100) -> list[Known]:
        """Raises UpstreamUnavailable."""
        try:
            found = await self._sessions.listed(site, self._owner(site, owner), first, number, LISTED_SECONDS)
        except StoreDown as down:
            raise UpstreamUnavailable(f"the list of sessions: {down}", public="Redis can't be reached.") from down
        return [known for one in found if (known := self._open(site, one)) is not None]

    async def tell(self) -> None:
        """Say who was seen. What can't be said now is said the next time."""
        now = self._steady()
        while self._told and next(iter(self._told.values())) <= now - AGAIN:
            self._told.popitem(last=False)
        if not self._told:
            self._told = OrderedDict()  # an emptied one keeps its room
        untold, self._untold = self._untold, {}
        for site in {site for site, _ in untold}:
            sealed = [self._seal(*untold[place]) for place in untold if place[0] == site]
            try:
                await self._sessions.seen(site, sealed, LISTED_SECONDS)
            except StoreDown as down:
                log.debug("sessions that were seen aren't listed (%s)", down)
                continue
            self._told.update((place, now) for place in untold if place[0] == site)

    def start(self) -> None:
        self._background.begin(self._keep_telling(), "presence")

    async def close(self) -> None:
        await self._background.end()

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY)
            await self.tell()

    def _forget(self, now: float) -> None:
        before = now - ACTIVE_SECONDS
        while self._active and (len(self._active) > MAX_ACTIVE or next(iter(self._active.values())) <= before):
            place, _ = self._active.popitem(last=False)
            self._untold.pop(place, None)
        while len(self._told) > MAX_ACTIVE:
            self._told.popitem(last=False)
        if not self._active:
            self._active = OrderedDict()  # an emptied one keeps its room

    def _owner(self, site: str, owner: str) -> str:
        return self._revocations.name("owner", site, owner) if owner else ""

    def _seal(self, session: Session, ip: str) -> Listed:
        name = self._revocations.name("session", session.site, session.id)
        plain = orjson.dumps([session.id, session.owner, session.key, session.born, network(ip)])
        nonce = secrets.token_bytes(NONCE_BYTES)
        facts = nonce + self._cipher.encrypt(nonce, plain, f"{session.site}\0{name}".encode())
        return Listed(name, self._owner(session.site, session.owner), facts)

    def _open(self, site: str, one: Listed) -> Known | None:
        """None for what was sealed with another key, or is none of ours."""
        nonce, sealed = one.facts[:NONCE_BYTES], one.facts[NONCE_BYTES:]
        try:
            facts = orjson.loads(self._cipher.decrypt(nonce, sealed, f"{site}\0{one.name}".encode()))
        except (InvalidTag, ValueError):
            return None
        session_id, owner, key, born, around = facts
        return Known(session_id, site, owner, key, born, around, one.seen)
