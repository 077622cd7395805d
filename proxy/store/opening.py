"""The store at an address, with everything that is kept in it."""

from __future__ import annotations

from proxy.store.failover import FailoverStore
from proxy.store.memory import MemoryStore
from proxy.store.url import parse_url


def open_store(url: str) -> MemoryStore | FailoverStore:
    """The store at this address. Call its start() in the running loop. Raises ValueError as parse_url does."""
    parsed = parse_url(url)
    if parsed.kind == "memory":
        return MemoryStore()
    # redis-py takes 6 MB, which memory: has no use for.
    from proxy.store.redis.circuits import RedisCircuits
    from proxy.store.redis.counts import RedisStore
    from proxy.store.redis.jobs import RedisJobs
    from proxy.store.redis.journals import RedisJournals
    from proxy.store.redis.ledger import RedisLedger
    from proxy.store.redis.link import Link
    from proxy.store.redis.posts import RedisPosts
    from proxy.store.redis.reputation import RedisReputations
    from proxy.store.redis.revocations import RedisRevocations
    from proxy.store.redis.sessions import RedisSessions
    from proxy.store.redis.vaults import RedisVaults

    link = Link(parsed)
    return FailoverStore(
        RedisStore(link),
        MemoryStore(),
        circuits=RedisCircuits(link),
        journals=RedisJournals(link),
        posts=RedisPosts(link),
        ledger=RedisLedger(link),
        reputations=RedisReputations(link),
        revocations=RedisRevocations(link),
        vaults=RedisVaults(link),
        sessions=RedisSessions(link),
        jobs=RedisJobs(link),
    )
