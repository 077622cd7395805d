"""Many at once, over several processes: never one more than the limit, and never one less."""

from __future__ import annotations

import asyncio
import sys

import pytest

from proxy.store import Store, Tier
from proxy.store.memory import MemoryStore
from proxy.store.redis.counts import RedisStore
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from tests.servers import RedisServer
from tests.store.hammer import hammer

LIMIT, HITS = 60, 1000


async def test_a_thousand_at_once_get_exactly_the_limit_in_memory() -> None:
    assert await hammer(MemoryStore(), Tier("a", LIMIT, 3600), HITS) == LIMIT


async def test_a_thousand_from_two_processes_get_exactly_the_limit_in_redis(real_redis: RedisServer) -> None:
    real_redis.call("FLUSHALL")
    args = (sys.executable, "-m", "tests.store.hammer", real_redis.url, "two", str(LIMIT), str(HITS // 2))
    workers = [
        await asyncio.create_subprocess_exec(*args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        for _ in range(2)
    ]
    async with asyncio.timeout(60):
        results = [await worker.communicate() for worker in workers]
    assert [stderr.decode() for _, stderr in results] == ["", ""]
    assert sum(int(stdout) for stdout, _ in results) == LIMIT
    assert real_redis.call("LLEN", "sidegate:{two}:hits") == b":%d" % LIMIT


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_of_many_at_once_one_is_first(kind: str, real_redis: RedisServer) -> None:
    real_redis.call("FLUSHALL")
    store: Store = MemoryStore() if kind == "memory" else RedisStore(Link(parse_url(real_redis.url), deadline=30))
    assert sum(await asyncio.gather(*[store.add("a", 60) for _ in range(200)])) == 1
    await store.close()
