"""Two processes on one Redis: an answer that runs at one is everything at the other, also when the first is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis

from proxy.edge.live import Live
from proxy.telemetry import Metrics
from tests.flows.test_answers import WORDS, Slow, join, n8n, resume
from tests.flows.test_processes import KEYS, Process, serve
from tests.servers import RedisServer, free_port
from tests.sidegate import BROWSER, Event, Visitor, parse_sse, sidegate, text_of, tree
from tests.upstreams import Webhook, stream, webhook

AT_ONCE = "all at once"


@dataclass
class Reading:
    """A stream of events as far as it was read."""

    response: aiohttp.ClientResponse
    body: bytes = b""

    @property
    def events(self) -> list[Event]:
        return parse_sse(self.body[: self.body.rfind(b"\n\n") + 2].decode())

    @property
    def id(self) -> str:
        answer_id: str = self.events[0].fields["answer_id"]
        return answer_id

    async def until(self, number: int) -> None:
        async with asyncio.timeout(20):
            while not self.events or numbers(self.events)[-1] < number:
                self.body += await self.response.content.readany()

    async def rest(self) -> list[Event]:
        self.body += await self.response.read()
        return self.events


@dataclass
class Pair:
    """Visitors of one session at two replicas, with what is behind them."""

    a: Visitor
    b: Visitor
    processes: list[Process]
    hook: Webhook
    redis: RedisServer
    slow: Slow

    async def session(self) -> None:
        await self.a.session()
        self.b.headers = dict(self.a.headers)

    async def begin(self, words: int) -> Reading:
        """An answer at A of which so many words were seen there, each an event of its own."""
        reading = Reading(await self.a.post())
        for word in range(1, words + 1):
            self.slow.let(word)
            await reading.until(word)
        return reading


@asynccontextmanager
async def pair(
    folder: Path, *, fake_clock: bool = False, **sections: Any
) -> AsyncIterator[Pair]:  # Any: configuration as written
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer(fake_clock=fake_clock))
        slow = Slow(WORDS)
        hook = await stack.enter_async_context(
            webhook(lambda asked: stream(*WORDS) if AT_ONCE.encode() in asked.body else slow.script(asked))
        )
        processes = []
        for at in range(2):
            port, ops_port = free_port(), free_port()
            listen = {"listen": {"host": "127.0.0.1", "port": port}, "ops": {"port": ops_port}}
            file = folder / f"{at}.yaml"
            file.write_bytes(orjson.dumps(tree(n8n(hook.url), store={"url": redis.url}, **listen, **sections)))
            process = serve("--config", str(file), port=port, ops_port=ops_port, env=KEYS)
            processes.append(await stack.enter_async_context(process))
        # Closed first, so that the processes have nothing to wait for when they end.
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        stack.callback(slow.let, len(WORDS))
        visitors = [Visitor(http, process.url, process.ops_url, Live(Metrics())) for process in processes]
        yield Pair(visitors[0], visitors[1], processes, hook, redis, slow)


async def state(visitor: Visitor, answer_id: str, wanted: str, text: str | None = None) -> dict[str, Any]:
    """Ask until it stands like that, with that text."""
    headers = visitor.headers | {"Accept": "application/json"}
    async with asyncio.timeout(20):
        while True:
            async with visitor.http.get(f"{visitor.url}/v1/answers/{answer_id}", headers=headers) as response:
                found: dict[str, Any] = await response.json()
                assert response.status == 200, found
                if found["status"] == wanted and text in (None, found["text"]):
                    return found
            await asyncio.sleep(0.02)


async def kill(server: Process) -> None:
    """With its workers, and the supervisor first, which would start others."""
    workers = children(server.process.pid)
    server.process.kill()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    await server.process.wait()


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def numbers(events: list[Event]) -> list[int]:
    return [int(event.id.rpartition(":")[2]) for event in events]


async def test_an_answer_that_runs_here_is_joined_there_each_event_once(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        reading = await both.begin(3)
        async with asyncio.TaskGroup() as tasks:
            whole = tasks.create_task(join(both.b, reading.id))
            rest = tasks.create_task(join(both.b, reading.id, 2))
            for word in range(4, len(WORDS) + 1):
                both.slow.let(word)
                await reading.until(word)
        events = await reading.rest()
        assert text_of(whole.result()) == "".join(WORDS)
        assert whole.result()[-1].name == "done"
        assert numbers(whole.result()) == list(range(len(WORDS) + 2))
        assert rest.result() == whole.result()[3:]
        assert events == whole.result()
        assert len(both.hook.asked) == 1


@pytest.mark.parametrize("through", ["sse", "ws"])
async def test_cut_at_every_event_and_resumed_at_the_other_the_answer_is_byte_exact(
    through: str, tmp_path: Path
) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        reading = await both.begin(len(WORDS))
        whole = await reading.rest()
        assert len(whole) == len(WORDS) + 2
        answer_id = reading.id
        socket = await both.b.http.ws_connect(f"{both.b.url}/v1/ws", headers=both.b.headers)
        for after in range(-1, len(whole) - 1):
            if through == "sse":
                rest = await join(both.b, answer_id, after)
            else:
                rest = await resume(socket, answer_id, after)
            assert whole[: after + 1] + rest == whole
        await socket.close()
        headers = both.b.headers | {"Last-Event-ID": whole[-1].id}
        async with both.b.http.get(f"{both.b.url}/v1/answers/{answer_id}", headers=headers) as response:
            assert response.status == 204
        assert len(both.hook.asked) == 1


async def test_a_message_to_one_may_be_asked_for_at_the_other(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        async with both.a.post(headers={"Prefer": "respond-async"}) as response:
            assert response.status == 202
            answer_id = (await response.json())["answer_id"]
        await state(both.b, answer_id, "running")  # at once, although it has only just begun
        both.slow.let(len(WORDS))
        assert (await state(both.b, answer_id, "done"))["text"] == "".join(WORDS)


async def test_a_message_sent_again_to_the_other_joins_its_answer_or_gets_it_whole(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "k1"}
    async with pair(tmp_path) as both:
        await both.session()
        first = Reading(await both.a.post(headers=key))
        both.slow.let(1)
        await first.until(1)
        async with asyncio.TaskGroup() as tasks:
            joined = tasks.create_task(both.b.events(headers=key))
            collected = tasks.create_task(collect(both.b, key))
            await state(both.b, first.id, "running", WORDS[0])
            both.slow.let(len(WORDS))
        assert await first.rest() == joined.result() == await both.b.events(headers=key)
        assert collected.result() == {"answer_id": first.id, "text": "".join(WORDS)}
        async with both.b.post(headers=key | {"Prefer": "respond-async"}) as response:
            assert response.headers["Location"] == f"/v1/answers/{first.id}"
        assert len(both.hook.asked) == 1
        assert (await both.b.problem("another", headers=key))[1]["code"] == "conflict"
        await both.session()
        await both.b.events(AT_ONCE, headers=key)  # another session's keys are its own
        assert len(both.hook.asked) == 2


async def collect(visitor: Visitor, headers: dict[str, str]) -> dict[str, Any]:
    async with visitor.post(accept="application/json", headers=headers) as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def test_sent_to_both_at_once_many_times_it_runs_once(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "k1"}
    async with pair(tmp_path) as both:
        await both.session()
        answers = await asyncio.gather(*(one.events(AT_ONCE, headers=key) for one in (both.a, both.b) * 10))
        assert all(events == answers[0] for events in answers)
        assert text_of(answers[0]) == "".join(WORDS)
        assert len(both.hook.asked) == 1


async def test_a_key_is_free_again_when_its_message_was_refused_or_its_answer_failed(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "k1"}
    async with pair(tmp_path, content={"max_chars": 10}) as both:
        await both.session()
        assert (await both.a.problem("far too long", headers=key))[0] == 413
        reading = Reading(await both.a.post("short", headers=key))
        both.slow.let(1)
        await reading.until(1)
        await state(both.b, reading.id, "running", WORDS[0])
        await kill(both.processes[0])
        both.slow.let(len(WORDS))
        interrupted = await both.b.events("short", headers=key)  # the first to ask buries it
        assert interrupted[-1].fields["code"] == "upstream_error"
        assert text_of(await both.b.events("short", headers=key)) == "".join(WORDS)
        assert len(both.hook.asked) == 2
        reading.response.close()


async def test_while_redis_is_down_a_key_counts_at_each_replica_alone(tmp_path: Path) -> None:
    key = {"Idempotency-Key": "k1"}
    async with pair(tmp_path) as both:
        await both.session()
        both.redis.kill()
        for one in (both.a, both.a, both.b, both.b):
            assert text_of(await one.events(AT_ONCE, headers=key)) == "".join(WORDS)
        assert len(both.hook.asked) == 2


@pytest.mark.parametrize("through", ["http", "ws"])
async def test_it_is_stopped_through_the_other_and_its_upstream_is_closed(through: str, tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        reading = await both.begin(1)
        await state(both.b, reading.id, "running")
        if through == "http":
            url = f"{both.b.url}/v1/answers/{reading.id}"
            async with both.b.http.delete(url, headers=both.b.headers) as stopped:
                assert stopped.status == 204
        else:
            async with both.b.http.ws_connect(f"{both.b.url}/v1/ws", headers=both.b.headers) as socket:
                await socket.send_json({"type": "stop", "answer_id": reading.id})
                await socket.send_json({"type": "ping"})
                assert (await socket.receive_json(timeout=10))["type"] == "pong"
        async with asyncio.timeout(5):
            await both.hook.asked[0].closed.wait()
        last = (await reading.rest())[-1]
        assert (last.name, last.fields["stopped"]) == ("done", True)
        assert (await join(both.b, reading.id))[-1] == last


async def test_to_another_session_it_does_not_exist_at_the_other_either(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        answer_id = (await both.a.events(AT_ONCE))[0].fields["answer_id"]
        await both.b.session()
        for method in ("GET", "DELETE"):
            url = f"{both.b.url}/v1/answers/{answer_id}"
            async with both.b.http.request(method, url, headers=both.b.headers) as response:
                assert response.status == 404
                assert WORDS[0] not in await response.text()


async def test_of_a_killed_replica_finished_answers_are_replayed_and_others_end_in_an_error(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        whole = await both.a.events(AT_ONCE)
        reading = await both.begin(5)
        await state(both.b, reading.id, "running", "".join(WORDS[:5]))
        async with asyncio.TaskGroup() as tasks:
            joined = tasks.create_task(join(both.b, reading.id))
            await kill(both.processes[0])
            async with asyncio.timeout(10):
                events = await joined
        reading.response.close()
        assert text_of(events) == "".join(WORDS[:5])
        assert numbers(events) == list(range(7))
        assert (events[-1].name, events[-1].fields["code"]) == ("error", "upstream_error")
        assert "interrupted" in events[-1].fields["message"]
        assert await join(both.b, reading.id, 2) == events[3:]  # and so it stays
        assert (await state(both.b, reading.id, "failed"))["error"] == events[-1].fields
        assert await join(both.b, whole[0].fields["answer_id"]) == whole
        async with both.b.http.get(f"{both.b.ops_url}/metrics") as metrics:
            assert "sidegate_answers_interrupted_total 1.0" in await metrics.text()


async def test_redis_may_die_while_it_answers_and_the_answer_is_whole(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        reading = await both.begin(5)
        async with asyncio.TaskGroup() as tasks:
            joined = tasks.create_task(join(both.b, reading.id))
            await state(both.b, reading.id, "running", "".join(WORDS[:5]))
            both.redis.kill()
            both.slow.let(20)
            await reading.until(6)
            both.redis.start()  # empty: everything is written again
            both.slow.let(len(WORDS))
        assert text_of(await reading.rest()) == "".join(WORDS)
        assert joined.result() == reading.events
        assert await join(both.b, reading.id) == joined.result()


async def test_a_listener_at_the_other_keeps_it_running(tmp_path: Path) -> None:
    async with pair(tmp_path, streams={"grace": 1}) as both:
        await both.session()
        reading = await both.begin(1)
        async with asyncio.TaskGroup() as tasks:
            joined = tasks.create_task(join(both.b, reading.id))
            await state(both.b, reading.id, "running", WORDS[0])
            reading.response.close()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(both.hook.asked[0].closed.wait(), 2)
            both.slow.let(len(WORDS))
        assert text_of(joined.result()) == "".join(WORDS)


async def test_without_a_listener_anywhere_the_grace_ends_it(tmp_path: Path) -> None:
    async with pair(tmp_path, streams={"grace": 0.5}) as both:
        await both.session()
        reading = await both.begin(1)
        other = await both.b.http.get(f"{both.b.url}/v1/answers/{reading.id}", headers=both.b.headers)
        await Reading(other).until(1)
        reading.response.close()
        other.close()
        async with asyncio.timeout(10):
            await both.hook.asked[0].closed.wait()


async def test_a_replica_that_ends_tells_who_listens_through_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        reading = await both.begin(2)
        url = f"{both.b.url}/v1/answers/{reading.id}"
        other = Reading(await both.b.http.get(url, headers=both.b.headers))
        await other.until(2)
        both.processes[1].process.terminate()
        events = await other.rest()
        assert events[-1].fields["code"] == "draining"
        both.slow.let(len(WORDS))
        rest = await join(both.a, reading.id, int(events[-1].id.rpartition(":")[2]))
        assert text_of(events) + text_of(rest) == "".join(WORDS)
        reading.response.close()


async def test_what_ran_at_a_replica_that_was_told_to_end_says_so_at_the_other(tmp_path: Path) -> None:
    """Its ten seconds are its own; here its answers end in time."""
    async with pair(tmp_path) as both:
        await both.session()
        reading = await both.begin(2)
        both.processes[0].process.terminate()
        both.slow.let(len(WORDS))
        assert text_of(await reading.rest()) == "".join(WORDS)
        await both.processes[0].process.wait()
        assert text_of(await join(both.b, reading.id)) == "".join(WORDS)


@pytest.mark.parametrize("policy", ["grace", "cancel"])
async def test_a_replica_that_ends_finishes_its_answers_for_those_it_sent_away(policy: str, tmp_path: Path) -> None:
    drain = {"clients": 0.1, "answers": 30}
    async with pair(tmp_path, drain=drain, streams={"on_disconnect": policy}) as both:
        await both.session()
        sse = await both.begin(2)
        socket = await both.a.http.ws_connect(f"{both.a.url}/v1/ws", headers=both.a.headers)
        await socket.send_json({"type": "resume", "answer_id": sse.id, "after": 1})
        assert (await socket.receive_json(timeout=10))["text"] == WORDS[1]
        key = {"Idempotency-Key": "k1"}
        async with asyncio.TaskGroup() as tasks:
            plain = tasks.create_task(refusal(both.a, key))
            async with asyncio.timeout(20):
                while len(both.hook.asked) < 2:  # noqa: ASYNC110 - it happens in another process
                    await asyncio.sleep(0.02)
            both.processes[0].process.terminate()
        parted = (await sse.rest())[-1]
        assert (parted.name, parted.fields["code"], parted.id) == ("error", "draining", f"{sse.id}:2")
        frame = await socket.receive_json(timeout=10)
        assert (frame["type"], frame["code"], frame["id"]) == ("error", "draining", f"{sse.id}:2")
        assert (await socket.receive()).data == 1001
        status, code, place = plain.result()
        assert (status, code) == (503, "draining")
        async with asyncio.TaskGroup() as tasks:
            rest = tasks.create_task(join(both.b, sse.id, 2))
            again = tasks.create_task(both.b.events(headers=key))
            await state(both.b, sse.id, "running", "".join(WORDS[:2]))
            both.slow.let(len(WORDS))
        assert text_of(rest.result()) == "".join(WORDS[2:])
        assert numbers(rest.result()) == list(range(3, 3 + len(rest.result())))
        assert text_of(again.result()) == "".join(WORDS)
        assert place == f"/v1/answers/{again.result()[0].fields['answer_id']}"
        assert len(both.hook.asked) == 2
        assert await both.processes[0].process.wait() == 0


async def refusal(visitor: Visitor, headers: dict[str, str]) -> tuple[int, str, str]:
    async with visitor.post(accept="application/json", headers=headers) as response:
        return response.status, (await response.json(content_type=None))["code"], response.headers["Location"]


async def test_an_answer_that_takes_longer_than_its_replica_may_ends_in_draining_for_all(tmp_path: Path) -> None:
    async with pair(tmp_path, drain={"clients": 0.1, "answers": 0.5}) as both:
        await both.session()
        reading = await both.begin(2)
        both.processes[0].process.terminate()
        await reading.rest()
        events = await join(both.b, reading.id)
        assert text_of(events) == "".join(WORDS[:2])
        assert (events[-1].name, events[-1].fields["code"], numbers(events)[-1]) == ("error", "draining", 3)
        assert await both.processes[0].process.wait() == 0


async def test_without_redis_other_replicas_answers_are_unavailable_and_own_ones_are_not(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        await both.session()
        whole = await both.a.events(AT_ONCE)
        both.redis.kill()
        url = f"/v1/answers/{whole[0].fields['answer_id']}"
        async with both.b.http.get(both.b.url + url, headers=both.b.headers) as response:
            assert response.status == 503
            assert "Retry-After" in response.headers
        async with both.a.http.get(both.a.url + url, headers=both.a.headers) as response:
            assert parse_sse(await response.text()) == whole


async def dump(server: RedisServer) -> list[bytes | str]:
    """All names, and what lists and hashes hold, which is how answers are kept."""
    found: list[bytes | str] = []
    async with Redis.from_url(server.url) as client:
        async for name in client.scan_iter():
            found.append(name)
            match await client.type(name):
                case b"list":
                    found += await client.lrange(name, 0, -1)
                case b"hash":
                    found += [part for pair in (await client.hgetall(name)).items() for part in pair]
    return found


async def test_what_redis_holds_shows_neither_words_nor_sessions() -> None:
    with RedisServer() as redis:
        async with webhook(lambda _: stream("a secret word")) as hook:
            async with sidegate(n8n(hook.url), store={"url": redis.url}) as visitor:
                opened = await visitor.session()
                events = await visitor.events("asked in private")
            everything = b"".join(part for part in await dump(redis) if isinstance(part, bytes))
    assert b":batches" in everything
    for word in ("secret word", "private", opened["session_id"], events[0].fields["answer_id"], BROWSER["User-Agent"]):
        assert word.encode() not in everything
