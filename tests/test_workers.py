"""The supervisor and its processes: what they survive, what ends them, and what they say."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import aiohttp
import orjson
import pytest

from proxy.listeners import CantListen, bind
from proxy.workers import MOST_PAUSE, WELL, Pauses
from tests.servers import RedisServer, free_port
from tests.sidegate import BROWSER, load, tree
from tests.supervised import PATIENCE, Caller, Supervised, eventually, supervised

ECHO = {"kind": "echo", "delay": 0}


def test_the_first_end_costs_no_pause_and_many_in_a_row_cost_more_and_more_up_to_a_bound() -> None:
    pauses = Pauses()
    assert [pauses.after(lived=0) for _ in range(5)] == [0, 0.5, 1, 2, 4]
    assert max(pauses.after(lived=1) for _ in range(100)) == MOST_PAUSE
    assert pauses.after(lived=WELL) == 0


def test_an_address_that_is_taken_is_named_and_nothing_stays_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ours, port = free_port(), taken.getsockname()[1]
        settings = load(tree(ECHO, listen={"host": "127.0.0.1", "port": ours}, ops={"port": port}))
        with pytest.raises(CantListen, match=rf"can't listen on 127\.0\.0\.1:{port} \(ops\): Address already in use"):
            bind(settings)
    with socket.socket() as again:
        again.bind(("127.0.0.1", ours))


def test_a_listener_whose_address_stays_is_kept() -> None:
    before = load(tree(ECHO))
    listeners = bind(before)
    after = load(tree(ECHO, listen={"host": "127.0.0.1", "port": free_port()}))
    renewed = bind(after, before, listeners)
    assert renewed.ops is listeners.ops
    assert renewed.public != listeners.public
    listeners.close()
    renewed.close()


async def status(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_a_bad_configuration_changes_nothing_and_each_problem_is_logged(tmp_path: Path) -> None:
    async with supervised(tmp_path, ECHO) as server:
        before = server.workers()
        server.configure(ECHO, content={"max_chars": "many"}, limit=[], workers=2)
        server.send(signal.SIGHUP)
        await server.says("nothing was changed")
        told = [line for line in server.messages() if line.startswith("configuration: ")]
        for path in ("content.max_chars", "limit", "workers"):
            assert any(f"configuration: {path}" in line for line in told), told
        server.file.write_text("}")
        server.send(signal.SIGHUP)
        await server.says("nothing was changed", times=2)
        assert server.workers() == before
        assert (await status(server.port, "/health"))[0] == 200


async def test_an_address_that_is_taken_changes_nothing_either(tmp_path: Path) -> None:
    async with supervised(tmp_path, ECHO) as server:
        before = server.workers()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server.configure(ECHO, listen={"port": taken.getsockname()[1]})
            server.send(signal.SIGHUP)
            await server.says("Address already in use; nothing was changed")
        assert server.workers() == before
        assert (await status(server.port, "/health"))[0] == 200


async def test_a_worker_that_does_not_start_with_the_new_configuration_changes_nothing(tmp_path: Path) -> None:
    async with supervised(tmp_path, ECHO) as server:
        before = server.workers()
        key = tmp_path / "key"
        key.write_text("-----BEGIN PRIVATE KEY-----\nthis is none\n-----END PRIVATE KEY-----\n")
        server.configure(ECHO, signing={"algorithm": "RS256", "key": {"file": str(key)}})
        server.send(signal.SIGHUP)
        await server.says("nothing was changed")
        assert server.workers() == before
        assert (await status(server.port, "/health"))[0] == 200


async def test_the_new_configuration_is_served_on_the_new_address_by_more_workers(tmp_path: Path) -> None:
    with RedisServer() as redis:
        async with supervised(tmp_path, ECHO, store={"url": redis.url}) as server:
            old, before = server.port, set(server.workers())
            server.port = free_port()
            server.configure(ECHO, store={"url": redis.url}, workers=3, content={"max_chars": 5})
            server.send(signal.SIGHUP)
            await server.says("all workers renewed")
            assert len(server.workers()) == 3
            assert not before & set(server.workers())
            caller = Caller(server.port)
            await caller.session()
            assert (await caller.ask("much too long", "application/json")).status in (400, 413, 422)
            caller.close()
            with pytest.raises(aiohttp.ClientConnectionError):
                await status(old, "/health")


async def test_a_killed_worker_is_replaced_while_the_others_serve(tmp_path: Path) -> None:
    with RedisServer() as redis:
        async with supervised(tmp_path, ECHO, workers=2, store={"url": redis.url}) as server:
            killed, other = server.workers()
            os.kill(killed, signal.SIGKILL)
            assert (await status(server.port, "/health"))[0] == 200
            await eventually(lambda: killed not in server.workers() and len(server.workers()) == 2)
            assert other in server.workers()


async def test_sigterm_ends_a_silent_connection_and_a_websocket_and_exits_with_0(tmp_path: Path) -> None:
    async with supervised(tmp_path, ECHO) as server, aiohttp.ClientSession() as http:
        caller = Caller(server.port)
        await caller.session()
        headers = BROWSER | caller.headers
        async with http.ws_connect(f"http://127.0.0.1:{server.port}/v1/ws", headers=headers) as socket_:
            server.send(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert (await socket_.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket_.close_code == 1001
        caller.close()
        assert await server.ended() == 0
        assert "ended" in server.messages()


async def test_while_draining_it_is_not_ready_and_a_silent_connection_is_answered_and_told_to_close(
    tmp_path: Path,
) -> None:
    async with supervised(tmp_path, ECHO) as server:
        ops, caller = Caller(server.ops_port), Caller(server.port)
        assert (await ops.request("GET", "/readyz")).status == 200
        await caller.session()
        assert caller.connections == 1
        server.send(signal.SIGTERM)
        await server.says("draining")
        readiness = await ops.request("GET", "/readyz")
        answer = await caller.ask("hello", "text/event-stream")
        assert (readiness.status, orjson.loads(readiness.body)) == (503, {"status": "draining"})
        assert (answer.status, answer.is_last, caller.connections) == (200, True, 1)
        assert b"event: done" in answer.body
        assert await server.ended() == 0


async def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    async with supervised(tmp_path, ECHO) as server:
        (worker,) = server.workers()
        server.process.kill()
        await server.ended()
        await eventually(lambda: not Path(f"/proc/{worker}").exists())
        bind(load(tree(ECHO, listen={"host": "127.0.0.1", "port": server.port}))).close()


async def test_counts_of_all_workers_are_told_by_any_of_them_and_outlive_them(tmp_path: Path) -> None:
    with RedisServer() as redis:
        async with supervised(tmp_path, ECHO, workers=2, store={"url": redis.url}) as server:
            for _ in range(10):
                await status(server.port, "/health")
            assert await requests(server) == {10.0}
            server.send(signal.SIGHUP)
            await server.says("all workers renewed")
            for _ in range(10):
                await status(server.port, "/health")
            assert await requests(server) == {20.0}
            assert orjson.loads((await status(server.ops_port, "/health"))[1])["workers"] == 2


async def requests(server: Supervised) -> set[float]:
    """What ten scrapes say of GET /health."""
    found = set()
    for _ in range(10):
        _, text = await status(server.ops_port, "/metrics")
        lines = [line for line in text.splitlines() if 'requests_total{route="/health"' in line]
        found.add(sum(float(line.split()[-1]) for line in lines))
    return found


async def test_sigterm_in_the_middle_of_a_renewal_ends_old_and_new(tmp_path: Path) -> None:
    with RedisServer() as redis:
        async with supervised(tmp_path, ECHO, workers=2, store={"url": redis.url}) as server:
            caller = Caller(server.port)
            await caller.session()  # and its silent connection holds one of them up
            server.send(signal.SIGHUP)
            await server.says("serves", times=3)
            server.send(signal.SIGTERM)
            assert await server.ended() == 0
            caller.close()
            assert server.workers() == []
            assert "all workers renewed" not in " ".join(server.messages())
