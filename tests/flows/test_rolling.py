"""Workers are renewed while clients stream and post: nobody notices."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import orjson

from tests.servers import RedisServer
from tests.sidegate import parse_sse, text_of
from tests.supervised import Answer, Caller, Supervised, eventually, supervised
from tests.upstreams import Asked, Script, paced, stream, webhook

PIECES = 15
PACE = 0.2  # seconds between the pieces of a slow answer, which so takes three
STREAMS = 50
POSTS = 20  # connections, each with ten requests a second
EVENTS, JSON = "text/event-stream", "application/json"


def pieces(question: str) -> list[str]:
    return [f"{question}/{number} é\n" for number in range(PIECES)]


def answer_to(asked: Asked) -> Script:
    question = str(asked.json["chatInput"])
    return stream(*pieces(question)) if question.startswith("quick") else paced(PACE, *pieces(question))


class Load:
    """Clients that go on until `enough`, and what became of each of their messages."""

    def __init__(self, port: int) -> None:
        self.enough = asyncio.Event()
        self.sent: list[str] = []
        self.wrong: list[str] = []
        self.connections = 0
        self._port = port

    async def run(self, name: str, accept: str, pause: float) -> None:
        caller, number = Caller(self._port), 0
        await caller.session()
        while not self.enough.is_set():
            question = f"{name}-{number}"
            number += 1
            self.sent.append(question)
            try:
                self.judge(question, await caller.ask(question, accept), accept)
            except Exception as error:  # noqa: BLE001 - every kind of failure is counted
                self.wrong.append(f"{question}: {error!r}")
                caller.close()
            await asyncio.sleep(pause)
        self.connections += caller.connections
        caller.close()

    def judge(self, question: str, answer: Answer, accept: str) -> None:
        if answer.status != 200:
            raise ValueError(f"{answer.status} {answer.body!r}")
        if accept == JSON:
            text = orjson.loads(answer.body)["text"]
        else:
            events = parse_sse(answer.body.decode())
            text = text_of(events)
            assert [event.name for event in events[-1:]] == ["done"], events
        assert text == "".join(pieces(question)), text


async def renew(server: Supervised, times: int) -> None:
    before = set(server.workers())
    server.send(signal.SIGHUP)
    await server.says("all workers renewed", times)
    assert not before & set(server.workers())


async def test_two_renewals_under_load_lose_no_request_and_no_answer(tmp_path: Path) -> None:
    with RedisServer() as redis:
        async with (
            webhook(answer_to) as hook,
            supervised(tmp_path, {"kind": "n8n", "url": hook.url}, workers=2, store={"url": redis.url}) as server,
        ):
            load = Load(server.port)
            async with asyncio.TaskGroup() as tasks:
                for number in range(STREAMS):
                    tasks.create_task(load.run(f"slow-{number}", EVENTS, pause=0))
                for number in range(POSTS):
                    tasks.create_task(load.run(f"quick-{number}", JSON, pause=0.1))
                for number in range(5):  # seldom heard of
                    tasks.create_task(load.run(f"quick-seldom-{number}", JSON, pause=2))
                await renew(server, 1)
                await renew(server, 2)
                load.enough.set()
            assert load.wrong == []
            asked = Counter(str(asked.json["chatInput"]) for asked in hook.asked)
            assert asked == Counter(load.sent)
            assert set(asked.values()) == {1}
            assert len(load.sent) > 500  # there was a load


async def test_a_single_worker_is_renewed_without_loss_too(tmp_path: Path) -> None:
    async with webhook(answer_to) as hook, supervised(tmp_path, {"kind": "n8n", "url": hook.url}) as server:
        load = Load(server.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run("slow", EVENTS, pause=0))
            for number in range(5):
                tasks.create_task(load.run(f"quick-{number}", JSON, pause=0.05))
            await renew(server, 1)
            load.enough.set()
        assert load.wrong == []
        assert Counter(str(asked.json["chatInput"]) for asked in hook.asked) == Counter(load.sent)


async def test_an_answer_that_runs_at_sigterm_is_finished_and_the_exit_status_is_0(tmp_path: Path) -> None:
    async with webhook(answer_to) as hook, supervised(tmp_path, {"kind": "n8n", "url": hook.url}) as server:
        caller = Caller(server.port)
        await caller.session()
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(caller.ask("slow", EVENTS))
            await eventually(lambda: bool(hook.asked))
            server.send(signal.SIGTERM)
        Load(server.port).judge("slow", answering.result(), EVENTS)
        caller.close()
        assert await server.ended() == 0
