"""Webhooks that are acknowledged at once: run behind it, tried again, kept when that fails, and let run again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from proxy import dispatch
from proxy.store.jobs import MemoryJobs
from tests.edge.test_admin import OPS, TOKEN, config, run
from tests.flows.test_hooks import BODY, SECRET, kept, send, signed
from tests.servers import RedisServer
from tests.sidegate import Visitor, sidegate
from tests.until import until
from tests.upstreams import Script, Webhook, plain, webhook

QUEUE = {"git": {"provider": "github", "secret": kept(SECRET), "ack": "queue", "attempts": 3}}
GOOD, BAD = plain(b"{}"), plain(b"no", "500 Oops")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 0.01)


def script(upstream: list[Webhook], *answers: Script) -> Any:  # Any: what webhook() takes
    """Those in their order, the last one again and again."""
    return lambda _: answers[min(len(upstream[0].asked), len(answers)) - 1]


@asynccontextmanager
async def queued(answer: Script) -> AsyncIterator[tuple[Visitor, Webhook]]:
    async with (
        webhook(lambda _: answer) as upstream,
        sidegate({"kind": "n8n", "url": upstream.url}, hooks=QUEUE, ops=OPS) as visitor,
    ):
        yield visitor, upstream


async def letters(visitor: Visitor) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with visitor.http.get(f"{visitor.ops_url}/admin/hooks", headers=headers) as response:
        assert response.status == 200
        answer: dict[str, Any] = await response.json()
        return answer


async def is_dead(visitor: Visitor) -> bool:
    return bool((await letters(visitor))["dead"])


async def is_empty(visitor: Visitor) -> bool:
    return (await letters(visitor)) == {"waiting": 0, "dead": []}


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_it_is_acknowledged_at_once_and_run_until_it_succeeds(kind: str) -> None:
    held: list[Webhook] = []
    with RedisServer() as redis:
        store = {"url": redis.url if kind == "redis" else "memory:"}
        async with webhook(script(held, BAD, BAD, GOOD)) as upstream:
            held.append(upstream)
            line = {"kind": "n8n", "url": upstream.url}
            async with sidegate(line, hooks=QUEUE, ops=OPS, store=store) as visitor:
                assert (await send(visitor, "git", signed("github")))[:2] == (202, b'{"status":"queued"}')
                assert (await send(visitor, "git", signed("github")))[:2] == (200, b'{"status":"duplicate"}')
                await until(lambda: is_empty(visitor))
                assert [asked.body for asked in upstream.asked] == [BODY] * 3
                assert [asked.headers["x-sidegate-attempt"] for asked in upstream.asked] == ["1", "2", "3"]
                assert len({asked.headers["x-sidegate-delivery"] for asked in upstream.asked}) == 1
                assert upstream.asked[0].headers["x-hub-signature-256"] == signed("github")["X-Hub-Signature-256"]
                if kind == "redis":
                    assert redis.call("EXISTS", "sidegate:{hooks}/jobs:data") == b":0"


async def test_what_keeps_failing_is_a_dead_letter_that_can_be_let_run_again(tmp_path: Path) -> None:
    held: list[Webhook] = []
    async with webhook(script(held, BAD, BAD, BAD, GOOD)) as upstream:
        held.append(upstream)
        async with sidegate({"kind": "n8n", "url": upstream.url}, hooks=QUEUE, ops=OPS) as visitor:
            await send(visitor, "git", signed("github"))
            await until(lambda: is_dead(visitor))
            (letter,) = (await letters(visitor))["dead"]
            assert (letter["hook"], letter["tries"], len(upstream.asked)) == ("git", 3, 3)
            path = config(tmp_path, int(visitor.ops_url.rpartition(":")[2]))
            code, output = await run("--config", path, "hooks", "list")
            assert (code, output.split(" ")[0], output.splitlines()[-1]) == (0, letter["id"], "0 waiting")
            assert await run("--config", path, "hooks", "replay", letter["id"]) == (0, "1 due again.\n")
            await until(lambda: is_empty(visitor))
            assert len(upstream.asked) == 4
            code, output = await run("--config", path, "hooks", "replay", letter["id"])
            assert (code, "404" in output) == (1, True)
            assert await run("--config", path, "hooks", "replay", "--all") == (0, "0 due again.\n")
            assert (await run("--config", path, "hooks", "replay"))[0] == 2


async def test_the_queue_is_shown_to_its_owner_alone() -> None:
    async with queued(GOOD) as (visitor, _):
        for method, path in (("GET", ""), ("POST", "/git-1")):
            async with visitor.http.request(method, f"{visitor.ops_url}/admin/hooks{path}") as response:
                assert response.status == 401


async def test_what_may_still_be_running_is_not_run_again_by_itself() -> None:
    async with queued(plain(b"a" * 70_000)) as (visitor, upstream):
        await send(visitor, "git", signed("github"))
        await until(lambda: is_dead(visitor))
        assert len(upstream.asked) == 1


async def test_an_open_circuit_is_no_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 3 tries, and a circuit that refuses more often than that."""
    monkeypatch.setattr(dispatch, "_spread", lambda seconds: 0.01)
    monkeypatch.setattr(dispatch, "LOOK_SECONDS", 0.02)
    held: list[Webhook] = []
    async with webhook(script(held, BAD, GOOD)) as upstream:
        held.append(upstream)
        line = {"kind": "n8n", "url": upstream.url, "breaker": {"failures": 1, "cooldown": 1}}
        async with sidegate(line, hooks=QUEUE, ops=OPS) as visitor:
            await send(visitor, "git", signed("github"))
            await until(lambda: is_held(visitor, 5))
            assert len(upstream.asked) == 1
            await until(lambda: is_empty(visitor))
            assert [asked.headers["x-sidegate-attempt"] for asked in upstream.asked] == ["1", "2"]


async def is_held(visitor: Visitor, times: int) -> bool:
    return await shows(visitor, 'sidegate_webhooks_total{hook="git",outcome="held"}', times, 1_000_000)


async def test_one_that_ended_its_process_each_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process leaves of it: that it was taken."""
    put = MemoryJobs.put

    async def taken_before(jobs: MemoryJobs, name: str, data: bytes, most_bytes: int) -> bool:
        is_kept = await put(jobs, name, data, most_bytes)
        for _ in range(3):
            assert await jobs.take(0)
        return is_kept

    monkeypatch.setattr(MemoryJobs, "put", taken_before)
    async with queued(GOOD) as (visitor, upstream):
        await send(visitor, "git", signed("github"))
        await until(lambda: is_dead(visitor))
        assert upstream.asked == []


async def test_where_the_queue_is_full_the_provider_is_told_and_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(jobs: MemoryJobs, name: str, data: bytes, most_bytes: int) -> bool:
        return False

    async with queued(GOOD) as (visitor, _):
        with monkeypatch.context() as patch:
            patch.setattr(MemoryJobs, "put", full)
            assert (await send(visitor, "git", signed("github")))[0] == 503
        assert (await send(visitor, "git", signed("github")))[0] == 202


async def test_its_bytes_are_bounded_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bodies of 7 MB are 19 MB sealed, where 16 MiB may wait."""
    monkeypatch.setattr(dispatch, "TELL_SECONDS", 0.02)
    hooks = {"git": QUEUE["git"] | {"max_body_bytes": 10_000_000}}
    async with webhook(lambda _: BAD) as upstream:
        line = {"kind": "n8n", "url": upstream.url, "breaker": {"failures": 1, "cooldown": 60}}
        queue = {"max_bytes": 16_777_216}
        async with sidegate(line, hooks=hooks, ops=OPS, hook_queue=queue) as visitor:
            told = []
            for each in (b"a", b"b"):
                body = b'{"said":"' + each * 7_000_000 + b'"}'
                url, headers = f"{visitor.url}/hooks/git", signed("github", body)
                async with visitor.http.post(url, data=BytesIO(body), headers=headers) as response:
                    told.append(response.status)
            assert told == [202, 503]
            size = 4 * 7_000_011 // 3
            await until(lambda: gauge(visitor, "sidegate_webhook_queue", "waiting", 1, 1))
            await until(lambda: gauge(visitor, "sidegate_webhook_queue_bytes", "waiting", size, size + 1000))
            assert await gauge(visitor, "sidegate_webhook_queue_bytes", "dead", 0, 0)


async def gauge(visitor: Visitor, name: str, state: str, least: int, most: int) -> bool:
    return await shows(visitor, f'{name}{{state="{state}"}}', least, most)


async def shows(visitor: Visitor, named: str, least: int, most: int) -> bool:
    """A metric between the two."""
    async with visitor.http.get(f"{visitor.ops_url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as told:
        figures = dict(line.rsplit(" ", 1) for line in (await told.text()).splitlines() if not line.startswith("#"))
    return least <= float(figures.get(named, -1)) <= most


async def test_while_redis_is_away_nothing_is_acknowledged_that_could_be_lost() -> None:
    with RedisServer() as redis:
        async with webhook(lambda _: GOOD) as upstream:
            line = {"kind": "n8n", "url": upstream.url}
            async with sidegate(line, hooks=QUEUE, ops=OPS, store={"url": redis.url}) as visitor:
                redis.kill()
                assert (await send(visitor, "git", signed("github")))[0] == 503
                assert upstream.asked == []


async def test_what_redis_keeps_says_nothing() -> None:
    with RedisServer() as redis:
        async with webhook(lambda _: BAD) as upstream:
            line = {"kind": "n8n", "url": upstream.url}
            async with sidegate(line, hooks=QUEUE, ops=OPS, store={"url": redis.url}) as visitor:
                await send(visitor, "git", signed("github"))
                await until(lambda: is_dead(visitor))
                name = (await letters(visitor))["dead"][0]["id"]
                assert redis.ask("EVAL", SEEN, "0", name) == "0"
                redis.call("HSET", "sidegate:{hooks}/jobs:data", name, "changed")
                headers = {"Authorization": f"Bearer {TOKEN}"}
                asked = len(upstream.asked)
                async with visitor.http.post(f"{visitor.ops_url}/admin/hooks/{name}", headers=headers) as response:
                    assert response.status == 204
                await until(lambda: is_dead(visitor))
                assert len(upstream.asked) == asked


SEEN = """local kept = redis.call('HGET', 'sidegate:{hooks}/jobs:data', ARGV[1])
return string.find(kept, 'evt_1', 1, true) and '1' or '0'"""


def test_pauses_grow_to_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 5.0)
    for tries in range(1, 101):
        least = min(5.0 * 2.0 ** (tries - 1), 600.0)
        assert 0.75 * least <= dispatch.pause(tries) <= 1.25 * least
