"""What no section of the settings can see by itself: names that must match, keys that are missing, what contradicts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from proxy.config import A_SECRET, Place, Problem, Secret, Tree, unknown
from proxy.credentials import findings
from proxy.guard.budget import BudgetSettings
from proxy.guard.limits import LimitSettings
from proxy.settings import Settings
from proxy.store.url import parse_url
from proxy.upstream.echo import EchoSettings
from proxy.upstream.headers import HeaderAuth
from proxy.upstream.n8n import N8nSettings
from proxy.upstream.openai import OpenAiSettings
from proxy.weak import suspicion, weakness

MAKE_KEY = "`openssl rand -base64 48`"
NOT_A_NAME = "not a name; write small letters, digits, - and _, at most 64, none of - and _ in front"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Judge:
    """Tells the tree what is refused, and lists warnings. Silent about places that are known to be wrong already."""

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
