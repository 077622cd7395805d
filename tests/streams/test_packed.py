"""A packed answer is the same to whoever reads it, and small."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.streams import StreamSettings
from proxy.streams.answer import Answer
from proxy.streams.event import Event, Fields, long
from proxy.streams.packed import Packed
from tests.clients import request

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DELTAS = st.tuples(st.just("delta"), TEXT.map(lambda text: {"text": text}))
OTHERS = st.tuples(
    st.sampled_from(["start", "done", "error"]), st.dictionaries(TEXT, TEXT | st.integers(0, 2**53) | st.booleans())
)


def numbered(items: Sequence[tuple[str, Fields]]) -> list[Event]:
    return [Event(number, name, fields) for number, (name, fields) in enumerate(items)]


@settings(deadline=None)
@given(st.lists(DELTAS | OTHERS, min_size=1), st.slices(10))
def test_packed_events_are_the_same_events(items: list[tuple[str, Fields]], part: slice) -> None:
    events = numbered(items)
    packed = Packed(events)
    assert len(packed) == len(events)
    assert list(packed) == events
    assert packed[part] == events[part]
    assert [packed[at] for at in range(-len(events), len(events))] == events * 2


@pytest.mark.parametrize("item", [7, None, ["delta"], ["delta", "text"], {"text": "a"}])
def test_what_is_no_event_in_short_is_refused(item: object) -> None:
    with pytest.raises(ValueError, match="not an event"):
        long([item])


async def test_a_kept_answer_takes_little_more_than_its_text_and_nothing_of_the_question() -> None:
    async def answered(number: int) -> Answer:
        answer = Answer(request(f"a question {number}"), StreamSettings())
        answer.admit(answer.request)
        for piece in range(300):
            await answer.send(f"words of piece {piece:4} ")
        await answer.done()
        return answer

    answers = [await answered(number) for number in range(20)]
    events, text = list(answers[0].events), answers[0].text
    tracemalloc.start()
    try:
        kept = [await answered(number) for number in range(20)]
        for answer in kept:
            answer.pack()
        each = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert each < 2 * len(text) + 4096
    assert (list(kept[0].events), kept[0].text) == (events, text)
    assert "a question" not in repr(kept[0].request)
    assert kept[0].request.client.ip == ""
