"""The whole settings tree, each section defined beside what it configures; and what sections can't judge alone."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field

from proxy.config import A_SECRET, ConfigError, Place, Problem, Secret, Section, Tree, environment, read_tree, unknown
from proxy.credentials import findings
from proxy.edge.ops import OpsSettings
from proxy.edge.read import ListenSettings
from proxy.filters import FilterSettings
from proxy.guard.budget import BudgetSettings
from proxy.guard.challenge import ChallengeSettings
from proxy.guard.connections import ConnectionSettings
from proxy.guard.content import ContentSettings
from proxy.guard.files import UploadSettings
from proxy.guard.hooks import HookSettings
from proxy.guard.keys import KeySettings
from proxy.guard.limits import DEFAULT_LIMITS, LimitSettings
from proxy.guard.reputation import ReputationSettings
from proxy.guard.session import SessionSettings
from proxy.loading import Rules, apply_environment, validate
from proxy.sites import SiteSettings
from proxy.store.url import StoreSettings, parse_url
from proxy.streams import DrainSettings, StreamSettings
from proxy.telemetry import AuditSettings, TelemetrySettings
from proxy.upstream import UpstreamSettings
from proxy.upstream.echo import EchoSettings
from proxy.upstream.headers import HeaderAuth
from proxy.upstream.n8n import N8nSettings
from proxy.upstream.openai import OpenAiSettings
from proxy.upstream.signing import SigningSettings
from proxy.variables import apply_variables, near_misses
from proxy.weak import suspicion, weakness

RULES = Rules(
    plain=("store.url",),
    planned=(
        "telemetry.traces",
    )
)  # fmt: skip
MAKE_KEY = "`openssl rand -base64 48`"
S = TypeVar("S", bound=Section)
W = TypeVar("W", SiteSettings, HookSettings)
NOT_A_NAME = "not a name; write small letters, digits, - and _, at most 64, none of - and _ in front"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


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


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that can be used, and what their owner should know about them."""

    settings: Settings
    warnings: tuple[Problem, ...]


def load(path: Path | None, env: Mapping[str, str] | None = None, spare: dict[Place, Secret] | None = None) -> Loaded:
    """Read the file, if any, and the environment. Raises ConfigError with all that is wrong in both.

    `spare` keeps the keys that had to be made up: whoever loads again with it gets the same ones.
    """
    env = environment() if env is None else env
    tree = read_tree(path)
    apply_variables(tree, Settings, env)
    apply_environment(tree, Settings, env, RULES)
    if not tree.is_readable:
        raise ConfigError(tree.problems)
    made_up = _make_up_keys(tree, {} if spare is None else spare)
    written = {whole: _named(tree, whole) for whole in ("sites", "upstreams")}
    settings = validate(tree, Settings, env, RULES)
    settings = settings.model_copy(
        update={
            "sites": _with_upstreams(settings.sites, written["upstreams"]),
            "keys": _with_sites(settings.keys, written["sites"]),
            "hooks": _with_upstreams(settings.hooks, written["upstreams"]),
        }
    )
    if settings.debug and tree.get(("telemetry", "log_level")) is None:
        settings = settings.model_copy(update={"telemetry": TelemetrySettings(log_level="DEBUG")})
    warnings: list[Problem] = near_misses(env)
    _Judge(settings, tree, made_up, written, warnings).all()
    if tree.problems:
        raise ConfigError(tree.problems)
    return Loaded(settings, tuple(warnings))


def json_schema() -> dict[str, object]:
    """For editors: what the file may hold. What only loading can judge is not in it."""
    schema = Settings.model_json_schema()
    schema["$defs"]["StoreSettings"]["properties"]["url"]["default"] = "memory:"  # no Secret shows its value
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "Sidegate"}


def _named(tree: Tree, whole: str) -> dict[str, object]:
    """The sites or upstreams that were written, those with mistakes too."""
    value = tree.get((whole,))
    return dict(value) if isinstance(value, dict) else {}


def _make_up_keys(tree: Tree, spare: dict[Place, Secret]) -> set[Place]:
    """Put random keys where none is written; which of them may stay is judged below."""
    places: list[Place] = [("session", "key")]
    if tree.get(("signing", "algorithm")) in (None, "HS256"):  # a made-up private key would be of use to nobody
        places.append(("signing", "key"))
    made_up = {place for place in places if tree.get(place) is None}
    for place in made_up:
        tree.put(place, spare.setdefault(place, random_secret()))
    return made_up


def _with_upstreams(sections: Mapping[str, W], upstreams: Collection[str]) -> dict[str, W]:
    if len(upstreams) != 1:
        return dict(sections)
    (only,) = upstreams
    return {name: each.model_copy(update={"upstream": each.upstream or only}) for name, each in sections.items()}


def _with_sites(keys: KeySettings, sites: Collection[str]) -> KeySettings:
    if len(sites) != 1:
        return keys
    (only,) = sites
    return keys.model_copy(update={"api": tuple(key.model_copy(update={"site": key.site or only}) for key in keys.api)})


@dataclass(frozen=True, slots=True)
class _Judge:
    """What no section can see by itself. Silent about places that are known to be wrong already."""

    settings: Settings
    tree: Tree
    made_up: Collection[Place]
    written: Mapping[str, Mapping[str, object]]
    warnings: list[Problem]

    def all(self) -> None:
        for judge in (self._keys, self._names, self._upstreams, self._origins, self._limits, self._listeners):
            judge()
        self._cookies()
        self._workers()
        self._credentials()
        if self.settings.debug:
            self._bad(("debug",), "not for production; write false")
        if self.settings.environment == "development":
            self._warn(("environment",), "development accepts weak secrets and missing origins; not for public use")

    def _workers(self) -> None:
        is_alone = parse_url(self.settings.store.url.reveal()).kind == "memory"
        if self.settings.workers > 1 and is_alone and not any(place[0] == "store" for place in self.tree.reported):
            text = "several processes need a store that they share; set store.url to a Redis, or write 1"
            self._refuse(("workers",), text)

    def _credentials(self) -> None:
        judges = {"refuse": self._refuse, "bad": self._bad, "warn": self._warn}
        for kind, place, text in findings(self.settings.keys, self.settings.sites, self.written["sites"]):
            judges[kind](place, text)
        for place, fault in self.tree.weak.items():
            self._bad(place, f"{fault}; use what `sidegate keys new` prints")

    def _refuse(self, place: Place, text: str) -> None:
        if not any(place[:end] in self.tree.reported for end in range(1, len(place) + 1)):
            self.tree.report(place, text)

    def _warn(self, place: Place, text: str) -> None:
        self.warnings.append(Problem(self.tree.show(place), text))

    def _bad(self, place: Place, text: str) -> None:
        """Not acceptable in production, and worth a word in development."""
        (self._refuse if self.settings.environment == "production" else self._warn)(place, text)

    def _keys(self) -> None:
        signing, session = self.settings.signing, self.settings.session
        is_shared = signing.algorithm == "HS256"
        needed: dict[Place, Secret | None] = {
            ("session", "key"): session.key,
            ("store", "encryption_key"): self.settings.store.encryption_key,
            ("ops", "token"): self.settings.ops.token,
        }
        if is_shared and self._signs():
            needed[("signing", "key")] = signing.key
            needed |= {("signing", "previous", name): key for name, key in signing.previous.items()}
        for place, secret in needed.items():
            if place in self.made_up:
                self._bad(place, f"missing; write {A_SECRET}, with what {MAKE_KEY} prints in it")
            elif secret is not None and (fault := weakness(secret.reveal())):
                self._bad(place, f"{fault}; use what {MAKE_KEY} prints")
            elif secret is not None and (doubt := suspicion(secret.reveal())):
                self._warn(place, f"{doubt}; use what {MAKE_KEY} prints")
        if session.key == signing.key:
            self._warn(("signing", "key"), "the same as session.key: whoever runs the upstream could make sessions")

    def _signs(self) -> bool:
        """Does any upstream get a token of ours, as far as can be known of those with mistakes?"""
        upstreams = self.written["upstreams"]
        return not upstreams or any(
            _takes_token(self.settings.upstreams.get(name, upstreams[name])) for name in upstreams
        )

    def _cookies(self) -> None:
        session, place = self.settings.session, ("session", "cookie_embedded")
        if session.cookie_embedded and not session.cookie:
            self._warn(place, "nothing comes of it; write session.cookie: true as well")
        elif session.cookie_embedded and not any(site.allow_credentials for site in self.settings.sites.values()):
            self._warn(place, "no page may send it; write allow_credentials: true for the sites that embed the chat")

    def _names(self) -> None:
        for whole, names in self.written.items():
            if not names:
                flat = "ALLOWED_ORIGINS" if whole == "sites" else "N8N_WEBHOOK_URL"
                self._refuse((whole,), f"there is none; name one, or set {flat}")
            for name in names:
                if not NAME.fullmatch(name):
                    self._refuse((whole, name), NOT_A_NAME)

    def _upstreams(self) -> None:
        known = self.written["upstreams"]
        for name, site in self.settings.sites.items():
            place: Place = ("sites", name, "upstream")
            if not site.upstream and known:
                self._refuse(place, f"missing, and there are several; write {' or '.join(known)}")
            for upstream in site.weights:
                if site.upstream and upstream not in known:
                    self._refuse(place, unknown(upstream, known))
        used = [*(site.weights for site in self.settings.sites.values()), self._hooks()]
        for name in sorted(set(known).difference(*used)):
            self._warn(("upstreams", name), "no site uses it")

    def _hooks(self) -> set[str]:
        """Their upstreams."""
        known = self.written["upstreams"]
        for name, hook in self.settings.hooks.items():
            place: Place = ("hooks", name)
            if not NAME.fullmatch(name):
                self._refuse(place, NOT_A_NAME)
            if not hook.upstream and known:
                self._refuse((*place, "upstream"), f"missing, and there are several; write {' or '.join(known)}")
            elif hook.upstream and hook.upstream not in known:
                self._refuse((*place, "upstream"), unknown(hook.upstream, known))
            elif isinstance(self.settings.upstreams.get(hook.upstream), OpenAiSettings | EchoSettings):
                self._refuse((*place, "upstream"), "webhooks go to upstreams of kind n8n; write one of those")
            if hook.ack == "queue" and parse_url(self.settings.store.url.reveal()).kind == "memory":
                self._warn((*place, "ack"), "what waits is lost when the process ends; set store.url to a Redis")
            for key, secret in (("secret", hook.secret), ("previous", hook.previous)):
                if secret is not None and (fault := weakness(secret.reveal())):
                    self._bad((*place, key), f"{fault}; use a longer one, where the provider lets you choose")
        return {hook.upstream for hook in self.settings.hooks.values()}

    def _origins(self) -> None:
        for name, site in self.settings.sites.items():
            place: Place = ("sites", name, "origins")
            is_for_pages = not {"anonymous", "embed_key"}.isdisjoint(site.auth)
            if is_for_pages and not site.origins and not any(other[:3] == place for other in self.tree.reported):
                self._bad(place, "missing; list the pages' origins, such as https://shop.example")
            for index, origin in enumerate(site.origins):
                if origin.startswith("http://"):
                    insecure = "cookies need https" if self.settings.session.cookie else ""
                    judge = self._bad if insecure else self._warn
                    judge(
                        (*place, index), f"{insecure or 'what visitors write can be read on the way'}; write https://…"
                    )

    def _limits(self) -> None:
        sites = self.settings.sites.items()
        lists: dict[Place, Sequence[LimitSettings | BudgetSettings]] = {
            ("limits",): self.settings.limits,
            ("budgets",): self.settings.budgets,
        }
        lists |= {("sites", name, "limits"): site.limits or () for name, site in sites}
        lists |= {("sites", name, "budgets"): site.budgets or () for name, site in sites}
        for place, rules in lists.items():
            seen = Counter((rule.label, rule.mode) for rule in rules)
            for (label, mode), count in seen.items():
                if count > 1:
                    self._refuse(place, f"{count} {place[-1]} are both {label} ({mode}); keep one of them")

    def _listeners(self) -> None:
        listen, ops = self.settings.listen, self.settings.ops
        if listen.port and listen.port == ops.port:
            self._refuse(("ops", "port"), "the same as listen.port; write another one, such as 9090")
        if ops.token is None and not is_loopback(ops.host):
            self._warn(("ops", "token"), f"missing, while ops.host can be reached from outside; write {A_SECRET}")
        for index, host in enumerate(listen.allowed_hosts):
            if "*" in host:
                text = "wildcards are not possible; write whole names, or leave the list empty to serve every host"
                self._refuse(("listen", "allowed_hosts", index), text)
        if not listen.allowed_hosts:
            self._warn(("listen", "allowed_hosts"), "empty, so every Host is served; list the names of this service")
        for index, network in enumerate(listen.trusted_proxies):
            if ip_network(network).prefixlen == 0:
                text = "anybody could claim any address; list the networks of your proxies only"
                self._bad(("listen", "trusted_proxies", index), text)


def _takes_token(upstream: object) -> bool:
    """Does it get a token of ours? It is as it was written, where that could not be used."""
    match upstream:
        case EchoSettings() | {"kind": "echo"}:
            return False
        case OpenAiSettings():
            return upstream.api_key is None
        case N8nSettings(auth=HeaderAuth(name=name)):
            return name.lower() != "authorization"
        case N8nSettings():
            return upstream.auth == "jwt"
        case {"auth": _} | {"api_key": _}:
            return False
    return True


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
