"""What was sealed opens as what it was, there and for its owner alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.streams.event import Event
from proxy.streams.seal import Box, Broken, Sealer

KEY = b"k" * 32
IDENTITY = ("shop", "a-session", "an-answer")
EVENTS = [Event(7, "delta", {"text": "wört"}), Event(8, "done", {"answer_id": "an-answer"})]


def box(*identity: str, key: bytes = KEY) -> Box:
    return Sealer(key).box(*(identity or IDENTITY))


@given(texts=st.lists(st.text(st.characters(codec="utf-8"))), first=st.integers(0, 10**6), number=st.integers(0, 10**6))
def test_whatever_is_sealed_comes_out_again(texts: list[str], first: int, number: int) -> None:
    events = [Event(first + index, "delta", {"text": text}) for index, text in enumerate(texts)]
    events.append(Event(first + len(texts), "error", {"code": "internal", "retry_after": 3}))
    data = box().seal(number, events, "r1", has_opened=True)
    assert box().open(number, first, data) == ("r1", True, events)


@pytest.mark.parametrize(
    ("number", "other"),
    [
        (4, box()),
        (3, box("blog", "a-session", "an-answer")),
        (3, box("shop", "b-session", "an-answer")),
        (3, box("shop", "a-session", "b-answer")),
        (3, box("shopa", "-session", "an-answer")),
        (3, box(key=b"l" * 32)),
    ],
)
def test_it_opens_as_that_batch_of_that_answer_of_that_session_alone(number: int, other: Box) -> None:
    data = box().seal(3, EVENTS, "r1", has_opened=True)
    with pytest.raises(Broken):
        other.open(number, 7, data)


@given(st.data())
def test_a_changed_bit_or_length_is_noticed(data: st.DataObject) -> None:
    sealed = box().seal(3, EVENTS, "r1", has_opened=False)
    at = data.draw(st.integers(0, len(sealed) - 1))
    flipped = sealed[:at] + bytes([sealed[at] ^ (1 << data.draw(st.integers(0, 7)))]) + sealed[at + 1 :]
    for changed in (flipped, sealed[:at], sealed + b"x"):
        with pytest.raises(Broken):
            box().open(3, 7, changed)


def test_names_say_nothing_and_differ_for_whatever_differs() -> None:
    boxes = [box(), box("blog", *IDENTITY[1:]), box("shop", "b", "an-answer"), box("shopa", "-session", "an-answer")]
    names = {each.name for each in boxes} | {box(key=b"l" * 32).name}
    assert len(names) == 5
    assert all(len(name) == 40 and int(name, 16) for name in names)
    assert box().name == box().name


def test_the_same_batch_never_looks_the_same() -> None:
    assert box().seal(3, EVENTS, "r1", has_opened=True) != box().seal(3, EVENTS, "r1", has_opened=True)
