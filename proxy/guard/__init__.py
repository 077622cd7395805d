"""Who and what may pass. The order below is part of the security argument: cheap and stateless first.

To add a stage, write its file and name its place here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from proxy.content.detect import shipped
from proxy.guard.auth import Auth, Standing
from proxy.guard.budget import Budget, BudgetSettings
from proxy.guard.challenge import Challenged, Challenges
from proxy.guard.content import Content, ContentSettings, Detectors
from proxy.guard.csrf import Csrf, UrlTokens
from proxy.guard.detectors import HttpDetector
from proxy.guard.failures import Failures, Watched
from proxy.guard.files import Files
from proxy.guard.hooks import HookSettings, Media, OfClient, Payload, Signature, Words
from proxy.guard.limits import Limits, LimitSettings, Openings
from proxy.guard.masking import Masking
from proxy.guard.origin import Host, Origin
from proxy.guard.prefetch import Prefetch
from proxy.guard.reputation import BlockList, Reputation, Repute
from proxy.guard.risk import Risk, RiskOfClient, RiskOfMessage
from proxy.guard.session import SessionStage
from proxy.guard.shape import Shape
from proxy.model import Client, Mode, Request, Site, Stage, Webhook
from proxy.store import Store
from proxy.store.desk import Desk


def connect_stages(
    sites: Mapping[str, Site],
    *,
    host: Host,
    production: bool,
    openings: Sequence[LimitSettings],
    auth: Auth,
    session: SessionStage,
    csrf: Csrf,
    standing: Standing,
    failures: Failures,
    reputation: Reputation,
    risk: Risk,
    store: Store,
) -> list[Stage[Client]]:
    """Once per HTTP request, once per WebSocket handshake."""
    return [
        host,
        Prefetch(),
        BlockList(reputation),
        Repute(reputation),
        UrlTokens(),
        Origin(sites, strict=production),
        Openings(openings, store),
        *(Watched(stage, failures) for stage in (auth, session, standing)),
        csrf,
        RiskOfClient(risk),
    ]


def message_stages(
    content: Mapping[str, ContentSettings],
    limits: Mapping[str, Sequence[LimitSettings]],
    store: Store,
    masking: Masking,
    risk: Risk,
    *,
    reputation: Reputation,
    challenges: Challenges,
    budgets: Mapping[str, Sequence[BudgetSettings]],
    max_chars: Mapping[str, int],
    desk: Desk,
    detectors: Mapping[str, Sequence[HttpDetector]],
    files: Files,
) -> list[Stage[Request]]:
    """Once per message. Only the stages that some site has something for."""
    modes: tuple[Mode, ...] = ("enforce", "observe")
    shapes = [Shape(content, mode) for mode in modes if any(one.mode == mode for one in content.values())]
    ruled = [mode for mode in modes if any(rule.mode == mode for rules in limits.values() for rule in rules)]
    contents = [
        Content(content, mode, shipped()) for mode in modes if any(one.mode == mode for one in content.values())
    ]
    spent = [mode for mode in modes if any(one.mode == mode for some in budgets.values() for one in some)]
    return [
        BlockList(reputation),
        Repute(reputation),
        RiskOfMessage(risk),
        Challenged(challenges),
        *shapes,
        *(Limits(limits, store, mode, reputation.trust) for mode in ruled),
        files,
        *contents,
        masking,
        *(Detectors(content, mode, detectors) for mode in modes if _asks(content, mode)),
        *(Budget(budgets, max_chars, desk, mode) for mode in spent),
    ]


def webhook_stages(
    hooks: Mapping[str, HookSettings], *, host: Host, reputation: Reputation, clock: Callable[[], float] = time.time
) -> list[Stage[Webhook]]:
    """Once per provider's webhook. What comes behind them waits: see courier.py."""
    senders: list[Stage[Client]] = [host, BlockList(reputation), Repute(reputation)]
    return [*map(OfClient, senders), Media(hooks), Signature(hooks, clock), Payload(), Words(shipped())]


def _asks(content: Mapping[str, ContentSettings], mode: Mode) -> bool:
    return any(one.mode == mode and one.detectors for one in content.values())
