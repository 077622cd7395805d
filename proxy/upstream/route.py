"""Which of a site's upstreams answers a session, and which is next when that one can't be asked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from proxy.model import Site


def order(site: Site, session_id: str) -> Sequence[str]:
    """The site's upstreams, the session's own first: of many sessions each upstream gets its weight's share.

    Weighted rendezvous hashing: the same on every replica and after every restart, with nothing to remember, and a
    session changes only when its own upstream is removed or another one's share grows.
    """
    if len(site.weights) < 2:
        return (site.upstream,)
    return sorted(site.weights, key=lambda name: _distance(f"{site.name}\0{name}\0{session_id}") / site.weights[name])


def _distance(text: str) -> float:
    """Exponentially distributed: of several, each divided by its weight, each is as often the least as it weighs."""
    number = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    return -math.log((number + 1) / (2**64 + 1))
