"""Answers that take longer than their worker or replica is there, under load: nothing is doubled, nothing hangs."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson

from tests.flows.test_processes import KEYS, Process, serve
from tests.flows.test_replicas import kill
from tests.returning import Refused, Returning
from tests.servers import RedisServer
from tests.sidegate import Event, text_of, tree
from tests.supervised import Caller, eventually, free_ports, supervised
from tests.upstreams import Asked, Script, Webhook, paced, stream, webhook

PIECES = 40
PACE = 0.5  # seconds between the pieces of a slow answer, which so takes twenty
STREAMS = 50
POSTS = 30  # connections, each with up to ten requests a second
DRAIN = {"clients": 1, "answers": 10}
CAPS = {"per_ip": 10 * STREAMS}  # all come from one address; of a killed replica they are remembered for a while


def pieces(question: str) -> list[str]:
    return [f"{question}/{number} é\n" for number in range(PIECES)]


def answer_to(asked: Asked) -> Script:
    question = str(asked.json["chatInput"])
    return stream(*pieces(question)) if question.startswith("quick") else paced(PACE, *pieces(question))


@asynccontextmanager
async def plain_client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield http


@dataclass
class Load:
    """What was asked, and what became of it."""

    http: aiohttp.ClientSession
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    returns: int = 0

    async def listen(self, name: str, url: str, through: str) -> None:
        """One long answer after another."""
        client, number = Returning(self.http, [url]), 0
        await client.session()
        while not self.enough.is_set():
            question = f"{name}-{number}"
            number += 1
            self.sent.append(question)
            try:
                check(question, await (client.sse if through == "sse" else client.ws)(question))
            except Exception as error:  # noqa: BLE001 - every kind of failure is counted
                self.wrong.append(f"{question}: {error!r}")
        self.returns += client.returns

    async def post(self, name: str, port: int) -> None:
        """Short messages, each sent once."""
        caller, number = Caller(port), 0
        await caller.session()
        while not self.enough.is_set():
            question = f"{name}-{number}"
            number += 1
            self.sent.append(question)
            try:
                answer = await caller.ask(question, "application/json")
                assert answer.status == 200, answer
                assert orjson.loads(answer.body)["text"] == "".join(pieces(question))
            except Exception as error:  # noqa: BLE001 - the same
                self.wrong.append(f"{question}: {error!r}")
                caller.close()
            await asyncio.sleep(0.1)
        caller.close()


def check(question: str, events: list[Event]) -> None:
    """It is whole, and each event came once."""
    assert events[-1].name == "done", events[-1]
    assert text_of(events) == "".join(pieces(question)), text_of(events)
    assert [int(event.id.rpartition(":")[2]) for event in events] == list(range(len(events)))


async def test_a_renewal_under_load_loses_and_doubles_no_answer_though_all_take_longer_than_the_drain(
    tmp_path: Path,
) -> None:
    with RedisServer() as redis:
        async with (
            webhook(answer_to) as hook,
            supervised(
                tmp_path,
                {"kind": "n8n", "url": hook.url},
                workers=2,
                store={"url": redis.url},
                drain=DRAIN,
                connections=CAPS,
            ) as server,
            plain_client() as http,
        ):
            load, before = Load(http), set(server.workers())
            async with asyncio.TaskGroup() as tasks:
                for number in range(STREAMS):
                    url, through = f"http://127.0.0.1:{server.port}", "ws" if number % 5 == 0 else "sse"
                    tasks.create_task(load.listen(f"slow-{number}", url, through))
                for number in range(POSTS):
                    tasks.create_task(load.post(f"quick-{number}", server.port))
                server.send(signal.SIGHUP)
                await server.says("all workers renewed")
                load.enough.set()
            assert load.wrong == []
            asked = Counter(str(asked.json["chatInput"]) for asked in hook.asked)
            assert asked == Counter(load.sent)
            assert set(asked.values()) == {1}
            assert load.returns >= STREAMS / 2  # they were sent away, and came back
            assert len(load.sent) > 500  # there was a load
            await eventually(lambda: not before & set(server.workers()))


@dataclass
class Fates:
    """How the answers ended that clients had asked two replicas for, one of which was killed."""

    http: aiohttp.ClientSession
    killed: str
    other: str
    was_killed: asyncio.Event = field(default_factory=asyncio.Event)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    counts: Counter[str] = field(default_factory=Counter)

    async def listen(self, name: str, *, runs_at: str, through: str) -> None:
        """A long answer that runs at one replica and is read through another, until that is killed."""
        client = Returning(self.http, [runs_at, self.other])
        await client.session()
        headers = client.headers | {"Prefer": "respond-async"}
        async with self.http.post(f"{runs_at}/v1/messages", json={"message": name}, headers=headers) as response:
            answer_id = (await response.json())["answer_id"]
        client.urls = [through, self.other]
        try:
            events = await client.resume(answer_id)
        except Refused as refused:  # what it saw last was never journaled
            assert runs_at == self.killed
            assert "This answer was interrupted" in str(refused)  # noqa: PT017 - nor is there another reason
            self.counts["interrupted"] += 1
            return
        if runs_at == self.other:
            check(name, events)
            self.counts["recovered"] += 1
        else:
            check_interrupted(name, events)
            self.counts["interrupted"] += 1

    async def read_later(self, name: str) -> None:
        """An answer that was finished by the replica that is killed, and not read before."""
        client = Returning(self.http, [self.killed, self.other])
        await client.session()
        check(name, await client.sse(name))
        answer_id = (await client.sse(name))[0].fields["answer_id"]
        await self.was_killed.wait()
        client.urls = [self.other]
        check(name, await client.resume(answer_id))
        self.counts["replayed"] += 1

    async def post(self, name: str, url: str) -> None:
        """Short messages, each sent again with its key until it is answered."""
        client, number = Returning(self.http, [url, self.other]), 0
        await client.session()
        while not self.enough.is_set():
            question = f"{name}-{number}"
            number += 1
            while not await self._is_answered(client, question):
                self.counts["again"] += 1
            self.counts["answered"] += 1
            await asyncio.sleep(0.1)

    async def _is_answered(self, client: Returning, question: str) -> bool:
        try:
            events = await client.sse(question)
        except Refused as refused:  # interrupted before it had begun to be answered
            assert "This answer was interrupted" in str(refused)  # noqa: PT017 - nothing is raised where all is well
            return False
        if events[-1].name == "done":
            check(question, events)
            return True
        check_interrupted(question, events)
        return False


def check_interrupted(question: str, events: list[Event]) -> None:
    """It ends in a clear error, behind what there was of it."""
    assert events[-1].fields["code"] == "upstream_error", events[-1]
    assert "interrupted" in events[-1].fields["message"], events[-1]
    assert "".join(pieces(question)).startswith(text_of(events)), text_of(events)
    numbers = [int(event.id.rpartition(":")[2]) for event in events[:-1]]
    assert numbers == list(range(len(numbers)))


async def test_of_two_replicas_one_is_killed_under_load_and_what_can_be_had_of_its_answers_is(tmp_path: Path) -> None:
    async with two_replicas(tmp_path) as (hook, servers), plain_client() as http:
        killed, other = servers
        fates = Fates(http, killed.url, other.url)
        async with asyncio.TaskGroup() as tasks:
            listening = []
            for number in range(STREAMS):
                runs_at = (killed, other)[number % 2].url
                through = (killed, other)[number // 2 % 2].url
                listening.append(tasks.create_task(fates.listen(f"slow-{number}", runs_at=runs_at, through=through)))
            for number in range(5):
                tasks.create_task(fates.read_later(f"quick-later-{number}"))
            for number in range(POSTS):
                tasks.create_task(fates.post(f"quick-{number}", servers[number % 2].url))
            await eventually(lambda: fates.counts["answered"] > 300)
            await kill(killed)
            fates.was_killed.set()
            await asyncio.wait(listening)
            fates.enough.set()
        assert fates.counts["recovered"] == fates.counts["interrupted"] == STREAMS / 2
        assert fates.counts["replayed"] == 5
        asked = Counter(str(asked.json["chatInput"]) for asked in hook.asked)
        assert all(times == 1 for question, times in asked.items() if question.startswith("slow"))
        assert asked.total() - len(asked) <= POSTS / 2  # twice at most what the killed one was answering
        assert max(asked.values()) <= 2


@asynccontextmanager
async def two_replicas(folder: Path) -> AsyncIterator[tuple[Webhook, list[Process]]]:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        hook = await stack.enter_async_context(webhook(answer_to))
        servers = []
        for at in range(2):
            port, ops_port = free_ports()
            listen = {"listen": {"host": "127.0.0.1", "port": port}, "ops": {"port": ops_port}}
            upstream = {"kind": "n8n", "url": hook.url, "max_concurrent": 200}
            file = folder / f"{at}.yaml"
            file.write_bytes(orjson.dumps(tree(upstream, store={"url": redis.url}, connections=CAPS, **listen)))
            process = serve("--config", str(file), port=port, ops_port=ops_port, env=KEYS)
            servers.append(await stack.enter_async_context(process))
        yield hook, servers
