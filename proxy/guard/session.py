"""Sessions: issued here, signed, expiring, bound to a fingerprint; and the tokens that carry them.

access   JWT of 15 minutes for `Authorization: Bearer`      cookie   the same for the session's whole life
refresh  single use, opens the next pair                     ticket   single use, 30 s, for transports without headers

What it stops: made-up session ids, tokens of other sites, replayed tickets and refresh tokens, tokens used from another
browser, tokens of a session that was ended. What it doesn't: see fingerprint.py and revocation.py.
"""

from __future__ import annotations

import hmac
import secrets
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from math import inf
from typing import Annotated, Literal

import jwt
import orjson
from pydantic import Field

from proxy.config import Secret, Section
from proxy.errors import (
    AuthRequired,
    BadRequest,
    NotFound,
    OriginDenied,
    SessionInvalid,
    TokenForged,
    UpstreamUnavailable,
)
from proxy.guard.fingerprint import Level, fingerprint, is_other_browser, network
from proxy.guard.origin import BROWSER_FACTS_MISSING
from proxy.guard.presence import Presence
from proxy.guard.revocation import Revocations
from proxy.guard.risk import Rates, RiskSettings
from proxy.guard.subjects import ip_key
from proxy.model import Client, Mode, Session, Site
from proxy.store import Store
from proxy.telemetry import Metrics, audit

TICKET_SECONDS = 30
LASTING = frozenset({"events", "ticket", "ws"})  # routes of what may stay open for as long as a session lasts
# Routes whose client needs no session yet: it opens one, or has one named after it behind the guard (see `adopt`).
OPENING = frozenset({"session", "widget", "attach", "recall"})
# Routes whose client has shown that it began an execution, before the guard: that tells its session.
GOING_ON = frozenset({"waiting", "pressed"})
MAX_TOKEN_CHARS = 4096
# What every token of ours begins with, and nobody else's does (RFC 8725 section 3.11): {"typ":"sidegate+jwt", …}
TOKEN_HEADER = {"typ": "sidegate+jwt"}
TOKEN_BEGINS = jwt.encode({}, b"-" * 32, algorithm="HS256", headers=TOKEN_HEADER).partition(".")[0] + "."
MAX_VERIFIED = 4096
Kind = Literal["access", "refresh", "ticket", "cookie"]


def is_ours(token: str) -> bool:
    """Does it say that it is a token of ours? Whether that is true is Sessions' to judge."""
    return token.startswith(TOKEN_BEGINS)


class SessionSettings(Section):
    """Times in seconds."""

    key: Secret | None = None
    lifetime: Annotated[int, Field(ge=60, le=31_536_000)] = 86_400
    access_lifetime: Annotated[int, Field(ge=30, le=86_400)] = 900
    refresh_lifetime: Annotated[int, Field(ge=60, le=31_536_000)] = 604_800
    cookie: bool = False
    cookie_embedded: bool = False
    cookie_name: Annotated[str, Field(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}$")] = "chat_session_id"
    fingerprint: Level = "standard"
    max_per_site: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000
    max_per_owner: Annotated[int, Field(ge=1, le=1_000)] = 20
    risk: RiskSettings = RiskSettings()
    revocation_patience: Annotated[int, Field(ge=1, le=86_400)] = 300

    @property
    def longest(self) -> int:
        """Seconds after which no token of a session is good."""
        return max(self.lifetime, self.refresh_lifetime)


@dataclass(frozen=True, slots=True)
class Issued:
    """What `POST /v1/session` gives out. Never logged."""

    session: Session
    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    cookie: str
    cookie_expires_in: int


@dataclass(frozen=True, slots=True)
class _Verified:
    """What a token says whose signature was found good. Thousands are kept."""

    session: Session
    ends: float  # Unix time
    name: str  # its own one: `jti`


class Sessions:
    """Issues and verifies. `clock` gives Unix time. `forget` drops what is kept of a session besides."""

    def __init__(
        self,
        settings: SessionSettings,
        key: bytes,
        store: Store,
        revocations: Revocations,
        presence: Presence,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        forget: Callable[[Session], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._forget = forget
        self._key = hmac.new(key, b"sidegate session tokens", sha256).digest()
        self._print_key = hmac.new(key, b"sidegate fingerprints", sha256).digest()
        self._csrf_key = hmac.new(key, b"sidegate form posts", sha256).digest()
        self._visitor_key = hmac.new(key, b"sidegate sessions of visitors who name them", sha256).digest()
        self._owner_key = hmac.new(key, b"sidegate sessions of owners", sha256).digest()
        self._store = store
        self._revocations = revocations
        self._presence = presence
        self._metrics = metrics
        self._clock = clock
        self._openings = Rates(settings.risk.openings, 60.0, clock)
        # Signatures that were found good. Time, fingerprint and single use are judged each time.
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()  # by a digest of kind and token

    async def open(self, client: Client, site: Site) -> Issued:
        """A new session of this site for this client, and for whom its identity says.

        Raises what Presence.enter() does.
        """
        now = int(self._clock())
        identity = client.identity
        has_many = self._openings.count(ip_key(client.ip))
        session = Session(
            secrets.token_urlsafe(24), site.name, self.print_of(client), 0, identity.owner, identity.key, now, has_many
        )
        issued = self._issue(session, now)
        await self._presence.enter(issued.session, client)
        return issued

    def derive(self, client: Client, site: Site) -> Session:
        """The session of an owner who needs none opened: the same one for the same conversation, and nobody else's.

        It begins with the owner's token, so ending it, or all of its owner's, ends what tokens from before can do. What
        stays open ends with the token. An answer that was let in does not, nor what is kept for the next one: providers
        give tokens of a minute.
        """
        identity = client.identity
        name = f"{site.name}\0{client.conversation}\0{identity.owner}"  # no NUL is in the first two
        session_id = hmac.digest(self._owner_key, name.encode(), "sha256").hex()
        ends = self._clock() + self._settings.lifetime
        if client.route in LASTING:
            ends = min(identity.ends, ends)
        born = int(identity.born)
        session = Session(session_id, site.name, self.print_of(client), ends, identity.owner, identity.key, born)
        self._revocations.check(session)
        return session

    def adopt(self, client: Client, site: Site, name: str, secret: str = "") -> Session:
        """The session of a visitor who names it, and whose page can't keep a token: the same one for the same name from
        the same browser. `secret` is what that browser keeps; without it, its User-Agent, language and network say
        which it is. Whoever has the name alone gets another session.
        """
        identity = [site.name, client.identity.key, name, secret or self.browser(client)]
        session_id = hmac.digest(self._visitor_key, orjson.dumps(identity), "sha256").hex()
        ends = self._clock() + self._settings.lifetime
        session = Session(session_id, site.name, self.print_of(client), ends, "", client.identity.key)
        self._revocations.check(session)
        self._presence.seen(session, client)
        return session

    def browser(self, client: Client) -> str:
        """Which browser it is, as far as its User-Agent, language and network say."""
        level: Level = "standard"
        return f"{fingerprint(client, self._print_key, level).split('.')[0]} {network(client.ip)}"

    async def refresh(self, client: Client, token: str) -> Issued:
        """The next pair of tokens. A refresh token that comes a second time ends its session, and all that it has."""
        verified = self._verify(token, "refresh")
        session = verified.session
        await self._same_browser(client, session)
        _may_use(client, session)
        if session.site not in {site.name for site in client.sites}:
            raise SessionInvalid("the session belongs to a site that this page may not talk to")
        self._revocations.check(replace(session, ends=inf))  # it may be over, which is what refreshing is for
        left = session.born + self._settings.refresh_lifetime - self._clock()
        if not await self._store.add(f"refresh:{verified.name}", left):
            await self.end(session, "replay")
            raise SessionInvalid("this refresh token was used before")
        return self._issue(session, int(self._clock()))

    async def end(self, session: Session, reason: str) -> None:
        """End it and all its tokens, everywhere. Raises UpstreamUnavailable where the others could not be told."""
        event = "SESSION_ENDED" if reason == "visitor" else "SECURITY_ALERT"
        audit(event, reason=reason, step="end", site=session.site, session=session.id)
        self._metrics.sessions_ended.labels(session.site, reason).inc()
        try:
            await self._revocations.end(session)
        finally:
            await self._presence.leave(session)
            if self._forget is not None:
                await self._forget(session)

    def ticket(self, session: Session) -> str:
        now = int(self._clock())
        return self._sign("ticket", session, now, now + TICKET_SECONDS)

    def print_of(self, client: Client) -> str:
        return fingerprint(client, self._print_key, self._settings.fingerprint)

    def csrf(self, session: Session) -> str:
        """What a form post proves with that our page sent it; of this session and no other."""
        return hmac.digest(self._csrf_key, f"{session.site}\0{session.id}".encode(), "sha256").hex()

    async def verify(self, client: Client) -> Session:
        """The session behind the client's credential. Raises AuthRequired without one, SessionInvalid for a bad one."""
        if client.credential is None:
            raise AuthRequired("no credential")
        kinds: dict[str, Kind] = {"bearer": "access", "cookie": "cookie", "ticket": "ticket"}
        session = self._verify(client.credential.value, kinds[client.credential.kind]).session
        await self._same_browser(client, session)
        _may_use(client, session)
        self._revocations.check(session)
        return session

    def go_on(self, client: Client) -> Session:
        """The session that began an execution. Raises NotFound where none is shown, SessionInvalid for an ended one."""
        if client.session is None:
            raise NotFound("no execution that this browser began", public="This question is not open here.")
        self._revocations.check(client.session)
        return client.session

    async def redeem(self, client: Client) -> None:
        """Use up a ticket. Raises SessionInvalid when it was used before."""
        if client.credential is None or client.credential.kind != "ticket":
            return
        ticket = self._verify(client.credential.value, "ticket")
        if not await self._store.add(f"ticket:{ticket.name}", TICKET_SECONDS + 1):
            raise SessionInvalid("this ticket was used before")

    def _issue(self, session: Session, now: int) -> Issued:
        settings = self._settings
        family_ends = session.born + settings.refresh_lifetime
        ends = min(now + settings.lifetime, session.born + settings.longest)
        session = replace(session, ends=ends)
        access_ends = min(now + settings.access_lifetime, ends)
        return Issued(
            session=session,
            access_token=self._sign("access", session, now, access_ends),
            expires_in=access_ends - now,
            refresh_token=self._sign("refresh", session, now, family_ends),
            refresh_expires_in=family_ends - now,
            cookie=self._sign("cookie", session, now, int(ends)),
            cookie_expires_in=int(ends) - now,
        )

    def _sign(self, kind: Kind, session: Session, now: int, ends: int) -> str:
        claims: dict[str, object] = {
            "aud": f"sidegate/{kind}",
            "sid": session.id,
            "site": session.site,
            "fp": session.fingerprint,
            "iat": now,
            "exp": ends,
            "end": session.ends,
            "jti": secrets.token_urlsafe(12),
            "own": session.owner,
            "key": session.key,
            "born": session.born,
            "many": session.has_many,
        }
        return jwt.encode(claims, self._key, algorithm="HS256", headers=TOKEN_HEADER)

    def _verify(self, token: str, kind: Kind) -> _Verified:
        digest = sha256(f"{kind}\0{token}".encode("utf-8", "surrogatepass")).digest()
        verified = self._verified.get(digest)
        if verified is None:
            verified = self._verified[digest] = self._decode(token, kind)
            if len(self._verified) > MAX_VERIFIED:
                self._verified.popitem(last=False)
        if self._clock() >= verified.ends:
            raise SessionInvalid(f"{kind} token: expired")
        return verified

    def _decode(self, token: str, kind: Kind) -> _Verified:
        if not token:
            raise SessionInvalid("no token; or a cookie that came more than once")
        if len(token) > MAX_TOKEN_CHARS:
            raise TokenForged("the token is too long")
        try:
            claims: dict[str, str | int | float] = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                audience=f"sidegate/{kind}",
                # Time is judged below, by the clock that was handed in.
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "require": ["exp", "iat", "sid", "site", "fp", "jti", "own", "key", "born", "many"],
                },
            )
        except jwt.PyJWTError as error:
            raise TokenForged(f"{kind} token: {type(error).__name__}") from error
        return _Verified(_session(claims), float(claims["exp"]), str(claims["jti"]))

    async def _same_browser(self, client: Client, session: Session) -> None:
        """Raises TokenForged for another browser; where risks are enforced, the session ends as well."""
        if not is_other_browser(session.fingerprint, self.print_of(client), self._settings.fingerprint):
            return
        self._revocations.check(replace(session, ends=inf))  # of one that has ended there is nothing to tell
        if self._settings.risk.mode == "enforce":
            with suppress(UpstreamUnavailable):  # refused it is all the same
                await self.end(session, "browser")
        else:
            audit(
                "SECURITY_ALERT", reason="browser", step="refuse", site=session.site, session=session.id, ip=client.ip
            )
        raise TokenForged("the fingerprint differs from the one the session was opened with")


def _may_use(client: Client, session: Session) -> None:
    if client.needs_owner and not session.owner:
        raise OriginDenied(BROWSER_FACTS_MISSING)


def _session(claims: Mapping[str, str | int | float]) -> Session:
    said = {name: str(claims[name]) for name in ("sid", "site", "fp", "own", "key")}
    ends, born = float(claims["end"]), int(claims["born"])
    site = sys.intern(said["site"])  # there are few
    return Session(said["sid"], site, said["fp"], ends, said["own"], said["key"], born, bool(claims["many"]))


class SessionStage:
    """Every route but the opening of a session needs one, of a site that this page may talk to."""

    name = "session"
    mode: Mode = "enforce"

    def __init__(self, sessions: Sessions, presence: Presence) -> None:
        self._sessions = sessions
        self._presence = presence

    async def check(self, client: Client) -> Client:
        if client.route in OPENING or client.route == "refresh":
            if client.route in OPENING and client.site is None:
                raise BadRequest("the site is not clear", public="Name the site in the X-Sidegate-Site header.")
            return client
        if client.route in GOING_ON:
            session = self._sessions.go_on(client)
        else:
            session = client.session or await self._sessions.verify(client)
        site = next((site for site in client.sites if site.name == session.site), None)
        if site is None:
            raise SessionInvalid("the session belongs to a site that this page may not talk to")
        await self._sessions.redeem(client)
        self._presence.seen(session, client)
        return replace(client, session=session, site=site)
