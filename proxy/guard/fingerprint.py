"""Does a session come back from where it was opened: keyed hashes over facts that a browser, or a front, repeats.

What it stops: a session token used from another kind of browser (and, with `strict`, from another network). What it
doesn't: a thief who copies the User-Agent, hints and Accept-Language headers too; risk.py weighs the rest, and short
lives and revocation are for what remains.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
from functools import lru_cache
from typing import Literal

from proxy.model import Client, Facts

Level = Literal["off", "standard", "strict"]
# In this order in a fingerprint. What a request doesn't say is empty there, and no change of anything.
PARTS = ("browser", "hints", "address", "network", "country", "asn", "tls", "device")
HASH_BYTES = 8  # to tell one from another, not to prove anything: the token that holds it is signed


def fingerprint(client: Client, key: bytes, level: Level) -> str:
    """The hashes of all parts, joined by dots; "" when off.

    `browser`: User-Agent and first language. `hints`: Sec-CH-UA, which no WebSocket handshake has. `device`: a value
    that the page keeps and sends. `tls`, `country`, `asn`: what a trusted front says.
    """
    return "" if level == "off" else _fingerprint(client.user_agent, client.language, client.ip, client.facts, key)


@lru_cache(4096)
def _fingerprint(user_agent: str, language: str, ip: str, facts: Facts, key: bytes) -> str:
    browser = f"{user_agent}\0{language.split(',')[0].split(';')[0].strip().lower()}"
    said = (browser, facts.hints, ip, network(ip), facts.country, facts.asn, facts.tls, facts.device)
    return ".".join(_hash(key, name, fact) if fact else "" for name, fact in zip(PARTS, said, strict=True))


def changes(before: str, now: str) -> frozenset[str]:
    """Which parts of two fingerprints differ, of those that both have."""
    if before == now:
        return frozenset()
    pairs = zip(PARTS, before.split("."), now.split("."), strict=False)
    return frozenset(name for name, one, other in pairs if one and other and one != other)


def lacks_device(before: str, now: str) -> bool:
    """The page sent a value when the session was opened, and sends none any more."""
    return bool(before) and not before.endswith(".") and now.endswith(".")


def is_other_browser(before: str, now: str, level: Level) -> bool:
    """Too much has changed for it to be the same one. True as well for a fingerprint that was none."""
    if level == "off" or before == now:
        return False
    fatal = {"browser", "hints"} | ({"network"} if level == "strict" else set())
    return before.count(".") != len(PARTS) - 1 or not fatal.isdisjoint(changes(before, now))


def network(ip: str) -> str:
    """The IPv4 /24 or IPv6 /48 around an address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def _hash(key: bytes, name: str, fact: str) -> str:
    digest = hmac.digest(key, f"{name}\0{fact}".encode("utf-8", "surrogateescape"), "sha256")[:HASH_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
