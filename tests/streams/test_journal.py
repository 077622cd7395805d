"""Answers are written in batches that another replica reads once each, whatever Redis loses in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from proxy.errors import OutputBlocked, UpstreamError, UpstreamUnavailable
from proxy.model import Client, Message, Request, Session, Site
from proxy.store import ALIVE, Batch, Journals, Kept, Look, StoreDown
from proxy.store.redis.journals import RedisJournals
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from proxy.streams import StreamSettings, journal
from proxy.streams.answer import Answer
from proxy.streams.journal import Journal
from proxy.streams.remote import RemoteAnswer
from proxy.streams.seal import Sealer
from tests.servers import RedisServer

SITE = Site("shop", frozenset(), "support")
SESSION = Session("s1", "shop", "", 0)
SEALER = Sealer(b"k" * 32)
WORDS = st.lists(st.text(max_size=3), max_size=4)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(fake_clock=True) as redis:
        yield redis


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisJournals]:
    server.call("FLUSHALL")
    link = Link(parse_url(server.url), deadline=30)
    yield RedisJournals(link)
    await link.close()


def new_answer(answer_id: str = "a1", **streams: int | str) -> Answer:
    client = Client("r1", "::1", "messages")
    request = Request("r1", answer_id, client, SITE, SESSION, Message("hello"))
    answer = Answer(request, StreamSettings.model_validate(streams))
    answer.admit(request)
    return answer


def written(journal: Journal, answer: Answer, **streams: int) -> Answer:
    def stop() -> None:
        answer.stop()

    journal.follow(answer, StreamSettings.model_validate(streams), stop)
    return answer


async def read(store: Journals, answer_id: str = "a1", session: Session = SESSION) -> RemoteAnswer | None:
    return await Journal(store, SEALER).find(session, answer_id)


async def have(store: Journals, answer_id: str = "a1") -> RemoteAnswer:
    found = await read(store, answer_id)
    assert found is not None
    return found


@dataclass
class Clock:
    """Stands still until somebody sets it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Between:
    """Counts round trips, and fails when told to: before the store is asked, or after, when the reply is lost."""

    store: RedisJournals
    fails: str = ""
    clock: Clock | None = None  # goes on by a second with each look
    trips: list[Sequence[Batch]] = field(default_factory=list)

    async def keep(self, batches: Sequence[Batch]) -> list[Kept]:
        if self.fails == "no store":
            raise StoreDown("away")
        self.trips.append(batches)
        kept = await self.store.keep(batches)
        if self.fails == "no reply":
            raise StoreDown("no reply")
        return kept

    async def look(self, name: str, number: int, *, listens: bool) -> Look | None:
        if self.clock is not None:
            self.clock.now += 1
        if self.fails == "no store":
            raise StoreDown("away")
        return await self.store.look(name, number, listens=listens)

    async def bury(self, name: str, number: int, data: bytes) -> bool:
        return await self.store.bury(name, number, data)

    async def stop(self, name: str) -> None:
        await self.store.stop(name)


STEPS = st.lists(st.one_of(WORDS, st.sampled_from(["write", "read", "no store", "no reply", "lose all", "lose last"])))


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_each_event_is_read_once_in_whatever_order_things_happen(
    server: RedisServer, steps: list[list[str] | str]
) -> None:
    server.call("FLUSHALL")
    asyncio.run(play(server, steps))


async def play(server: RedisServer, steps: list[list[str] | str]) -> None:
    link = Link(parse_url(server.url), deadline=30)
    redis = RedisJournals(link)
    between = Between(redis)
    clock = Clock()
    writer = Journal(between, SEALER, clock=clock)
    answer = written(writer, new_answer())
    await writer.write()
    reader = await have(redis)
    for step in steps:
        await take(step, server, between, writer, answer, reader)
        assert reader.events == answer.events[: len(reader.events)]
    await answer.done()
    clock.now += 1
    await writer.write()
    await look(reader)
    assert reader.events == answer.events
    assert (await have(redis)).events == answer.events
    await link.close()


async def take(
    step: list[str] | str, server: RedisServer, between: Between, writer: Journal, answer: Answer, reader: RemoteAnswer
) -> None:
    match step:
        case "no store" | "no reply":
            between.fails = step
            await answer.send("!")
            await writer.write()
            between.fails = ""
        case "lose all":
            server.call("FLUSHALL")
        case "lose last":
            server.call("RPOP", batches_key())
        case "write":
            await writer.write()
        case "read":
            await look(reader)
        case list():
            for word in step:
                await answer.send(word)


def batches_key(answer_id: str = "a1") -> str:
    return f"sidegate:{{{SEALER.box('shop', 's1', answer_id).name}}}:batches"


async def look(reader: RemoteAnswer) -> None:
    """Once, as a listener does, who waits when the journal has lost what it reads."""
    try:
        await reader.load()
    except StoreDown:
        return


async def test_all_answers_share_a_round_trip_and_pieces_share_a_batch(store: RedisJournals) -> None:
    between = Between(store)
    journal_ = Journal(between, SEALER)
    answers = [written(journal_, new_answer(f"a{number}")) for number in range(50)]
    for answer in answers:
        for _ in range(100):
            await answer.send("piece ")
    await journal_.write()
    assert [len(batches) for batches in between.trips] == [50]
    await journal_.write()
    assert len(between.trips) == 1  # nothing new, and the sign of life is fresh
    assert (await have(store, "a7")).events == answers[7].events


async def test_a_long_answer_goes_in_several_batches(store: RedisJournals) -> None:
    between = Between(store)
    journal_ = Journal(between, SEALER)
    answer = written(journal_, new_answer(journal_bytes=10_000_000), journal_bytes=10_000_000)
    for _ in range(100):
        await answer.send("x" * 10_000)
    await answer.done()
    await journal_.write()
    sizes = [len(batch.data) for batches in between.trips for batch in batches]
    assert len(sizes) > 10
    assert max(sizes) < 2 * journal.MAX_BATCH_BYTES
    assert (await have(store)).events == answer.events


async def test_an_answer_that_grows_too_long_in_the_journal_is_given_up_there(
    store: RedisJournals, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    journal_ = Journal(store, SEALER)
    answer = written(journal_, new_answer(journal_bytes=1_000_000), journal_bytes=1024)
    for _ in range(20):
        await answer.send("x" * 10_000)
        await journal_.write()
    assert "too large" in caplog.text
    size = (await have(store)).text
    assert 0 < len(size) <= 2 * 1024 + journal.MAX_BATCH_BYTES
    server.advance(ALIVE + 1)
    assert (await have(store)).failure is not None


async def test_it_expires(store: RedisJournals, server: RedisServer) -> None:
    journal_ = Journal(store, SEALER)
    answer = written(journal_, new_answer(), journal_ttl=60)
    await answer.done()
    await journal_.write()
    server.advance(59)
    assert (await have(store)).is_over
    server.advance(2)
    assert await read(store) is None
    async with Redis.from_url(server.url) as client:
        assert await client.dbsize() == 0


async def test_what_the_guard_refused_is_not_written(store: RedisJournals) -> None:
    between = Between(store)
    journal_, request = Journal(between, SEALER), new_answer().request
    refused = written(journal_, Answer(request, StreamSettings()))
    await refused.fail(OutputBlocked("no"))
    await journal_.write()
    assert between.trips == []


@pytest.mark.parametrize("finish", ["length", "content_filter"])
async def test_what_a_filter_withheld_is_withheld_at_every_replica(
    store: RedisJournals, finish: Literal["length", "content_filter"]
) -> None:
    journal_ = Journal(store, SEALER)
    answer = written(journal_, new_answer())
    await answer.start()
    await answer.send("half")
    await answer.fail(OutputBlocked("detail", finish=finish))
    await journal_.write()
    found = await have(store)
    assert isinstance(found.failure, OutputBlocked)
    assert (found.text, found.events[-1].fields["finish"]) == ("half", finish)


async def test_an_answer_without_a_sign_of_life_ends_in_an_error_for_all_who_read(
    store: RedisJournals, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    journal_ = Journal(store, SEALER, clock=clock)
    answer = written(journal_, new_answer())
    await answer.start()
    await answer.send("half")
    await journal_.write()
    server.advance(ALIVE - 0.5)
    assert not (await have(store)).is_over
    server.advance(1)
    one, other = await have(store), await have(store)
    assert one.events == other.events
    assert isinstance(one.failure, UpstreamError)
    assert one.failure.public == "This answer was interrupted. Please ask again."
    assert one.events[-1].fields["request_id"] == "r1"
    assert one.early is None
    # Its replica was only slow: it goes on for its own listeners, and the others' end stays as it is.
    await answer.send(" and half")
    await journal_.write()
    assert not answer.is_over
    assert "taken for broken off" in caplog.text
    assert (await have(store)).events == one.events


async def test_a_clock_set_back_keeps_no_dead_answer_alive(store: RedisJournals, server: RedisServer) -> None:
    journal_ = Journal(store, SEALER)
    written(journal_, new_answer())
    await journal_.write()
    server.advance(-3600)
    assert (await have(store)).is_over


async def test_how_it_failed_is_the_same_there(store: RedisJournals) -> None:
    journal_ = Journal(store, SEALER)
    answer = written(journal_, new_answer())
    await answer.fail(UpstreamError("detail", retry_after=2.5, public="Sorry."))
    await journal_.write()
    found = await have(store)
    assert found.events == answer.events
    assert isinstance(found.early, UpstreamError)
    assert (found.early.public, found.early.retry_after) == ("Sorry.", 3)


async def test_batches_that_were_swapped_or_moved_end_the_reading(
    store: RedisJournals, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    journal_ = Journal(store, SEALER)
    for name in ("a1", "a2"):
        answer = written(journal_, new_answer(name))
        await journal_.write()
        await answer.send(f"word of {name}")
        await journal_.write()
    async with Redis.from_url(server.url) as client:
        (foreign,) = await client.lrange(batches_key("a2"), 1, 1)
        await client.lset(batches_key("a1"), 1, foreign)  # type: ignore[arg-type]  # its types know text alone
    found = await have(store)
    assert found.text == ""
    assert isinstance(found.failure, UpstreamError)
    assert "can't be read" in caplog.text
    assert (await have(store, "a2")).text == "word of a2"


async def test_another_session_or_site_finds_nothing(store: RedisJournals) -> None:
    journal_ = Journal(store, SEALER)
    written(journal_, new_answer())
    await journal_.write()
    assert await read(store, session=Session("s2", "shop", "", 0)) is None
    assert await read(store, session=Session("s1", "blog", "", 0)) is None
    assert await Journal(store, Sealer(b"other" * 8)).find(SESSION, "a1") is None
    assert await read(store) is not None


async def test_a_stop_and_a_listener_elsewhere_are_seen_with_the_next_sign_of_life(store: RedisJournals) -> None:
    journal_ = Journal(store, SEALER)
    answer = written(journal_, new_answer())
    left: list[str] = []
    answer.abandon_by(lambda: left.append("left"))
    await journal_.write()
    found = await have(store)
    async with asyncio.timeout(10):
        await found.opened(0.01)  # a listener's look
    await answer.send("x")
    await journal_.write()
    assert answer._listeners == 1
    await found.stop()
    await answer.send("y")
    await journal_.write()
    assert answer.is_over
    await journal_.write()
    assert (await have(store)).events == answer.events


async def test_who_listened_elsewhere_is_gone_when_the_store_has_been_away_for_long(store: RedisJournals) -> None:
    between, clock = Between(store), Clock()
    journal_ = Journal(between, SEALER, clock=clock)
    answer = written(journal_, new_answer(on_disconnect="cancel"))
    left: list[str] = []
    answer.abandon_by(lambda: left.append("left"))
    await journal_.write()
    await (await have(store)).opened(0.01)
    await answer.send("x")
    await journal_.write()
    between.fails = "no store"
    for seconds, gone in ((0.0, []), (ALIVE, []), (1.0, ["left"])):
        clock.now += seconds
        await answer.send("y")
        await journal_.write()
        assert left == gone


@pytest.mark.parametrize("how", ["away", "empty"])
async def test_a_listener_whose_journal_does_not_come_back_is_told_and_may_resume(
    store: RedisJournals, server: RedisServer, how: str
) -> None:
    clock = Clock()
    between = Between(store, clock=clock)
    journal_ = Journal(between, SEALER, clock=clock)
    answer = written(journal_, new_answer())
    await answer.send("one")
    await journal_.write()
    found = await have_by(journal_)
    async with asyncio.timeout(20), aclosing(found.follow()) as batches:
        async for _ in batches:
            if how == "away":
                between.fails = "no store"
            else:
                server.call("FLUSHALL")
    assert isinstance(found.failure, UpstreamUnavailable)
    assert found.failure.retry_after is not None
    assert found.events[-1].number == answer.events[-1].number  # whoever comes back behind it misses nothing


async def have_by(journal_: Journal) -> RemoteAnswer:
    found = await journal_.find(SESSION, "a1")
    assert found is not None
    return found


async def test_a_sign_of_life_is_given_while_nothing_is_said(store: RedisJournals, server: RedisServer) -> None:
    clock = Clock()
    journal_ = Journal(store, SEALER, clock=clock)
    written(journal_, new_answer())
    for _ in range(10):
        await journal_.write()
        assert not (await have(store)).is_over
        server.advance(ALIVE - 1)
        clock.now += ALIVE - 1


async def test_while_the_store_is_down_one_line_says_so(store: RedisJournals, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    between = Between(store, fails="no store")
    journal_ = Journal(between, SEALER)
    answer = written(journal_, new_answer())
    for _ in range(5):
        await answer.send("x")
        assert not await journal_.write()
    between.fails = ""
    await journal_.write()
    assert [record.message for record in caplog.records if record.name == "proxy.streams.journal"] == [
        "answers are not journaled at the moment (away); they go on",
        "answers are journaled again",
    ]
    assert (await have(store)).text == "xxxxx"


async def test_closing_writes_what_is_left(store: RedisJournals) -> None:
    journal_ = Journal(store, SEALER)
    journal_.start()
    answer = written(journal_, new_answer())
    await answer.send("the end")
    await answer.done()
    await journal_.close()
    assert (await have(store)).events == answer.events


async def test_the_task_writes_by_itself(store: RedisJournals) -> None:
    journal_ = Journal(store, SEALER)
    journal_.start()
    answer = written(journal_, new_answer())
    await answer.send("one")
    found = await have(store)
    async with asyncio.timeout(10), aclosing(found.follow()) as batches:
        async for _ in batches:
            if found.text == "one":
                await answer.done()
    assert found.events == answer.events
    await journal_.close()
