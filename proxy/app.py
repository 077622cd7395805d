"""The composition root: settings -> parts -> listeners; start-up, drain, shutdown. No other module knows every part."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import uvloop
from aiohttp import web

from proxy import guard, upstream
from proxy.config import Secret
from proxy.control import Channel, Say, WorkerEnd, unsealed
from proxy.edge.chat import ChatEdge
from proxy.edge.headers import Cors, security_headers
from proxy.edge.live import Live
from proxy.edge.ops import Gather, OpsEdge, alone
from proxy.edge.pages import PageEdge
from proxy.edge.push import EventsEdge, Outlet, PushEdge
from proxy.edge.read import Reader
from proxy.edge.runner import Runner, make_runner
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
from proxy.streams.journal import Journal
from proxy.streams.push import Address, MemoryChannels
from proxy.streams.seal import Sealer
from proxy.streams.shared import SharedChannels
from proxy.telemetry import Logs, Metrics, audit
from proxy.totals import Report
from proxy.upstream.breaker import Breaker
from proxy.upstream.gossip import Gossip
from proxy.upstream.line import Line
from proxy.upstream.signing import Signer, owned_id
from proxy.upstream.slots import LineSettings, Slots

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0  # then running answers may go on for so long
CUT_SECONDS = 2.0  # how long it may take to tell the rest
BACKLOG = 1024
CIRCUIT_GAUGE = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


@dataclass(frozen=True, slots=True)
class Grace:
    """Seconds that a drain begins with. Who has no connections left doesn't wait for the second."""

    accepting: float = 0.0  # so that whoever asks /readyz knows before the listener closes
    idle: float = 0.0  # connections without a request are read, so that what is on its way is answered


GRACE = Grace(accepting=0.5, idle=5.0)


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: where it listens, and what it counts."""

    port: int
    ops_port: int
    live: Live
    report: Callable[[], Awaitable[Report]]


def work(control: str, public: str, ops: str) -> None:
    """The whole life of a worker process, on file descriptors that it inherited. See workers.py."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the supervisor hears them, and tells us
    uvloop.run(_work(_sockets(control)[0], [_sockets(public), _sockets(ops)]))


def _sockets(numbers: str) -> list[socket.socket]:
    return [socket.socket(fileno=int(number)) for number in numbers.split(",")]


async def _work(control: socket.socket, listeners: list[list[socket.socket]]) -> None:
    channel = await Channel.over(control)
    first = await channel.hear()
    if first is None or first[0] is not Say.SETTINGS or not isinstance(settings := unsealed(first[1]), Settings):
        return  # the supervisor went away meanwhile
    metrics = Metrics()
    logs = Logs(settings.telemetry, settings.audit, metrics)
    end = WorkerEnd(channel)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.leave.set)
    try:
        async with asyncio.TaskGroup() as tasks:
            async with running(settings, metrics, listeners=listeners, gather=end.gather, grace=GRACE) as server:
                listening = tasks.create_task(end.listen(server.report))
                end.ready()
                _relieve_collector()
                await end.leave.wait()  # the supervisor, its end, or a signal ends this
                server.live.is_replaced = end.is_replaced
                log.info("draining")
            listening.cancel()
        await end.goodbye(await server.report())
    finally:
        _finish(logs)


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
            _relieve_collector()
            if banner is not None:
                print(banner, flush=True)  # noqa: T201 - for the person who started it
            await stop.wait()  # a signal ends this
            log.info("draining")
    finally:
        _finish(logs)


def _finish(logs: Logs) -> None:
    """All is drained and closed: a log that nobody reads must not keep the process."""
    if not logs.stop():
        os._exit(0)


def _relieve_collector() -> None:
    """What a server is made of stays until it ends: the garbage collector need not look at it again and again.

    Kept answers make many objects and hardly a cycle, so the young ones are looked at less often, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@asynccontextmanager
async def running(
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    listeners: list[list[socket.socket]] | None = None,
    gather: Gather = alone,
    grace: Grace = Grace(),
) -> AsyncIterator[Running]:
    """Both listeners, from here on accepting, until the block is left; then drained.

    `listeners`: sockets of the public and the ops listener; without them they are bound here. `gather`: what other
    workers count.
    """
    metrics = metrics or Metrics()
    async with _parts(settings, metrics, gather) as (public, ops, live, answers, report):
        base = security_headers(production=settings.environment == "production")
        runners = [
            make_runner(
                app,
                base_headers=lambda: base,
                header_timeout=settings.listen.header_timeout,
                shutdown_timeout=CUT_SECONDS,
            )
            for app in (public, ops)
        ]
        addresses = [(settings.listen.host, settings.listen.port), (settings.ops.host, settings.ops.port)]
        try:
            for at, (runner, (address, port)) in enumerate(zip(runners, addresses, strict=True)):
                await runner.setup()
                if listeners is None:
                    await web.TCPSite(runner, address, port, backlog=BACKLOG).start()
                else:
                    for listener in listeners[at]:
                        await web.SockSite(runner, listener, backlog=BACKLOG).start()
            yield Running(runners[0].addresses[0][1], runners[1].addresses[0][1], live, report)
        finally:
            if all(runner.server is not None for runner in runners):
                await _drain(runners, live, answers, grace)


async def _drain(runners: list[Runner], live: Live, answers: Answers, grace: Grace) -> None:
    """Not ready, no new connections, what is on its way is answered, running answers get their time, the rest are told.

    Where another worker takes over, we leave the ops listener at once: whoever asks there asks for the whole server.
    """
    live.draining = not live.is_replaced
    public, ops = runners
    for runner in runners:
        runner.leave()
    if live.is_replaced:
        await ops.stop_accepting()
    await asyncio.sleep(grace.accepting)
    await public.stop_accepting()
    await public.is_empty(grace.idle - grace.accepting)
    public.close_idle()
    await answers.drain(DRAIN_SECONDS)
    live.cut()
    with suppress(TimeoutError):
        async with asyncio.timeout(CUT_SECONDS):
            await live.idle()
    for runner in runners:
        await runner.cleanup()


@asynccontextmanager
async def _parts(
    settings: Settings, metrics: Metrics, gather: Gather
) -> AsyncIterator[tuple[web.Application, web.Application, Live, Answers, Callable[[], Awaitable[Report]]]]:
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
        channels = await stack.enter_async_context(_channels(settings, session_key, store))

        def announce(request: Request) -> None:
            address = Address(request.site.name, signer.owned(request))
            channels.announce(address, request.answer_id, settings.site_streams(request.site.name).journal_ttl)

        def owned(session: Session) -> str:
            return owned_id(session_key, session.site, session.id)

        journal = await stack.enter_async_context(_journal(settings, session_key, store, metrics))
        answers = Answers({name: settings.site_streams(name) for name in sites}, announce, journal)
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
            gather=gather,
        )
        push = PushEdge(
            Pushers(signer.claims, settings.ops.token, frozenset(sites), store),
            reader,
            channels,
            {name: _outlet(settings, name) for name in sites},
            metrics,
        )
        live.on_cut(channels.close)
        yield public, ops_app(ops, push, base, metrics), live, answers, ops.report


@asynccontextmanager
async def _channels(
    settings: Settings, session_key: bytes, store: MemoryStore | FailoverStore
) -> AsyncIterator[MemoryChannels | SharedChannels]:
    if not isinstance(store, FailoverStore) or store.posts is None:
        yield MemoryChannels()
        return
    ttl = {name: settings.site_streams(name).journal_ttl for name in settings.sites}
    channels = SharedChannels(store.posts, _sealer(settings, session_key), ttl)
    channels.start()
    try:
        yield channels
    finally:
        await channels.end()


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


@asynccontextmanager
async def _journal(
    settings: Settings, session_key: bytes, store: MemoryStore | FailoverStore, metrics: Metrics
) -> AsyncIterator[Journal | None]:
    """Nothing where the store is this process's own: nobody else could read it."""
    if not isinstance(store, FailoverStore) or store.journals is None:
        yield None
        return
    journal = Journal(store.journals, _sealer(settings, session_key), metrics.answers_interrupted.inc)
    journal.start()
    try:
        yield journal
    finally:
        await journal.close()


def _sealer(settings: Settings, session_key: bytes) -> Sealer:
    key = settings.store.encryption_key
    return Sealer(session_key if key is None else key.reveal().encode())


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
