"""Sliding-window limits: at most so many messages in any window, counted per address, session, key, site and more.

What it stops: floods from one address, one session or against one site, exactly, over all replicas that share a store.
What it doesn't: a flood from many addresses below the site's own limit, or expensive single messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from proxy.config import Section
from proxy.errors import RateLimited
from proxy.guard.subjects import SUBJECTS, Per, ip_key
from proxy.model import Client, Count, Mode, Request
from proxy.store import Hit, Store, Tier

OWN = frozenset({"ip", "session"})
OPENINGS = frozenset({"session", "refresh", "ticket", "ws", "events", "page", "recall", "upload", "attach", "waiting"})


class LimitSettings(Section):
    """At most `limit` messages in any `window` seconds, each `per` one. `burst` adds a token bucket of that size."""

    per: Per
    limit: Annotated[int, Field(ge=1, le=100_000)]
    window: Annotated[float, Field(gt=0, le=86_400)]
    burst: Annotated[int, Field(ge=0, le=100_000)] = 0
    mode: Mode = "enforce"

    @property
    def label(self) -> str:
        return f"{self.per}-{self.window:g}s"


DEFAULT_LIMITS = (
    LimitSettings(per="ip", limit=60, window=60),
    LimitSettings(per="ip", limit=1000, window=3600),
    LimitSettings(per="session", limit=30, window=60),
    LimitSettings(per="site", limit=1000, window=60),
    LimitSettings(per="api_key", limit=60, window=60),
)


class Limits:
    """Message limits of every site, all tiers in one store call, all or nothing."""

    name = "limits"

    def __init__(
        self,
        limits: Mapping[str, Sequence[LimitSettings]],
        store: Store,
        mode: Mode,
        trust: Callable[[Client], float] = lambda _: 1.0,
    ) -> None:
        self.mode = mode
        self._trust = trust
        prefix = "limit" if mode == "enforce" else "seen"
        self._limits = {
            site: [(rule, f"{site}/{prefix}:{rule.label}:") for rule in rules if rule.mode == mode]
            for site, rules in limits.items()
        }
        self._store = store

    async def check(self, request: Request) -> Request:
        rules = self._limits.get(request.site.name)
        if not rules:
            return request
        trust = self._trust(request.client)
        if trust < 1:  # of what is the client's own; what it shares with others is left as it is
            rules = [(_scaled(rule, trust) if rule.per in OWN else rule, name) for rule, name in rules]
        counted = [
            (rule, _tier(name + subject, rule))
            for rule, name in rules
            if (subject := SUBJECTS[rule.per](request)) is not None
        ]
        if not counted:
            return request
        counts = _judge([rule for rule, _ in counted], await self._store.hit([tier for _, tier in counted]))
        if self.mode == "observe":
            return request  # what isn't enforced is nothing to tell a client
        return replace(request, counts=request.counts + counts)


class Openings:
    """How often one address may open sessions, tickets and sockets, or begin to upload (known before a body is read):
    the `per: ip` limits, apart from messages.
    """

    name = "openings"
    mode: Mode = "enforce"

    def __init__(self, limits: Sequence[LimitSettings], store: Store) -> None:
        self._rules = [rule for rule in limits if rule.per == "ip" and rule.mode == "enforce"]
        self._store = store

    async def check(self, client: Client) -> Client:
        if client.route not in OPENINGS or not self._rules:
            return client
        ip = ip_key(client.ip)
        tiers = [_tier(f"{ip}/open:{rule.label}", rule) for rule in self._rules]
        _judge(self._rules, await self._store.hit(tiers))
        return client


def _scaled(rule: LimitSettings, trust: float) -> LimitSettings:
    return rule.model_copy(
        update={"limit": max(1, int(rule.limit * trust)), "burst": max(1, int(rule.burst * trust)) if rule.burst else 0}
    )


def _tier(key: str, rule: LimitSettings) -> Tier:
    return Tier(key, rule.limit, rule.window, rule.burst)


def _judge(rules: Sequence[LimitSettings], hits: Sequence[Hit]) -> tuple[Count, ...]:
    counts = tuple(
        Count(rule.label, rule.limit, rule.window, hit.remaining, hit.retry_after or hit.reset)
        for rule, hit in zip(rules, hits, strict=True)
    )
    wait = max(hit.retry_after for hit in hits)
    if wait > 0:
        refused = [rule.label for rule, hit in zip(rules, hits, strict=True) if hit.retry_after > 0]
        raise RateLimited(f"over {', '.join(refused)}", retry_after=wait, headers=headers(counts))
    return counts


def headers(counts: Sequence[Count]) -> dict[str, str]:
    """How the limits show over HTTP: the de-facto X-RateLimit fields for the tightest tier, and the IETF ones.

    Source: draft-ietf-httpapi-ratelimit-headers-11. Seconds are rounded up, so that waiting that long succeeds.
    """
    if not counts:
        return {}
    tightest = min(counts, key=lambda count: (count.remaining, -count.reset))
    policy = ", ".join(f'"{count.name}";q={count.limit};w={math.ceil(count.window)}' for count in counts)
    return {
        "X-RateLimit-Limit": str(tightest.limit),
        "X-RateLimit-Remaining": str(tightest.remaining),
        "X-RateLimit-Reset": str(math.ceil(tightest.reset)),
        "RateLimit-Policy": policy,
        "RateLimit": f'"{tightest.name}";r={tightest.remaining};t={math.ceil(tightest.reset)}',
    }
