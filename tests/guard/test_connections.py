"""Open connections: so many for an address, a session, a site and this process, also when a process died."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.errors import TooManyConnections
from proxy.guard.connections import Connections, ConnectionSettings
from proxy.store.desk import LEASE, Desk
from proxy.store.ledger import MemoryLedger
from proxy.telemetry import Metrics
from tests.clients import SESSION, SHOP, Clock, client
from tests.flows.test_replicas import kill, pair
from tests.sidegate import Visitor, sidegate

ECHO = {"kind": "echo", "delay": 0}
MANY = {"per_ip": 100, "per_session": 100, "total": 100}


def stage(**settings: Any) -> Connections:
    return Connections(ConnectionSettings.model_validate(MANY | settings), Desk(MemoryLedger(Clock())), Metrics())


@pytest.mark.parametrize(
    ("settings", "other", "detail"),
    [
        ({"per_ip": 2}, {"ip": "198.51.100.1"}, "too many of one ip"),
        ({"per_session": 2}, {"session": None}, "too many of one session"),
        ({"per_site": 2}, {"site": None}, "too many of one site"),
        ({"total": 2}, None, "2 are open in this process"),
    ],
)
async def test_two_are_open_and_a_third_is_refused(
    settings: dict[str, int], other: dict[str, Any] | None, detail: str
) -> None:
    connections = stage(**settings)
    visitor = client(site=SHOP, session=SESSION)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(connections.one(visitor))
        with pytest.raises(TooManyConnections, match=detail):
            await stack.enter_async_context(connections.one(visitor))
        if other is not None:
            await stack.enter_async_context(connections.one(client(**{"site": SHOP, "session": SESSION} | other)))
    for _ in range(3):  # all are closed again, each time
        async with connections.one(visitor):
            pass


async def test_observed_caps_refuse_nobody() -> None:
    metrics = Metrics()
    settings = ConnectionSettings.model_validate(MANY | {"per_ip": 1, "mode": "observe"})
    connections = Connections(settings, Desk(MemoryLedger(Clock())), metrics)
    async with connections.one(client(site=SHOP)), connections.one(client(site=SHOP)):
        pass
    assert metrics.denied.labels("connections", "too_many_connections", "observe")._value.get() == 1


def socket(visitor: Visitor) -> Any:
    return visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers)


async def test_a_sixth_connection_of_a_session_is_refused_before_it_is_one() -> None:
    async with sidegate(ECHO) as visitor, AsyncExitStack() as stack:
        await visitor.session()
        sockets = [await stack.enter_async_context(socket(visitor)) for _ in range(4)]
        stream = await visitor.http.get(f"{visitor.url}/v1/events", headers=visitor.headers)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await stack.enter_async_context(socket(visitor))
        assert refused.value.status == 429
        assert refused.value.headers is not None
        assert int(refused.value.headers["Retry-After"]) == LEASE
        async with visitor.http.get(f"{visitor.url}/v1/events", headers=visitor.headers) as response:
            assert response.status == 429
            assert (await response.json(content_type=None))["code"] == "too_many_connections"
        await sockets[0].close()
        await stack.enter_async_context(socket(visitor))
        stream.close()
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            told = 'sidegate_denied_total{code="too_many_connections",mode="enforce",stage="connections"} 2.0'
            assert told in await response.text()


async def test_messages_and_short_requests_are_no_open_connections() -> None:
    async with sidegate(ECHO, connections={"per_ip": 1, "per_session": 1}) as visitor, AsyncExitStack() as stack:
        await visitor.session()
        await stack.enter_async_context(socket(visitor))
        for _ in range(3):
            assert (await visitor.events())[-1].name == "done"


@asynccontextmanager
async def held(visitor: Visitor, number: int) -> AsyncIterator[list[Any]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(socket(visitor)) for _ in range(number)]


async def test_replicas_count_together_and_forget_those_of_one_that_died(tmp_path: Path) -> None:
    async with pair(tmp_path, fake_clock=True, connections={"per_ip": 10, "per_session": 3}) as both:
        await both.session()
        async with held(both.a, 2):
            async with held(both.b, 1):
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await socket(both.b)
            await kill(both.processes[0])
        async with held(both.b, 1):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await socket(both.b)
            both.redis.advance(LEASE + 1)
            async with held(both.b, 2):  # the first is forgotten as well, until it is renewed
                pass
