"""The whole settings tree, each section defined beside what it configures."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field

from proxy.config import Secret, Section
from proxy.edge.ops import OpsSettings
from proxy.edge.read import ListenSettings
from proxy.filters import FilterSettings
from proxy.guard.budget import BudgetSettings
from proxy.guard.challenge import ChallengeSettings
from proxy.guard.connections import ConnectionSettings
from proxy.guard.content import ContentSettings
from proxy.guard.files import UploadSettings, offer
from proxy.guard.hooks import HookSettings, QueueSettings
from proxy.guard.keys import KeySettings
from proxy.guard.limits import DEFAULT_LIMITS, LimitSettings
from proxy.guard.reputation import ReputationSettings
from proxy.guard.session import SessionSettings
from proxy.sites import SiteSettings
from proxy.store.url import StoreSettings
from proxy.streams import DrainSettings, StreamSettings
from proxy.telemetry import AuditSettings, TelemetrySettings
from proxy.upstream import UpstreamSettings
from proxy.upstream.n8n import N8nSettings
from proxy.upstream.openai import OpenAiSettings
from proxy.upstream.signing import SigningSettings

S = TypeVar("S", bound=Section)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def random_secret() -> Secret:
    return Secret(secrets.token_urlsafe(48))


class Settings(Section):
    environment: Annotated[Literal["development", "production"], BeforeValidator(_lower)] = "production"
    debug: bool = False
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    listen: ListenSettings = ListenSettings()
    ops: OpsSettings = OpsSettings()
    store: StoreSettings = StoreSettings()
    session: SessionSettings = SessionSettings()
    signing: SigningSettings = Field(default_factory=lambda: SigningSettings(key=random_secret()))
    upstreams: dict[str, UpstreamSettings] = Field(default_factory=dict)
    sites: dict[str, SiteSettings] = Field(default_factory=dict)
    keys: KeySettings = KeySettings()
    limits: tuple[LimitSettings, ...] = DEFAULT_LIMITS
    connections: ConnectionSettings = ConnectionSettings()
    budgets: tuple[BudgetSettings, ...] = ()
    reputation: ReputationSettings = ReputationSettings()
    challenge: ChallengeSettings = ChallengeSettings()
    content: ContentSettings = ContentSettings()
    filters: FilterSettings = FilterSettings()
    streams: StreamSettings = StreamSettings()
    drain: DrainSettings = DrainSettings()
    hooks: dict[str, HookSettings] = Field(default_factory=dict)
    hook_queue: QueueSettings = QueueSettings()
    uploads: UploadSettings = UploadSettings()
    audit: AuditSettings = AuditSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    def site_limits(self, name: str) -> tuple[LimitSettings, ...]:
        return self.sites[name].limits or self.limits  # an empty list is no way to have none

    def site_budgets(self, name: str) -> tuple[BudgetSettings, ...]:
        own = self.sites[name].budgets
        return self.budgets if own is None else own

    def site_content(self, name: str) -> ContentSettings:
        return _overridden(self.content, self.sites[name].content)

    def site_streams(self, name: str) -> StreamSettings:
        return _overridden(self.streams, self.sites[name].streams)

    def longest_answer(self, name: str) -> float:
        """Seconds after which no answer of this site is still under way, whichever of its upstreams had been asked."""
        return sum(self.upstreams[upstream].longest for upstream in self.sites[name].weights)

    def relays(self) -> dict[str, N8nSettings]:
        """The upstreams that webhooks go to."""
        named = {name: self.upstreams[name] for name in {hook.upstream for hook in self.hooks.values()}}
        return {name: upstream for name, upstream in named.items() if isinstance(upstream, N8nSettings)}

    def sites_with_files(self) -> frozenset[str]:
        """Those whose upstreams all take files."""
        taking = {name for name, upstream in self.upstreams.items() if not isinstance(upstream, OpenAiSettings)}
        return frozenset(name for name, site in self.sites.items() if taking.issuperset(site.weights))

    def file_offers(self) -> dict[str, dict[str, object]]:
        """By site, what pages are told of the files that it takes."""
        return dict.fromkeys(self.sites_with_files() if self.uploads.max_files else (), offer(self.uploads))

    def site_filters(self, name: str) -> FilterSettings:
        return _overridden(self.filters, self.sites[name].filters)


def _overridden(general: S, own: S | None) -> S:
    """The general section with what the site's own one says, section by section."""
    written: dict[str, object] = {}
    for key in () if own is None else own.model_fields_set:
        value, before = getattr(own, key), getattr(general, key)
        are_sections = isinstance(value, Section) and type(value) is type(before)
        written[key] = _overridden(before, value) if are_sections else value
    return general.model_copy(update=written)


def json_schema() -> dict[str, object]:
    """For editors: what the file may hold. What only loading can judge is not in it."""
    schema = Settings.model_json_schema()
    schema["$defs"]["StoreSettings"]["properties"]["url"]["default"] = "memory:"  # no Secret shows its value
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "Sidegate"}
