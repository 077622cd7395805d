"""What a browser fetches in case somebody might want it is no message, and starts nothing.

What it stops: prefetches and prerenders that say so (Sec-Purpose, Purpose, X-Moz), wherever a request could cost
something. What it doesn't: programs that look at addresses and don't say why; but all that could cost something is a
POST, or needs a session.
"""

from __future__ import annotations

from proxy.errors import Prefetched
from proxy.model import Client, Mode


class Prefetch:
    name = "prefetch"
    mode: Mode = "enforce"

    async def check(self, client: Client) -> Client:
        if "prefetch" in client.purpose or "prerender" in client.purpose:
            raise Prefetched("a prefetch")
        return client
