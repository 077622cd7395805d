"""Between the guard and the upstream: so many at a time, which upstream, and which one next when it fails."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import jwt
import orjson
import pytest

from tests.servers import RedisServer, free_port
from tests.sidegate import ORIGIN, Visitor, sidegate, text_of
from tests.until import until
from tests.upstreams import BEGIN, END, HEAD, LAST, Asked, Script, Step, chunk, item, plain, stream, webhook


def n8n(url: str, **more: Any) -> dict[str, Any]:  # Any: configuration as written
    return {"kind": "n8n", "url": url, **more}


async def gauges(visitor: Visitor) -> dict[str, float]:
    async with visitor.http.get(f"{visitor.ops_url}/metrics", headers={"Accept": "application/json"}) as response:
        found: dict[str, float] = orjson.loads(await response.read())["metrics"]
        return found


async def waiting(visitor: Visitor, number: int) -> None:
    """Until so many wait; who calls has the deadline."""
    while (await gauges(visitor))["sidegate_upstream_waiting"] != number:  # noqa: ASYNC110 - of another listener
        await asyncio.sleep(0.01)


def held(release: asyncio.Event) -> Script:
    return [Step(HEAD + chunk(BEGIN)), Step(wait=release), Step(chunk(item("hello")) + chunk(END) + LAST)]


async def test_one_more_than_may_run_waits_and_one_more_than_may_wait_is_a_503() -> None:
    release = asyncio.Event()
    async with (
        webhook(lambda _: held(release)) as hook,
        sidegate(n8n(hook.url, max_concurrent=1, max_waiting=1, fallback="Too busy.")) as visitor,
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
    ):
        await visitor.session()
        first = tasks.create_task(visitor.events())
        await until(lambda: len(hook.asked) == 1)
        second = tasks.create_task(visitor.events())
        await waiting(visitor, 1)
        assert (await gauges(visitor))["sidegate_upstream_active"] == 1
        async with visitor.post() as response:
            problem = orjson.loads(await response.read())
            assert (response.status, problem["code"]) == (503, "upstream_unavailable")
            assert problem["detail"] == "Too busy."
            assert int(response.headers["Retry-After"]) == problem["retry_after"] >= 1
        assert len(hook.asked) == 1
        release.set()
        assert [text_of(await each) for each in (first, second)] == ["hello", "hello"]
        assert len(hook.asked) == 2


async def test_a_stopped_answer_that_waited_frees_its_place_and_asks_nobody() -> None:
    release = asyncio.Event()
    async with (
        webhook(lambda _: held(release)) as hook,
        sidegate(n8n(hook.url, max_concurrent=1, max_waiting=1)) as visitor,
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
    ):
        await visitor.session()
        first = tasks.create_task(visitor.events())
        await until(lambda: len(hook.asked) == 1)
        async with visitor.post(headers={"Prefer": "respond-async"}) as response:
            assert response.status == 202
            place = visitor.url + response.headers["Location"]
        await waiting(visitor, 1)
        async with visitor.http.delete(place, headers=visitor.headers) as response:
            assert response.status == 204
        await waiting(visitor, 0)
        release.set()
        await first
        assert len(hook.asked) == 1


async def test_when_the_circuit_opens_who_waits_is_told_at_once() -> None:
    release = asyncio.Event()

    def script(asked: Asked) -> Script:
        return [Step(wait=release), *plain(b"no", "500 No")]

    async with (
        webhook(script) as hook,
        sidegate(n8n(hook.url, max_concurrent=1, breaker={"failures": 1}, fallback="Later.")) as visitor,
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
    ):
        await visitor.session()
        first = tasks.create_task(visitor.problem())
        await until(lambda: len(hook.asked) == 1)
        others = [tasks.create_task(visitor.problem()) for _ in range(3)]
        await waiting(visitor, 3)
        release.set()
        status, problem = await first
        assert (status, problem["code"]) == (502, "upstream_error")
        assert problem["detail"] != "Later."  # the fallback is for what isn't asked
        for other in others:
            status, problem = await other
            assert (status, problem["code"], problem["detail"]) == (503, "upstream_unavailable", "Later.")
        assert len(hook.asked) == 1


def two(first: str, second: str, **more: Any) -> dict[str, Any]:
    """Sections of a site with two upstreams: nearly every session is a's."""
    share = [{"name": "a", "weight": 1000}, {"name": "b"}]
    return {
        "upstreams": {"a": n8n(first, **more), "b": n8n(second)},
        "sites": {"shop": {"origins": [ORIGIN], "upstream": share}},
    }


async def test_a_session_stays_with_its_upstream_and_the_token_names_it() -> None:
    halves = {"shop": {"origins": [ORIGIN], "upstream": ["a", "b"]}}
    async with (
        webhook(lambda _: stream("from a")) as a,
        webhook(lambda _: stream("from b")) as b,
        sidegate({}, **two(a.url, b.url) | {"sites": halves}) as visitor,
    ):
        texts = set()
        for _ in range(20):
            await visitor.session()
            answers = {text_of(await visitor.events()) for _ in range(3)}
            assert len(answers) == 1
            texts |= answers
        assert texts == {"from a", "from b"}
    for name, hook in (("a", a), ("b", b)):
        routes = {
            jwt.decode(asked.headers["authorization"][7:], options={"verify_signature": False})["route"]
            for asked in hook.asked
        }
        assert routes == {name}


async def test_an_upstream_that_cannot_be_reached_is_replaced_by_the_next_then_left_alone() -> None:
    async with (
        webhook(lambda _: stream("from b")) as b,
        sidegate({}, **two(f"http://127.0.0.1:{free_port()}/", b.url, breaker={"failures": 2})) as visitor,
    ):
        await visitor.session()
        for _ in range(4):
            events = await visitor.events()
            assert (text_of(events), events[-1].name) == ("from b", "done")
        assert len(b.asked) == 4
        found = await gauges(visitor)
        assert found["sidegate_failovers_total"] == 4
        assert found["sidegate_breaker_open"] == 1


@pytest.mark.parametrize(
    "script",
    [[Step()], plain(b"no", "500 No"), [Step(HEAD + chunk(BEGIN + item("half"))), Step()]],
    ids=["hangs up", "500", "breaks off"],
)
async def test_a_message_that_may_have_arrived_is_not_given_to_another_upstream(script: Script) -> None:
    async with (
        webhook(lambda _: script) as a,
        webhook(lambda _: stream("from b")) as b,
        sidegate({}, **two(a.url, b.url)) as visitor,
    ):
        await visitor.session()
        async with visitor.post(accept="application/json") as response:
            assert response.status == 502
        assert (len(a.asked), len(b.asked)) == (1, 0)


async def test_where_none_can_be_asked_the_last_ones_answer_counts() -> None:
    nobody = f"http://127.0.0.1:{free_port()}/"
    async with sidegate({}, **two(nobody, nobody, breaker={"failures": 1})) as visitor:
        await visitor.session()
        status, problem = await visitor.problem()
        assert (status, problem["code"]) == (502, "upstream_error")


async def circuit(visitor: Visitor, state: str) -> None:
    """Until the circuit is in that state; who calls has the deadline."""
    while True:
        async with visitor.http.get(f"{visitor.ops_url}/health") as response:
            if orjson.loads(await response.read())["services"]["breaker"]["support"] == state:
                return
        await asyncio.sleep(0.01)


async def test_what_one_replica_found_out_all_know_and_one_of_them_tries_it() -> None:
    fails, release = True, asyncio.Event()

    def script(_: Asked) -> Script:
        return plain(b"no", "500 No") if fails else held(release)

    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        hook = await stack.enter_async_context(webhook(script))
        upstream = n8n(hook.url, breaker={"failures": 2, "cooldown": 0.5})
        visitors = [await stack.enter_async_context(sidegate(upstream, store={"url": redis.url})) for _ in range(3)]
        await stack.enter_async_context(asyncio.timeout(20))
        for visitor in visitors:
            await visitor.session()
        for _ in range(2):
            status, _problem = await visitors[0].problem()
            assert status == 502
        for visitor in visitors:
            await circuit(visitor, "open")
        fails = False
        for visitor in visitors:
            await circuit(visitor, "half_open")

        async def ask(visitor: Visitor) -> int:
            async with visitor.post() as response:
                await response.read()
                return int(response.status)

        async with asyncio.TaskGroup() as tasks:
            asking = {tasks.create_task(ask(visitor)) for visitor in visitors * 3}
            while len(asking) > 1:
                done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                assert {task.result() for task in done} == {503}
            assert len(hook.asked) == 3  # the probe is the third
            release.set()
            (probe,) = asking
            assert await probe == 200
        for visitor in visitors:
            await circuit(visitor, "closed")
        assert [await ask(visitor) for visitor in visitors] == [200] * 3
