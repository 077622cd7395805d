"""Does a session come back from where it was opened: a keyed hash over facts that a browser repeats.

What it stops: a session token used from another kind of browser (and, with `strict`, from another network). What it
doesn't: a thief who copies the User-Agent and Accept-Language headers too; short lives and revocation are for that.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Literal

from proxy.model import Client

Level = Literal["off", "standard", "strict"]


def fingerprint(client: Client, key: bytes, level: Level) -> str:
    """32 hexadecimal characters, or "" when off. `standard`: User-Agent and first language; `strict`: network too."""
    if level == "off":
        return ""
    facts = [client.user_agent, client.language.split(",")[0].split(";")[0].strip().lower()]
    if level == "strict":
        facts.append(network(client.ip))
    return hmac.new(key, "\0".join(facts).encode(), hashlib.sha256).hexdigest()[:32]


def network(ip: str) -> str:
    """The IPv4 /24 or IPv6 /48 around an address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))
