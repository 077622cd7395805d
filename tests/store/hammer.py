"""Run as a process of its own: many hits at once against one limit. Prints how many were let through.

python -m tests.store.hammer URL KEY LIMIT HITS
"""

from __future__ import annotations

import asyncio
import sys

from proxy.store import Store, Tier
from proxy.store.redis.counts import RedisStore
from proxy.store.redis.link import Link
from proxy.store.url import parse_url


async def hammer(store: Store, tier: Tier, hits: int) -> int:
    answers = await asyncio.gather(*[store.hit([tier]) for _ in range(hits)])
    return sum(hit.retry_after == 0 for (hit,) in answers)


async def main(url: str, key: str, limit: str, hits: str) -> None:
    store = RedisStore(Link(parse_url(url), deadline=30))
    passed = await hammer(store, Tier(key, int(limit), 3600), int(hits))
    await store.close()
    sys.stdout.write(str(passed))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
