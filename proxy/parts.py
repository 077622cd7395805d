"""Settings and open resources -> the guard, the flow and the edges: both applications, ready to be served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxy import guard, hooks
from proxy.content.pii import find
from proxy.edge.admin import AdminEdge
from proxy.edge.begun import Beginnings
from proxy.edge.chat import ChatEdge
from proxy.edge.embed import EmbedEdge
from proxy.edge.headers import Cors, security_headers
from proxy.edge.heartbeat import Heartbeats
from proxy.edge.hooks import HooksEdge
from proxy.edge.live import Live
from proxy.edge.memory import Memory
from proxy.edge.openai import OpenAiEdge
from proxy.edge.ops import Gather, OpsEdge
from proxy.edge.pages import PageEdge
from proxy.edge.push import EventsEdge, Outlet, PushEdge
from proxy.edge.read import Reader
from proxy.edge.server import Application, ops_app, public_app
from proxy.edge.session import SessionEdge
from proxy.edge.sse import Pings
from proxy.edge.uploads import Uploads
from proxy.edge.waiting import Means, WaitingEdge
from proxy.edge.websocket import WebSocketEdge
from proxy.edge.widget import WidgetEdge
from proxy.filters import chain_maker
from proxy.flow import Flow
from proxy.guard.auth import Auth, Standing
from proxy.guard.challenge import Challenges
from proxy.guard.connections import Connections
from proxy.guard.csrf import Csrf
from proxy.guard.customer_token import CustomerTokens
from proxy.guard.failures import Failures
from proxy.guard.files import Files
from proxy.guard.keys import Keys
from proxy.guard.masking import Masking
from proxy.guard.origin import Host
from proxy.guard.push import Pushers
from proxy.guard.risk import Risk
from proxy.guard.session import Sessions, SessionStage
from proxy.model import Request, Site
from proxy.resources import Resources, opened
from proxy.settings import Settings
from proxy.store.failover import FailoverStore
from proxy.streams.answers import Answers
from proxy.streams.cache import Cache
from proxy.streams.executions import Executions
from proxy.streams.push import Address
from proxy.telemetry import Metrics
from proxy.totals import Report


@dataclass(frozen=True, slots=True)
class Parts:
    """What is served, and what a drain must know of."""

    public: Application
    ops: Application
    live: Live
    answers: Answers
    report: Callable[[], Awaitable[Report]]


@asynccontextmanager
async def built(settings: Settings, metrics: Metrics, gather: Gather) -> AsyncIterator[Parts]:
    """Build every part, in the order of need; leaving closes what they hold."""
    async with opened(settings, metrics) as resources, hooks.post(settings, resources, metrics) as post:
        yield _parts(settings, metrics, gather, resources, post)


def _parts(settings: Settings, metrics: Metrics, gather: Gather, resources: Resources, post: hooks.Post) -> Parts:
    production = settings.environment == "production"
    base = security_headers(production=production)
    store, signer, channels = resources.store, resources.signer, resources.channels
    sites = _sites(settings)
    host = Host(settings.listen.allowed_hosts)
    reader = Reader(settings.listen, settings.session.cookie_name)
    live = Live(metrics)
    connections = Connections(settings.connections, resources.desk, metrics)
    sessions = Sessions(
        settings.session,
        resources.session_key,
        store,
        resources.revocations,
        resources.presence,
        metrics,
        forget=resources.forget,
    )
    session_stage = SessionStage(sessions, resources.presence)
    keys = Keys(settings.keys.api, {name: site.embed_keys for name, site in settings.sites.items()})
    tokens = None if resources.customer_keys is None else CustomerTokens(settings.keys.jwt, resources.customer_keys)
    failures = Failures(settings.keys.failures, store, metrics)
    trust = resources.reputation.trust
    challenges = Challenges(settings.challenge, resources.session_key, store, trust, metrics)
    risk = Risk(settings.session.risk, sessions.print_of, sessions.end, challenges, metrics)
    flow = Flow(
        connect_stages=guard.connect_stages(
            sites,
            host=host,
            production=production,
            openings=settings.limits,
            auth=Auth(keys, tokens, sessions),
            session=session_stage,
            csrf=Csrf(sessions.csrf),
            standing=Standing(keys),
            failures=failures,
            risk=risk,
            reputation=resources.reputation,
            store=store,
        ),
        message_stages=guard.message_stages(
            {name: settings.site_content(name) for name in sites},
            {name: settings.site_limits(name) for name in sites},
            store,
            Masking({name: settings.site_content(name).pii for name in sites}, resources.keeper, resources.owned),
            risk,
            reputation=resources.reputation,
            challenges=challenges,
            budgets={name: settings.site_budgets(name) for name in sites},
            max_chars={name: settings.site_filters(name).max_chars for name in sites},
            desk=resources.desk,
            detectors=resources.detectors,
            files=Files(settings.uploads, metrics),
        ),
        signer=signer,
        upstreams=resources.lines,
        chains={name: chain_maker(settings.site_filters(name)) for name in sites},
        caches=_caches(settings, resources),
        denied=(resources.reputation.denied, challenges.denied),
        webhook_stages=guard.webhook_stages(settings.hooks, host=host, reputation=resources.reputation),
        courier=post.courier,
        metrics=metrics,
    )
    answers = _answers(settings, resources, metrics)
    uploads = Uploads(settings.uploads, settings.sites_with_files(), settings.listen.max_body_bytes, metrics)
    executions = Executions(resources.sealer)
    beginnings = Beginnings(executions, sessions, reader)
    resources.revocations.on_change(lambda: answers.expel(resources.revocations.is_revoked))
    public = public_app(
        chat=ChatEdge(flow, reader, answers, settings.streams, live, connections, uploads),
        websocket=WebSocketEdge(
            flow,
            reader,
            answers,
            settings.streams,
            live,
            connections,
            channels,
            resources.owned,
            resources.revocations,
            max_bytes=settings.listen.max_body_bytes,
        ),
        events=EventsEdge(
            flow, reader, channels, settings.streams, live, connections, resources.owned, resources.revocations
        ),
        completions=OpenAiEdge(
            flow,
            reader,
            answers,
            sessions,
            {name: site.completions for name, site in settings.sites.items()},
            Pings(settings.streams.heartbeat),
            live,
        ),
        chats=WidgetEdge(
            flow,
            reader,
            answers,
            sessions,
            Memory(flow, resources.keeper, resources.owned),
            Pings(settings.streams.heartbeat),
            live,
            uploads,
            settings.session.lifetime,
            beginnings,
        ),
        questions=WaitingEdge(
            Means(
                flow=flow,
                executions=executions,
                keeper=resources.keeper,
                owned=resources.owned,
                revocations=resources.revocations,
            ),
            beginnings,
            Heartbeats(settings.streams.heartbeat),
            live,
            connections,
            max_bytes=settings.listen.max_body_bytes,
        ),
        session=SessionEdge(
            flow, reader, sessions, failures, settings.session, metrics, settings.file_offers(), secure=production
        ),
        page=PageEdge(reader, host, sites),
        hooks=HooksEdge(flow, reader, host, settings.hooks, settings.listen.body_timeout, metrics),
        embed=EmbedEdge(reader, host),
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
        circuits=lambda: {name: line.breaker.state for name, line in resources.lines.items()},
        sessions=resources.presence.active,
        gather=gather,
    )
    push = PushEdge(
        Pushers(signer.claims, settings.ops.token, frozenset(sites), store),
        reader,
        channels,
        {name: _outlet(settings, name) for name in sites},
        resources.keeper,
        metrics,
    )
    admin = AdminEdge(
        settings.ops.token, frozenset(sites), resources.revocations, resources.presence, resources.reputation,
        post.dispatch, metrics,
    )  # fmt: skip
    live.on_cut(channels.close)
    return Parts(public, ops_app(ops, push, admin, base, metrics), live, answers, ops.report)


def _sites(settings: Settings) -> dict[str, Site]:
    return {
        name: Site(
            name,
            frozenset(site.origins),
            next(iter(site.weights)),
            site.page,
            site.allow_credentials,
            site.weights,
            frozenset(site.auth),
            settings.site_filters(name).is_whole,
        )
        for name, site in settings.sites.items()
    }


def _caches(settings: Settings, resources: Resources) -> dict[str, Cache]:
    async def is_first(request: Request) -> bool:
        ends = settings.session.lifetime + settings.session.refresh_lifetime
        return await resources.store.add(f"spoke:{resources.signer.owned(request)}", ends)

    def is_personal(text: str) -> bool:
        return bool(find(text))

    return {name: Cache(site.cache, is_first, is_personal) for name, site in settings.sites.items() if site.cache}


def _answers(settings: Settings, resources: Resources, metrics: Metrics) -> Answers:
    streams = {name: settings.site_streams(name) for name in settings.sites}

    def announce(request: Request) -> None:
        address = Address(request.site.name, resources.signer.owned(request))
        resources.channels.announce(address, request.answer_id, streams[request.site.name].journal_ttl)

    def avoided(reason: str) -> None:
        metrics.avoided.labels(reason).inc()

    return Answers(streams, resources.claims, announce, avoided, resources.journal)


def _outlet(settings: Settings, site: str) -> Outlet:
    filters = settings.site_filters(site)
    return Outlet(chain_maker(filters), filters.max_chars, settings.site_streams(site).journal_ttl)
