"""What of the keys' settings no section can see by itself: keys and the sites that they are for, and the provider's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from proxy.config import Place, unknown
from proxy.guard.jwk import SHARED
from proxy.guard.keys import KeySettings
from proxy.sites import SiteSettings
from proxy.weak import weakness

# refuse: in every environment; bad: in production, and worth a word in development; warn: in every environment
Finding = tuple[Literal["refuse", "bad", "warn"], Place, str]


def findings(keys: KeySettings, sites: Mapping[str, SiteSettings], known: Collection[str]) -> Iterator[Finding]:
    """`known`: the names of all sites, those with mistakes too."""
    yield from _api(keys, sites, known)
    yield from _embed(sites)
    yield from _twice(keys, sites)
    yield from _provider(keys, sites)


def _api(keys: KeySettings, sites: Mapping[str, SiteSettings], known: Collection[str]) -> Iterator[Finding]:
    for index, key in enumerate(keys.api):
        place: Place = ("keys", "api", index)
        if not key.site and len(known) > 1:
            yield "refuse", (*place, "site"), f"missing, and there are several; write {' or '.join(known)}"
        elif key.site and known and key.site not in known:
            yield "refuse", (*place, "site"), unknown(key.site, known)
        elif key.site in sites and "api_key" not in sites[key.site].auth:
            yield "warn", (*place, "site"), f"{key.site} takes no API keys; add api_key to its auth"
        if key.ends <= time.time():
            yield "warn", (*place, "expires"), "over; nobody can use the key any more"
    for name, site in sites.items():
        if site.page and "anonymous" not in site.auth:
            yield (
                "warn",
                ("sites", name, "page"),
                "the chat page opens anonymous sessions; add anonymous to auth",
            )
        if "api_key" in site.auth and not any(key.site == name for key in keys.api):
            yield "warn", ("sites", name, "auth"), "api_key is in it, and keys.api has none for this site"


def _embed(sites: Mapping[str, SiteSettings]) -> Iterator[Finding]:
    for name, site in sites.items():
        place: Place = ("sites", name, "embed_keys")
        if site.embed_keys and "embed_key" not in site.auth:
            yield "warn", place, "not used; add embed_key to the site's auth"
        if "embed_key" in site.auth and not site.embed_keys:
            yield "warn", place, "missing, though embed_key is in the site's auth; `sidegate keys new --kind embed`"
        for index, key in enumerate(site.embed_keys):
            if key.ends <= time.time():
                yield "warn", (*place, index, "expires"), "over; nobody can use the key any more"


def _twice(keys: KeySettings, sites: Mapping[str, SiteSettings]) -> Iterator[Finding]:
    names = Counter(key.name for key in keys.api)
    for name in (name for name, count in names.items() if count > 1):
        yield "refuse", ("keys", "api"), f"{names[name]} keys are called {name}; give each a name of its own"
    hashes = Counter([key.hash for key in keys.api])
    hashes.update(key.hash for site in sites.values() for key in site.embed_keys)
    for hashed in (hashed for hashed, count in hashes.items() if count > 1):
        yield (
            "refuse",
            ("keys", "api"),
            f"the hash {hashed[:15]}… is there twice; a key is for one site and one purpose",
        )


def _provider(keys: KeySettings, sites: Mapping[str, SiteSettings]) -> Iterator[Finding]:
    jwt = keys.jwt
    using = [name for name, site in sites.items() if "jwt" in site.auth]
    place: Place = ("keys", "jwt")
    if not jwt.is_on:
        for name in using:
            yield "refuse", ("sites", name, "auth"), "jwt is in it, and keys.jwt has neither jwks_url nor key"
        return
    if not using:
        yield "warn", place, "not used; add jwt to the auth of a site"
    if jwt.issuer is None:
        text = "missing, so tokens of whoever shares the keys are taken; write the `iss` of your provider's tokens"
        yield "bad", (*place, "issuer"), text
    if not jwt.audiences:
        text = "missing, so tokens that were made for other services are taken; write the `aud` of those for this one"
        yield "warn", (*place, "audience"), text
    if len(using) > 1 and jwt.site_claim is None:
        text = f"missing, so a token is good at each of {', '.join(using)}; name the claim that holds the site's name"
        yield "warn", (*place, "site_claim"), text
    if jwt.jwks_url is not None and jwt.jwks_url.startswith("http://") and not _is_here(jwt.jwks_url):
        yield "bad", (*place, "jwks_url"), "whoever sits in between can put keys of their own there; write https://…"
    if jwt.key is not None and SHARED.intersection(jwt.algorithms) and (fault := weakness(jwt.key.reveal())):
        yield "bad", (*place, "key"), f"{fault}; use what `openssl rand -base64 48` prints"


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
