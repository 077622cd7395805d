"""Who a message is counted for: an address, a session, a key, a site and so on."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from proxy.model import Request

Per = Literal["ip", "prefix", "session", "owner", "api_key", "embed_key", "site", "domain", "route"]


@lru_cache(1024)
def ip_key(ip: str) -> str:
    """The address as it is counted: IPv6 by its /64, which is what one subscriber holds (RFC 6177)."""
    return _network(ip, 32, 64)


@lru_cache(1024)
def prefix_key(ip: str) -> str:
    """Its neighbourhood: the /24 of an IPv4 address, the /48 of an IPv6 one; about what one building has."""
    return _network(ip, 24, 48)


def _network(ip: str, four: int, six: int) -> str:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "unknown"
    length = four if address.version == 4 else six
    return str(ipaddress.ip_network((address, length), strict=False).network_address)


def _key(kind: str) -> Callable[[Request], str | None]:
    def name(request: Request) -> str | None:
        found, _, name = request.session.key.partition(":")
        return name if found == kind else None

    return name


def _domain(request: Request) -> str:
    return urlsplit(request.client.origin or "").hostname or request.client.host


# None: there is nobody of that kind, and nothing is counted.
SUBJECTS: Mapping[Per, Callable[[Request], str | None]] = {
    "ip": lambda request: ip_key(request.client.ip),
    "prefix": lambda request: prefix_key(request.client.ip),
    "session": lambda request: request.session.id,
    "owner": lambda request: request.session.owner or None,
    "api_key": _key("api_key"),
    "embed_key": _key("embed_key"),
    "site": lambda request: request.site.name,
    "domain": _domain,
    "route": lambda request: request.client.route,
}
