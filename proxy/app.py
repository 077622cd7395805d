"""The composition root: settings -> parts -> listeners; start-up, drain, shutdown. No other module knows every part."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import uvloop
from aiohttp import web

from proxy import guard, upstream
from proxy.config import Secret
from proxy.edge.chat import ChatEdge
from proxy.edge.headers import Cors, security_headers
from proxy.edge.live import Live
from proxy.edge.ops import OpsEdge
from proxy.edge.pages import PageEdge
from proxy.edge.push import EventsEdge, Outlet, PushEdge
from proxy.edge.read import Reader
from proxy.edge.runner import make_runner
from proxy.edge.server import ops_app, public_app
from proxy.edge.session import SessionEdge
from proxy.edge.websocket import WebSocketEdge
from proxy.filters import chain_maker
from proxy.flow import Flow
from proxy.guard.origin import Host
from proxy.guard.push import Pushers
from proxy.guard.session import Sessions, SessionStage
from proxy.model import Request, Session, Site, Upstream
from proxy.settings import Settings
from proxy.store.failover import FailoverStore
from proxy.store.memory import MemoryStore
from proxy.store.url import open_store
from proxy.streams.answers import Answers
from proxy.streams.push import Address, MemoryChannels
from proxy.telemetry import Logs, Metrics, audit
from proxy.upstream.breaker import Breaker
from proxy.upstream.gossip import Gossip
from proxy.upstream.line import Line
from proxy.upstream.signing import Signer, owned_id
from proxy.upstream.slots import LineSettings, Slots

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0  # how long running answers may go on after SIGTERM
CUT_SECONDS = 2.0  # how long it may take to tell the rest
CIRCUIT_GAUGE = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: where it listens."""

    port: int
    ops_port: int
    live: Live


def run(settings: Settings, *, banner: str | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Blocks."""
    uvloop.run(_serve(settings, banner))


async def _serve(settings: Settings, banner: str | None) -> None:
    metrics = Metrics()
    logs = Logs(settings.telemetry, settings.audit, metrics)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with running(settings, metrics) as server:
            log.info("listening on port %d, ops on port %d", server.port, server.ops_port)
            if banner is not None:
                print(banner, flush=True)  # noqa: T201 - for the person who started it
            await stop.wait()  # a signal ends this
            log.info("draining")
    finally:
        if not logs.stop():
            os._exit(0)  # all is drained and closed; a log that nobody reads must not keep the process


@asynccontextmanager
async def running(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Running]:
    """Both listeners, from here on accepting, until the block is left; then drained."""
    metrics = metrics or Metrics()
    async with _parts(settings, metrics) as (public, ops, live, answers):
        base = security_headers(production=settings.environment == "production")
        runners = [
            make_runner(app, base_headers=lambda: base, header_timeout=settings.listen.header_timeout)
            for app in (public, ops)
        ]
        addresses = [(settings.listen.host, settings.listen.port), (settings.ops.host, settings.ops.port)]
        try:
            for runner, (address, port) in zip(runners, addresses, strict=True):
                await runner.setup()
                await web.TCPSite(runner, address, port, backlog=1024).start()
            yield Running(runners[0].addresses[0][1], runners[1].addresses[0][1], live)
        finally:
            await _drain(runners, live, answers)


async def _drain(runners: list[web.AppRunner], live: Live, answers: Answers) -> None:
    """Not ready, no new connections, running answers get their time, the rest are told."""
    live.draining = True
    for site in list(runners[0].sites):
        await site.stop()
    await answers.drain(DRAIN_SECONDS)
    live.cut()
    with suppress(TimeoutError):
        async with asyncio.timeout(CUT_SECONDS):
            await live.idle()
    for runner in runners:
        await runner.cleanup()


@asynccontextmanager
async def _parts(
    settings: Settings, metrics: Metrics
) -> AsyncIterator[tuple[web.Application, web.Application, Live, Answers]]:
    """Build every part, in the order of need; leaving closes them in the opposite one."""
    production = settings.environment == "production"
    session_key = _key(settings.session.key, "session.key")
    sites = {
        name: Site(
            name, frozenset(site.origins), next(iter(site.weights)), site.page, site.allow_credentials, site.weights
        )
        for name, site in settings.sites.items()
    }
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(_store(settings))
        signer = Signer(settings.signing, session_key)
        lines = {
            name: _line(name, section, await stack.enter_async_context(upstream.build(section, signer.owned)), metrics)
            for name, section in settings.upstreams.items()
        }
        if isinstance(store, FailoverStore) and store.circuits is not None:
            gossip = Gossip(store.circuits, {name: (line.breaker, line.patience) for name, line in lines.items()})
            gossip.start()
            stack.push_async_callback(gossip.close)
        sessions = Sessions(settings.session, session_key, store)
        session_stage = SessionStage(sessions)
        host = Host(settings.listen.allowed_hosts)
        flow = Flow(
            connect_stages=guard.connect_stages(
                sites, host=host, production=production, openings=settings.limits, session=session_stage, store=store
            ),
            message_stages=guard.message_stages(
                {name: settings.site_content(name) for name in sites},
                {name: settings.site_limits(name) for name in sites},
                store,
            ),
            signer=signer,
            upstreams=lines,
            chains={name: chain_maker(settings.site_filters(name)) for name in sites},
            metrics=metrics,
        )
        live = Live(metrics)
        channels = MemoryChannels()

        def announce(request: Request) -> None:
            address = Address(request.site.name, signer.owned(request))
            channels.announce(address, request.answer_id, settings.site_streams(request.site.name).journal_ttl)

        def owned(session: Session) -> str:
            return owned_id(session_key, session.site, session.id)

        answers = Answers({name: settings.site_streams(name) for name in sites}, announce)
        reader = Reader(settings.listen, settings.session.cookie_name)
        base = security_headers(production=production)
        public = public_app(
            chat=ChatEdge(flow, reader, answers, settings.streams, live),
            websocket=WebSocketEdge(
                flow,
                reader,
                answers,
                settings.streams,
                live,
                channels,
                owned,
                max_bytes=settings.listen.max_body_bytes,
            ),
            events=EventsEdge(flow, reader, channels, settings.streams, live, owned),
            session=SessionEdge(flow, reader, sessions, settings.session, metrics, secure=production),
            page=PageEdge(reader, host, sites),
            reader=reader,
            host=host,
            cors=Cors(sites.values()),
            base_headers=base,
            metrics=metrics,
        )
        ops = OpsEdge(
            settings.ops,
            settings.environment,
            store,
            live,
            metrics,
            redis=isinstance(store, FailoverStore),
            replicas=lambda: store.replicas if isinstance(store, FailoverStore) else 1,
            circuits=lambda: {name: line.breaker.state for name, line in lines.items()},
            sessions=session_stage.active,
        )
        push = PushEdge(
            Pushers(signer.claims, settings.ops.token, frozenset(sites), store),
            reader,
            channels,
            {name: _outlet(settings, name) for name in sites},
            metrics,
        )
        live.on_cut(channels.close)
        yield public, ops_app(ops, push, base, metrics), live, answers


def _outlet(settings: Settings, site: str) -> Outlet:
    filters = settings.site_filters(site)
    return Outlet(chain_maker(filters), filters.max_chars, settings.site_streams(site).journal_ttl)


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[MemoryStore | FailoverStore]:
    store = open_store(settings.store.url.reveal())
    await store.start()
    try:
        yield store
    finally:
        await store.close()


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
