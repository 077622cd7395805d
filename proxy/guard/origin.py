"""Only hosts that we serve, and only pages that we know.

What it stops: other sites' pages that call us from their visitors' browsers (scripts, forms, cross-site WebSockets),
DNS rebinding, and requests for foreign hosts. What it doesn't: a program outside a browser can claim any Origin; for it
there are credentials, limits and budgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from urllib.parse import urlsplit

from proxy.errors import BadRequest, HostDenied, OriginDenied
from proxy.model import Client, Mode, Site

DEFAULT_PORTS = {"http": 80, "https": 443}
BROWSER_FACTS_MISSING = "no Origin, Referer or Sec-Fetch-Site, and browsers' credentials need one in production"


@lru_cache(256)
def normal_origin(value: str) -> str:
    """An origin as browsers serialise it: scheme://host[:port], lower case, no default port (RFC 6454 section 6.1).

    Raises ValueError for anything else: `*`, `null`, a path, userinfo, a scheme that isn't HTTP(S).
    """
    parts = urlsplit(value.strip().lower())
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("an origin is scheme://host or scheme://host:port, such as https://shop.example")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc or "*" in parts.netloc:
        raise ValueError("an origin has no path, user name or wildcard: https://shop.example")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port  # raises ValueError when out of range
    return f"{parts.scheme}://{host}" + ("" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}")


def origin_of(url: str) -> str | None:
    """The origin of a Referer, or None when it has none."""
    try:
        parts = urlsplit(url)
        return normal_origin(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        return None


@lru_cache(256)
def host_of(value: str) -> str:
    """The name in a Host header, without port and IPv6 brackets, lower case; "" when it is none."""
    try:
        return (urlsplit(f"//{value}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class Host:
    """The Host header names one of ours. An empty list allows every host (development)."""

    name = "host"
    mode: Mode = "enforce"

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(host_of(host) for host in allowed)

    async def check(self, client: Client) -> Client:
        if self._allowed and host_of(client.host) not in self._allowed:
            raise HostDenied("Host is not in listen.allowed_hosts")
        return client


class Origin:
    """Which sites may this page talk to. Leaves those in `client.sites`; raises OriginDenied when there is none.

    Without an Origin header, Sec-Fetch-Site and Referer speak for a browser. Where all three are missing it is no
    browser, and in production (`strict`) an anonymous session needs one: only who has an owner may go on.
    """

    name = "origin"
    mode: Mode = "enforce"

    def __init__(self, sites: Mapping[str, Site], *, strict: bool) -> None:
        self._sites = sites
        self._strict = strict

    async def check(self, client: Client) -> Client:
        named = self._named(client)
        needs_owner = False
        if client.origin is not None:
            allowed = tuple(site for site in named if allows(site, client, client.origin))
            if not allowed:
                raise OriginDenied("Origin is not in the site's origins")
        else:
            allowed = self._without_origin(client, named)
            needs_owner = self._strict and client.fetch_site is None and client.referer is None
        site = allowed[0] if len(allowed) == 1 else None
        return replace(client, sites=allowed, site=site, needs_owner=needs_owner)

    def _named(self, client: Client) -> tuple[Site, ...]:
        if client.site_name is None:
            return tuple(self._sites.values())
        if client.site_name not in self._sites:
            raise BadRequest("X-Sidegate-Site names no site")
        return (self._sites[client.site_name],)

    def _without_origin(self, client: Client, named: tuple[Site, ...]) -> tuple[Site, ...]:
        from_here = client.fetch_site in ("same-origin", "none")  # browsers set it, pages can't
        if client.referer is not None:
            page = origin_of(client.referer)
            by_referer = tuple(site for site in named if page is not None and allows(site, client, page))
            if by_referer:
                return by_referer
            if not (from_here and page == own_origin(client)):
                raise OriginDenied("no Origin, and Referer is not one of the site's origins")
        if client.fetch_site is not None and not from_here:
            raise OriginDenied("no Origin, and Sec-Fetch-Site says that it comes from elsewhere")
        if client.fetch_site is None and client.referer is None:
            if client.credential is None:
                may_own = not self._strict or client.route == "refresh"
            else:
                may_own = client.credential.kind != "cookie"
            if not may_own:
                raise OriginDenied(BROWSER_FACTS_MISSING)
        return named


def own_origin(client: Client) -> str | None:
    """The origin under which this client sees us."""
    return origin_of(f"{client.scheme}://{client.host}/")


def allows(site: Site, client: Client, origin: str) -> bool:
    """Is this a page of the site? Exact comparison; the site's own chat page is one where it is switched on."""
    try:
        normal = normal_origin(origin)
    except ValueError:
        return False
    if origin != normal:  # browsers send the normal form; whatever else comes is not a browser's word
        return False
    return normal in site.origins or (site.page and normal == own_origin(client))
