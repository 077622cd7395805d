"""A session's channel: in order, once for each listener, kept for its time and within its bounds, nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Draining
from proxy.streams.event import Event
from proxy.streams.push import MAX_EACH, Address, MemoryChannels

HERE, THERE = Address("shop", "a" * 64), Address("shop", "b" * 64)
OTHER_SITE = Address("blog", "a" * 64)
TTL = 600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def take(events: AsyncGenerator[Sequence[Event], None], number: int) -> list[Event]:
    """The next so many events, and whatever comes with the last of them."""
    taken: list[Event] = []
    async with asyncio.timeout(5):
        while len(taken) < number:
            taken += await anext(events)
    return taken


async def kept(channels: MemoryChannels, address: Address, after: int = -1) -> list[Event]:
    """What a listener that comes now is given at once: a mark is sent behind it, which ends the looking."""
    events = channels.follow(address, after)
    await channels.send(address, {"text": "mark"}, TTL)
    found = await take(events, 1)
    await events.aclose()
    assert found[-1].fields["text"] == "mark"
    return found[:-1]


def texts(events: Sequence[Event]) -> list[object]:
    return [event.fields.get("text", event.fields.get("answer_id")) for event in events]


async def test_a_push_reaches_all_who_listen_and_is_kept_for_who_comes_later() -> None:
    channels = MemoryChannels(Clock())
    early = [channels.follow(HERE) for _ in range(2)]
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(take(listener, 1)) for listener in early]
        await asyncio.sleep(0)
        sent = await channels.send(HERE, {"text": "one"}, TTL)
    assert sent.delivered
    late = await take(channels.follow(HERE), 1)
    for found in (*(task.result() for task in waiting), late):
        assert texts(found) == ["one"]
        assert found[0].fields["id"] == sent.id == f"push:{found[0].number}"
    channels.close()


async def test_without_a_listener_it_is_kept_and_that_is_said() -> None:
    channels = MemoryChannels(Clock())
    assert not (await channels.send(HERE, {"text": "one"}, TTL)).delivered
    assert texts(await kept(channels, HERE)) == ["one"]
    channels.close()


async def test_a_listener_that_left_is_no_listener() -> None:
    channels = MemoryChannels(Clock())
    await channels.send(HERE, {"text": "one"}, TTL)
    listener = channels.follow(HERE)
    await take(listener, 1)
    assert (await channels.send(HERE, {"text": "two"}, TTL)).delivered
    await listener.aclose()
    assert not (await channels.send(HERE, {"text": "three"}, TTL)).delivered
    channels.close()


async def test_another_session_and_the_same_name_on_another_site_see_nothing() -> None:
    channels = MemoryChannels(Clock())
    await channels.send(HERE, {"text": "one"}, TTL)
    channels.announce(HERE, "answer", TTL)
    assert await kept(channels, THERE) == []
    assert await kept(channels, OTHER_SITE) == []
    channels.close()


async def test_numbers_grow_over_restarts_and_when_the_clock_stands_still() -> None:
    clock = Clock()
    numbers = []
    for _ in range(2):
        channels = MemoryChannels(clock)
        numbers += [int((await channels.send(HERE, {"text": "x"}, TTL)).id.removeprefix("push:")) for _ in range(50)]
        channels.close()
        clock.now += 1
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 2**53  # which is as far as browsers count


async def test_pushes_are_kept_for_their_time_and_no_longer() -> None:
    clock = Clock()
    channels = MemoryChannels(clock)
    await channels.send(HERE, {"text": "short"}, 10)
    await channels.send(HERE, {"text": "long"}, 20)
    clock.now += 9.999
    assert texts(await kept(channels, HERE)) == ["short", "long"]
    clock.now += 0.001
    assert texts(await kept(channels, HERE))[:1] == ["long"]
    channels.close()


async def test_what_has_expired_is_dropped_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.streams.push.SWEEP_SECONDS", 0.001)
    clock = Clock()
    channels = MemoryChannels(clock)
    await channels.send(HERE, {"text": "one"}, 10)
    clock.now += 10
    async with asyncio.timeout(5):
        while channels._sessions or channels._kept:  # noqa: ASYNC110 - nobody else waits for that
            await asyncio.sleep(0.001)
    assert channels._size == 0
    channels.close()


async def test_of_one_session_a_hundred_pushes_are_kept_and_answers_dont_push_them_out() -> None:
    channels = MemoryChannels(Clock())
    for number in range(150):
        await channels.send(HERE, {"text": f"push {number}"}, TTL)
    for number in range(150):
        channels.announce(HERE, f"answer {number}", TTL)
    found = texts(await take(channels.follow(HERE), 1))
    assert found == [f"push {n}" for n in range(50, 150)] + [f"answer {n}" for n in range(130, 150)]
    channels.close()


async def test_of_all_sessions_the_oldest_go_first_by_number_and_by_size() -> None:
    channels = MemoryChannels(Clock(), max_kept=3)
    addresses = [Address("shop", str(number)) for number in range(5)]
    for address in addresses:
        await channels.send(address, {"text": "x"}, TTL)
    assert len(channels._kept) == len(channels._sessions) == 3
    channels.close()
    channels = MemoryChannels(Clock(), max_bytes=10_000)
    for address in addresses:
        await channels.send(address, {"text": "x" * 3000}, TTL)
    assert set(channels._sessions) == set(addresses[-2:])
    assert channels._size <= 10_000
    channels.close()


async def test_many_answers_of_others_push_no_push_out() -> None:
    channels = MemoryChannels(Clock(), max_kept=10, max_bytes=20_000)
    for number in range(5):
        await channels.send(HERE, {"text": f"{number}"}, TTL)
    for number in range(100):
        channels.announce(Address("shop", f"{number}"), "x" * 1000, TTL)
    assert texts(await kept(channels, HERE)) == list("01234")
    assert len(channels._kept) <= 20
    assert channels._size <= 20_000
    channels.close()


async def test_closed_listeners_are_told_and_nothing_more_is_taken() -> None:
    channels = MemoryChannels(Clock())
    listener = channels.follow(HERE)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(told(listener))
        await asyncio.sleep(0)
        channels.close()
    assert waiting.result()
    with pytest.raises(Draining):
        await channels.send(HERE, {"text": "x"}, TTL)
    channels.announce(HERE, "answer", TTL)
    assert not channels._kept


async def told(listener: AsyncGenerator[Sequence[Event], None]) -> bool:
    try:
        await anext(listener)
    except Draining:
        return True
    return False


@given(st.lists(st.sampled_from(["push", "start", "cut", "other"]), max_size=60))
def test_cut_wherever_and_resumed_everything_comes_once_and_in_order(steps: list[str]) -> None:
    async def story() -> tuple[list[object], list[object]]:
        channels = MemoryChannels(Clock())
        sent: list[object] = []
        found: list[Event] = []
        for step in steps:
            name = f"{step} {len(sent)}"
            match step:
                case "push":
                    await channels.send(HERE, {"text": name}, TTL)
                case "start":
                    if sum(str(known).startswith("start") for known in sent) == MAX_EACH["start"]:
                        continue
                    channels.announce(HERE, name, TTL)
                case "other":
                    await channels.send(THERE, {"text": name}, TTL)
                    continue
                case _:
                    await resume(channels, found, len(sent))
                    continue
            sent.append(name)
        await resume(channels, found, len(sent))
        channels.close()
        return sent, texts(found)

    sent, found = asyncio.run(story())
    assert found == sent


async def resume(channels: MemoryChannels, found: list[Event], until: int) -> None:
    """Read on from what was found last, with a listener of its own."""
    listener = channels.follow(HERE, found[-1].number if found else -1)
    found += await take(listener, until - len(found))
    await listener.aclose()
