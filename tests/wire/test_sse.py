"""Server-sent events are written in one way and read in all the ways that the standard has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamError
from proxy.wire.sse import Event, EventParser, comment, event


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def read(data: bytes, places: list[int] | None = None) -> list[Event]:
    parser = EventParser()
    return [found for part in cut(data, places or []) for found in parser.feed(part)]


def test_an_event_is_written_with_lf_alone() -> None:
    assert event("delta", b'{"text":"a"}', "a1:2") == b'id: a1:2\nevent: delta\ndata: {"text":"a"}\n\n'


def test_an_event_without_an_id_leaves_the_last_one_alone() -> None:
    assert event("ping", "") == b"event: ping\ndata: \n\n"


def test_data_of_several_lines_gets_a_field_for_each() -> None:
    assert event("a", "1\n2\r\n3\r4") == b"event: a\ndata: 1\ndata: 2\ndata: 3\ndata: 4\n\n"


def test_a_comment_is_no_event() -> None:
    assert comment("still here") == b": still here\n\n"
    assert read(comment() + comment("x") + event("a", "b")) == [Event("a", b"b", "")]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["start", "delta"]), st.text(), st.sampled_from([None, "a:1"])), max_size=5),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.lists(st.integers(0)),
)
def test_any_cutting_and_any_line_end_gives_the_events_that_were_written(
    written: list[tuple[str, str, str | None]], end: bytes, places: list[int]
) -> None:
    data = b"".join(event(*parts) for parts in written).replace(b"\n", end)

    got = read(data, places)

    assert [(found.name, found.data) for found in got] == [
        (name, "\n".join(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")).encode())
        for name, text, _ in written
    ]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"data: a", b"event", b":", b"\xef\xbb\xbf"])).map(b"".join),
    st.lists(st.integers(0)),
)
def test_any_cutting_of_any_line_ends_gives_the_same_events(data: bytes, places: list[int]) -> None:
    assert read(data, places) == read(data)
    assert read(data, list(range(len(data)))) == read(data)


@pytest.mark.parametrize(
    ("data", "events"),
    [
        # The examples of the standard, section 9.2.6.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("message", b"YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [
                Event("message", b"first event", "1"),
                Event("message", b"second event", ""),
                Event("message", b" third event", ""),
            ],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [Event("message", b"", ""), Event("message", b"\n", "")]),
        (b"data:test\n\ndata: test\n\n", [Event("message", b"test", ""), Event("message", b"test", "")]),
        # A byte order mark, once and only at the start.
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [Event("message", b"a", "")]),
        (b"\n\xef\xbb\xbfdata: a\n\n", []),
        # An event that no blank line ends never was.
        (b"data: a\n\ndata: b\n", [Event("message", b"a", "")]),
        # A name without data is forgotten; an id stays.
        (b"event: x\nid: 7\n\ndata: a\n\n", [Event("message", b"a", "7")]),
        # Ids with NUL, unknown fields, retry and whatever has no colon don't count.
        (b"id: 1\nid: 2\0\nretry: 10\nfoo: bar\nbaz\ndata: a\n\n", [Event("message", b"a", "1")]),
        (b"event: \xff\ndata: \xff\n\n", [Event("\ufffd", b"\xff", "")]),
    ],
)
def test_events_are_read_as_the_standard_says(data: bytes, events: list[Event]) -> None:
    assert read(data) == events
    assert read(data, list(range(len(data)))) == events


@settings(deadline=None)
@given(st.integers(0, 3), st.lists(st.integers(0)), st.sampled_from([b"data: 1234567\n", b"data: 12\n" * 3, b"d" * 20]))
def test_an_event_over_the_bound_is_an_error_after_the_events_before_it(
    before: int, places: list[int], too_long: bytes
) -> None:
    parser = EventParser(max_bytes=12)
    data = b"data: ok\n\n" * before + too_long * 2 + b"\n\ndata: lost\n\n"
    got: list[bytes] = []

    with pytest.raises(UpstreamError):  # noqa: PT012 - which call raises depends on the cuts
        for part in cut(data, places):
            got += [found.data for found in parser.feed(part)]
        parser.feed(b"")

    assert got == [b"ok"] * before
