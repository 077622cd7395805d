"""What is opened before the first request and closed after the last: the store, what is kept in it, the upstreams."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from proxy import upstream
from proxy.config import Secret
from proxy.content.vault import Safe
from proxy.guard.customer_token import JwtSettings
from proxy.guard.detectors import HttpDetector
from proxy.guard.jwks import KeySource, RemoteKeys, StaticKey
from proxy.guard.masking import Keeper
from proxy.guard.presence import Presence
from proxy.guard.reputation import Reputation, ReputationSettings
from proxy.guard.revocation import Revocations
from proxy.model import Session, Upstream
from proxy.settings import Settings
from proxy.store import Jobs, SessionList
from proxy.store.desk import Desk
from proxy.store.failover import FailoverStore
from proxy.store.jobs import MemoryJobs
from proxy.store.ledger import MemoryLedger
from proxy.store.memory import MemoryStore
from proxy.store.opening import open_store
from proxy.store.reputation import MemoryReputations
from proxy.store.sessions import MemorySessions
from proxy.store.vaults import MemoryVaults
from proxy.streams.claims import Claims
from proxy.streams.journal import Journal
from proxy.streams.push import MemoryChannels
from proxy.streams.seal import Sealer
from proxy.streams.shared import SharedChannels
from proxy.telemetry import Metrics, audit
from proxy.upstream.breaker import Breaker
from proxy.upstream.gossip import Gossip
from proxy.upstream.line import Line
from proxy.upstream.relay import Relay, open_relays
from proxy.upstream.signing import Signer, owned_id
from proxy.upstream.slots import LineSettings, Slots

log = logging.getLogger(__name__)

CIRCUIT_GAUGE = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


@dataclass(frozen=True, slots=True)
class Resources:
    """All of them, open. `session_key` is the one key that sessions and everything kept for them hang on."""

    session_key: bytes
    store: MemoryStore | FailoverStore
    signer: Signer
    lines: dict[str, Line]
    channels: MemoryChannels | SharedChannels
    journal: Journal | None
    desk: Desk
    reputation: Reputation
    claims: Claims
    revocations: Revocations
    customer_keys: KeySource | None
    keeper: Keeper
    presence: Presence
    detectors: dict[str, list[HttpDetector]]
    relays: dict[str, Relay]
    jobs: Jobs
    sealer: Sealer

    def owned(self, session: Session) -> str:
        return owned_id(self.session_key, session.site, session.id, session.owner)

    async def forget(self, session: Session) -> None:
        """What its placeholders stand for."""
        await self.keeper.forget(session.site, self.owned(session))


@asynccontextmanager
async def opened(settings: Settings, metrics: Metrics) -> AsyncIterator[Resources]:
    """Open them in the order of need; leaving closes them in the opposite one."""
    session_key = _key(settings.session.key, "session.key")
    signer = Signer(settings.signing, session_key)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(_store(settings))
        lines = {
            name: _line(name, section, await stack.enter_async_context(upstream.build(section, signer.owned)), metrics)
            for name, section in settings.upstreams.items()
        }
        if isinstance(store, FailoverStore) and store.circuits is not None:
            gossip = Gossip(store.circuits, {name: (line.breaker, line.patience) for name, line in lines.items()})
            gossip.start()
            stack.push_async_callback(gossip.close)
        sealer = _sealer(settings, session_key)
        channels = await stack.enter_async_context(_channels(settings, sealer, store))
        journal = await stack.enter_async_context(_journal(sealer, store, metrics))
        kept = {
            name: settings.site_streams(name).journal_ttl + settings.longest_answer(name) for name in settings.sites
        }
        claims = Claims(store, sealer, kept)
        revocations = await stack.enter_async_context(_revocations(settings, session_key, store))
        desk = await stack.enter_async_context(_desk(store))
        reputation = await stack.enter_async_context(_reputation(settings.reputation, store))
        presence = await stack.enter_async_context(_presence(settings, session_key, store, revocations))
        keys = await stack.enter_async_context(_customer_keys(settings.keys.jwt, metrics))
        keeper = _keeper(settings, session_key, store)
        detectors = await stack.enter_async_context(_detectors(settings))
        relays = await stack.enter_async_context(open_relays(settings.relays()))
        yield Resources(
            session_key=session_key, store=store, signer=signer, lines=lines, channels=channels, journal=journal,
            desk=desk, reputation=reputation, claims=claims, revocations=revocations, customer_keys=keys, keeper=keeper,
            presence=presence, detectors=detectors, relays=relays, jobs=_jobs(store), sealer=sealer,
        )  # fmt: skip


@asynccontextmanager
async def _reputation(settings: ReputationSettings, store: MemoryStore | FailoverStore) -> AsyncIterator[Reputation]:
    shared = store.reputations if isinstance(store, FailoverStore) else None
    reputation = Reputation(settings, MemoryReputations(), shared)
    reputation.start()
    try:
        yield reputation
    finally:
        await reputation.close()


@asynccontextmanager
async def _desk(store: MemoryStore | FailoverStore) -> AsyncIterator[Desk]:
    if isinstance(store, FailoverStore):
        desk = Desk(MemoryLedger(), store.ledger, store.share, store.fail)
        store.on_loss(desk.recall)
    else:
        desk = Desk(MemoryLedger())
    desk.start()
    try:
        yield desk
    finally:
        await desk.close()


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[MemoryStore | FailoverStore]:
    store = open_store(settings.store.url.reveal())
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _channels(
    settings: Settings, sealer: Sealer, store: MemoryStore | FailoverStore
) -> AsyncIterator[MemoryChannels | SharedChannels]:
    if not isinstance(store, FailoverStore) or store.posts is None:
        yield MemoryChannels()
        return
    ttl = {name: settings.site_streams(name).journal_ttl for name in settings.sites}
    channels = SharedChannels(store.posts, sealer, ttl)
    channels.start()
    try:
        yield channels
    finally:
        await channels.end()


@asynccontextmanager
async def _journal(
    sealer: Sealer, store: MemoryStore | FailoverStore, metrics: Metrics
) -> AsyncIterator[Journal | None]:
    """Nothing where the store is this process's own: nobody else could read it."""
    if not isinstance(store, FailoverStore) or store.journals is None:
        yield None
        return
    journal = Journal(store.journals, sealer, metrics.answers_interrupted.inc)
    journal.start()
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def _revocations(
    settings: Settings, session_key: bytes, store: MemoryStore | FailoverStore
) -> AsyncIterator[Revocations]:
    shared = store.revocations if isinstance(store, FailoverStore) else None
    session = settings.session
    revocations = Revocations(session_key, session.longest, shared, session.revocation_patience)
    await revocations.start()
    try:
        yield revocations
    finally:
        await revocations.close()


@asynccontextmanager
async def _detectors(settings: Settings) -> AsyncIterator[dict[str, list[HttpDetector]]]:
    """Those of the sites that have any, over one pool of connections."""
    written = {name: settings.site_content(name).detectors for name in settings.sites}
    if not any(written.values()):
        yield {}
        return
    # No cookies: nothing of one message may travel with another.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as http:
        yield {name: [HttpDetector(each, http) for each in detectors] for name, detectors in written.items()}


@asynccontextmanager
async def _customer_keys(settings: JwtSettings, metrics: Metrics) -> AsyncIterator[KeySource | None]:
    """What the customers' tokens are checked with; nothing where none are accepted."""
    if settings.jwks_url is None:
        key = settings.static_key()
        yield None if key is None else StaticKey(key)
        return
    keys = RemoteKeys(settings.jwks_url, settings.algorithms, lambda outcome: metrics.key_sets.labels(outcome).inc())
    try:
        yield keys
    finally:
        await keys.close()


def _keeper(settings: Settings, session_key: bytes, store: MemoryStore | FailoverStore) -> Keeper:
    shared = store.vaults if isinstance(store, FailoverStore) else None
    return Keeper(shared or MemoryVaults(), Safe(_encryption_key(settings, session_key)), store)


@asynccontextmanager
async def _presence(
    settings: Settings, session_key: bytes, store: MemoryStore | FailoverStore, revocations: Revocations
) -> AsyncIterator[Presence]:
    sessions: SessionList = MemorySessions()
    if isinstance(store, FailoverStore) and store.sessions is not None:
        sessions = store.sessions
    session, secret = settings.session, _encryption_key(settings, session_key)
    presence = Presence(sessions, revocations, secret, session.max_per_site, session.max_per_owner)
    presence.start()
    try:
        yield presence
    finally:
        await presence.close()


def _jobs(store: MemoryStore | FailoverStore) -> Jobs:
    shared = store.jobs if isinstance(store, FailoverStore) else None
    return shared or MemoryJobs()


def _sealer(settings: Settings, session_key: bytes) -> Sealer:
    return Sealer(_encryption_key(settings, session_key))


def _encryption_key(settings: Settings, session_key: bytes) -> bytes:
    key = settings.store.encryption_key
    return session_key if key is None else key.reveal().encode()


def _line(name: str, settings: LineSettings, answers: Upstream, metrics: Metrics) -> Line:
    slots = Slots(name, settings.max_concurrent, settings.max_waiting, settings.patience)

    def changed(_: str, state: str) -> None:
        metrics.breaker_open.labels(name).set(CIRCUIT_GAUGE[state])
        audit("CIRCUIT", upstream=name, state=state)
        if state == "open":
            slots.dismiss(f"the circuit of {name} opened")

    metrics.breaker_open.labels(name).set(0)
    metrics.upstream_active.labels(name).set_function(lambda: slots.active)
    metrics.upstream_waiting.labels(name).set_function(lambda: slots.waiting)
    return Line(answers, Breaker(name, settings.breaker, on_change=changed), slots, settings.fallback)


def _key(secret: Secret | None, path: str) -> bytes:
    """The configured key; in development, where it may be missing, one that lasts as long as this process."""
    if secret is not None:
        return secret.reveal().encode()
    log.warning("%s is not set: a random one is used until this process ends", path)
    return secrets.token_bytes(32)
