"""Replicas that share the queue of webhooks in Redis: each delivery is run by one; a killed one's by another."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.flows.test_hook_queue import GOOD, QUEUE
from tests.flows.test_hooks import signed
from tests.servers import RedisServer
from tests.sidegate import Visitor, sidegate
from tests.supervised import Supervised, eventually, supervised
from tests.topologies import cluster
from tests.upstreams import Asked, Script, Step, Webhook, webhook

NUMBER = 60
BUSY = {"git": QUEUE["git"] | {"limit": 1000}}


async def send(http: aiohttp.ClientSession, url: str, name: str) -> int:
    body = orjson.dumps({"id": name})
    async with http.post(f"{url}/hooks/git", data=body, headers=signed("github", body)) as response:
        return response.status


async def until(upstream: Webhook, number: int) -> None:
    await eventually(lambda: len(upstream.asked) >= number)


def ids(asked: list[Asked]) -> list[str]:
    return [orjson.loads(each.body)["id"] for each in asked]


@asynccontextmanager
async def two(line: dict[str, Any], url: str) -> AsyncIterator[list[Visitor]]:  # Any: configuration as written
    async with AsyncExitStack() as stack:
        opened = [sidegate(line, hooks=BUSY, store={"url": url}) for _ in range(2)]
        yield [await stack.enter_async_context(each) for each in opened]


@pytest.mark.parametrize("kind", ["one server", "cluster"])
async def test_each_delivery_is_run_once_whichever_replica_took_it(kind: str) -> None:
    """Every one is sent to both, as a provider does that had no answer in time."""
    async with webhook(lambda _: GOOD) as upstream:
        with RedisServer() if kind == "one server" else cluster() as redis:
            async with two({"kind": "n8n", "url": upstream.url}, redis.url) as replicas:
                told: Counter[int] = Counter()
                for at in range(NUMBER):
                    for replica in replicas[:: 1 if at % 2 else -1]:
                        told[await send(replica.http, replica.url, f"evt_{at}")] += 1
                assert told == {202: NUMBER, 200: NUMBER}
                await until(upstream, NUMBER)
        assert Counter(ids(upstream.asked)) == {f"evt_{at}": 1 for at in range(NUMBER)}


async def test_what_a_killed_replica_was_running_another_one_runs_again_when_its_lease_has_ended(
    tmp_path: Path,
) -> None:
    """At least once: the workflow had it before, and sees by its delivery that it is the same."""
    over = asyncio.Event()

    def script(_: Asked) -> Script:
        return GOOD if is_killed else [Step(wait=over)]

    is_killed = False
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with RedisServer(fake_clock=True) as redis:
        async with webhook(script) as upstream, aiohttp.ClientSession() as http:
            line = {"kind": "n8n", "url": upstream.url, "timeouts": {"first_byte": 600, "total": 600}}
            sections: dict[str, Any] = {"hooks": BUSY, "store": {"url": redis.url}}  # Any: configuration as written
            async with supervised(folders[0], line, **sections) as first:
                assert await send(http, f"http://127.0.0.1:{first.port}", "evt_1") == 202
                await until(upstream, 1)
                async with supervised(folders[1], line, **sections) as second:
                    await kill(first)
                    is_killed = True
                    # Its own work goes on; what the other one holds isn't touched.
                    assert await send(http, f"http://127.0.0.1:{second.port}", "evt_2") == 202
                    await until(upstream, 2)
                    assert ids(upstream.asked) == ["evt_1", "evt_2"]
                    redis.advance(1200 + 61)
                    await until(upstream, 3)
                    assert await send(http, f"http://127.0.0.1:{second.port}", "evt_1") == 200  # known
                    over.set()
            assert ids(upstream.asked) == ["evt_1", "evt_2", "evt_1"]
            one, _, again = upstream.asked
            assert one.headers["x-sidegate-delivery"] == again.headers["x-sidegate-delivery"]
            assert [each.headers["x-sidegate-attempt"] for each in (one, again)] == ["1", "2"]
            assert redis.call("EXISTS", "sidegate:{hooks}/jobs:data") == b":0"


async def kill(server: Supervised) -> None:
    server.send(signal.SIGKILL)
    await server.ended()
