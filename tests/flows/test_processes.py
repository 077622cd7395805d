"""Whole processes, started by the command line: limits across them, a Redis that dies, variables alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.servers import RedisServer, free_port
from tests.sidegate import BROWSER, JWT_KEY, SESSION_KEY, parse_sse, text_of, tree
from tests.upstreams import stream, webhook

KEYS = {"JWT_SECRET_KEY": JWT_KEY, "SESSION_SECRET_KEY": SESSION_KEY}


class Process:
    """A `sidegate serve` of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, ops_port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.ops_url = f"http://127.0.0.1:{ops_port}"


@asynccontextmanager
async def serve(*arguments: str, port: int, ops_port: int, env: dict[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", *arguments,
        env={"PATH": os.environ["PATH"], **env}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    server = Process(process, port, ops_port)
    try:
        async with aiohttp.ClientSession() as http:
            await until(http, f"{server.ops_url}/livez", "status", "ok")
        yield server
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await process.wait()


async def until(http: aiohttp.ClientSession, url: str, field: str, value: object) -> dict[str, Any]:
    """Ask until the answer's field has that value; gives up after 20 s."""
    async with asyncio.timeout(20):
        while True:
            try:
                async with http.get(url) as response:
                    answer: dict[str, Any] = await response.json()
                    if answer[field] == value:
                        return answer
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def replicas(number: int, folder: Path, limit: int, **sections: Any) -> AsyncIterator[list[Process]]:
    async with AsyncExitStack() as stack:
        servers = []
        for at in range(number):
            port, ops_port = free_port(), free_port()
            config = tree(
                {"kind": "echo", "delay": 0},
                listen={"host": "127.0.0.1", "port": port},
                ops={"port": ops_port},
                limits=[{"per": "site", "limit": limit, "window": 60}],
                **sections,
            )
            file = folder / f"{at}.yaml"
            file.write_bytes(orjson.dumps(config))
            process = serve("--config", str(file), port=port, ops_port=ops_port, env=KEYS)
            servers.append(await stack.enter_async_context(process))
        yield servers


async def statuses(http: aiohttp.ClientSession, servers: list[Process], requests: int) -> Counter[int]:
    """Answers to so many messages at once, spread over the servers, all from one session."""
    async with http.post(f"{servers[0].url}/v1/session", headers=BROWSER) as response:
        token = (await response.json())["access_token"]
    headers = BROWSER | {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    async def one(number: int) -> int:
        url = f"{servers[number % len(servers)].url}/v1/messages"
        async with http.post(url, json={"message": "x"}, headers=headers) as response:
            await response.read()
            return response.status

    return Counter(await asyncio.gather(*(one(number) for number in range(requests))))


@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_of_a_thousand_messages_at_once_exactly_the_limit_passes(store: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        sections = {}
        if store == "redis":
            sections["store"] = {"url": stack.enter_context(RedisServer()).url}
        number = 2 if store == "redis" else 1
        servers = await stack.enter_async_context(replicas(number, tmp_path, limit=60, **sections))
        connector = aiohttp.TCPConnector(limit=200)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        assert await statuses(http, servers, 1000) == {200: 60, 429: 940}


async def test_redis_may_die_and_come_back_while_we_serve(tmp_path: Path) -> None:
    with RedisServer() as redis:
        async with (
            replicas(2, tmp_path, limit=20, store={"url": redis.url}) as servers,
            aiohttp.ClientSession() as http,
        ):
            for server in servers:
                await until(http, f"{server.ops_url}/health", "replicas", 2)
            redis.kill()
            assert (await statuses(http, servers, 60))[200] == 20  # each its share of ten
            for server in servers:
                degraded = await until(http, f"{server.ops_url}/readyz", "status", "degraded")
                assert "redis" in degraded["reason"].lower()
                async with http.get(f"{server.ops_url}/health") as response:
                    assert (await response.json())["status"] == "degraded"
            redis.start()
            for server in servers:
                await until(http, f"{server.ops_url}/readyz", "status", "ready")
            assert (await statuses(http, servers, 60))[200] == 0  # it was told of those before it was asked again


async def test_variables_alone_guard_a_workflow() -> None:
    port, ops_port = free_port(), free_port()
    async with webhook(lambda _: stream("Hello ", "there")) as hook:
        env = KEYS | {
            "N8N_WEBHOOK_URL": hook.url,
            "ALLOWED_ORIGINS": "https://shop.example, https://www.shop.example",
            "RATE_LIMIT_PER_MINUTE": "3",
            "SIDEGATE__LISTEN__HOST": "127.0.0.1",
            "SIDEGATE__LISTEN__PORT": str(port),
            "SIDEGATE__OPS__PORT": str(ops_port),
        }
        async with serve(port=port, ops_port=ops_port, env=env) as server, aiohttp.ClientSession() as http:
            async with http.post(f"{server.url}/v1/session", headers={"User-Agent": "x"}) as response:
                assert response.status == 403  # production wants a browser's word
            async with http.post(f"{server.url}/v1/session", headers=BROWSER) as response:
                assert "Strict-Transport-Security" in response.headers
                token = (await response.json())["access_token"]
            headers = BROWSER | {"Authorization": f"Bearer {token}"}
            answers = []
            for _ in range(4):
                async with http.post(f"{server.url}/v1/messages", json={"message": "x"}, headers=headers) as response:
                    answers.append((response.status, await response.text()))
            assert [status for status, _ in answers] == [200, 200, 200, 429]
            assert text_of(parse_sse(answers[0][1])) == "Hello there"


async def test_a_configuration_with_mistakes_does_not_start_and_names_them(tmp_path: Path) -> None:
    file = tmp_path / "sidegate.yaml"
    file.write_text(
        "environment: production\nupstreams: {a: {kind: n8n, url: 'http://n8n/webhook/a'}}\n"
        "sites: {shop: {origins: ['*'], upstream: nope}}\nlimit: []\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "--config", str(file),
        env={"PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        _, stderr = await process.communicate()
    assert process.returncode == 2
    for path in ("sites.shop.origins", "sites.shop.upstream", "limit", "session.key", "signing.key"):
        assert path in stderr.decode()
