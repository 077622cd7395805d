"""Two processes on one Redis: who is ended at one is refused at the other within a second, whatever befalls Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.flows.test_answers import join
from tests.flows.test_replicas import Pair, kill, pair
from tests.flows.test_sessions import ended, leave
from tests.sidegate import Visitor, parse_sse
from tests.until import until

WITHIN = 1.0  # seconds


async def status(visitor: Visitor) -> int:
    """What a request that needs the session gets: 404 where it is good, since there is no such answer."""
    async with visitor.http.get(f"{visitor.url}/v1/answers/none", headers=visitor.headers) as response:
        return response.status


async def gone(visitor: Visitor) -> bool:
    return await status(visitor) == 401


async def other_session(both: Pair) -> dict[str, str]:
    """The headers of a session besides; both visitors have the first one again."""
    headers = dict(both.a.headers)
    await both.session()
    others, both.a.headers = both.a.headers, headers
    both.b.headers = dict(headers)
    return others


async def test_who_leaves_at_one_is_refused_at_the_other_and_all_that_is_open_there_ends(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        others = await other_session(both)
        channel = await both.b.http.get(f"{both.b.url}/v1/events", headers=both.b.headers)
        reading = await both.begin(1)
        async with (
            both.b.http.ws_connect(f"{both.b.url}/v1/ws", headers=both.b.headers) as socket,
            asyncio.TaskGroup() as tasks,
        ):
            joined = tasks.create_task(join(both.b, reading.id))
            await leave(both.a)
            async with asyncio.timeout(WITHIN):
                await until(lambda: gone(both.b), WITHIN)
                await ended(socket)
                last = parse_sse((await channel.read()).decode())[-1]
                assert (last.name, last.fields["code"]) == ("error", "session_invalid")
                assert (await reading.rest())[-1].fields["code"] == "session_invalid"
                assert (await joined)[-1].fields["code"] == "session_invalid"
                await both.hook.asked[0].closed.wait()
        for visitor in (both.a, both.b):
            visitor.headers = others
            assert await status(visitor) == 404


async def test_a_redis_that_loses_everything_gets_the_revocations_back_from_who_knows_them(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        others = await other_session(both)
        await leave(both.a)
        await until(lambda: gone(both.b), WITHIN)
        both.redis.kill()
        assert await gone(both.b)
        both.redis.start()
        await until(lambda: known(both), 10)
        await kill(both.processes[0])  # whatever it knew
        assert await gone(both.b)
        both.b.headers = others
        assert await status(both.b) == 404


async def known(both: Pair) -> bool:
    return both.redis.call("XLEN", "sidegate:{revoked}:log") == b":1"


async def test_without_redis_leaving_is_an_error_and_it_is_done_when_redis_is_back(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        both.redis.kill()
        async with both.a.http.delete(f"{both.a.url}/v1/session", headers=both.a.headers) as response:
            assert response.status == 503
            assert (await response.json())["code"] == "upstream_unavailable"
            assert "Retry-After" in response.headers
        assert await gone(both.a)
        assert await status(both.b) == 503  # answers of other replicas can't be looked at; the session is still good
        both.redis.start()
        await until(lambda: gone(both.b), 10)


async def test_a_replica_that_hears_nothing_for_too_long_refuses_sessions_until_it_does(tmp_path: Path) -> None:
    async with pair(tmp_path, session={"revocation_patience": 1}) as both:
        await both.session()

        async def ticket() -> int:
            url = f"{both.b.url}/v1/session/ticket"
            async with both.b.http.post(url, headers=both.b.headers) as response:
                return response.status

        async def refused() -> bool:
            return await ticket() == 503

        async with both.b.http.ws_connect(f"{both.b.url}/v1/ws", headers=both.b.headers) as socket:
            both.redis.kill()
            await until(refused, 10)
            await socket.send_json({"type": "message", "message": "hello"})
            assert (await socket.receive_json(timeout=10))["code"] == "upstream_unavailable"
            both.redis.start()

            async def good() -> bool:
                return await ticket() == 200

            await until(good, 10)


async def test_where_redis_and_every_replica_lose_what_they_knew_older_sessions_end(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        both.redis.kill()
        both.redis.start()
        both.redis.call("SET", "sidegate:{revoked}:name", "another 9999999999")
        await until(lambda: gone(both.a), 10)
        await until(lambda: gone(both.b), 10)
