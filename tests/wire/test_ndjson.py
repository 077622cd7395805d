"""Lines come out whole, however their bytes were cut, and none may be endless."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamError
from proxy.wire.ndjson import LineSplitter


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.lists(st.integers(0))
)
def test_any_cutting_gives_the_same_lines(lines: list[bytes], places: list[int]) -> None:
    splitter = LineSplitter()

    got = [line for data in cut(b"\n".join(lines), places) for line in splitter.feed(data)]

    assert [*got, splitter.flush()] == (lines or [b""])


def test_a_line_without_an_end_comes_with_the_flush_and_only_once() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\ntwo") == [b"one"]
    assert splitter.flush() == b"two"
    assert splitter.flush() == b""


def test_a_line_may_be_as_long_as_the_bound() -> None:
    splitter = LineSplitter(max_bytes=4)
    assert splitter.feed(b"1234") == []
    assert splitter.feed(b"\n1234\n") == [b"1234", b"1234"]


@settings(deadline=None)
@given(st.integers(0, 3), st.lists(st.integers(0)))
def test_a_line_over_the_bound_is_an_error_after_the_lines_before_it(before: int, places: list[int]) -> None:
    splitter = LineSplitter(max_bytes=4)
    got: list[bytes] = []

    with pytest.raises(UpstreamError):  # noqa: PT012 - which call raises depends on the cuts
        for data in cut(b"ok\n" * before + b"12345\nlost\n", places):
            got += splitter.feed(data)
        splitter.flush()

    assert got == [b"ok"] * before


def test_a_line_over_the_bound_stays_an_error() -> None:
    splitter = LineSplitter(max_bytes=4)
    with pytest.raises(UpstreamError):
        splitter.feed(b"12345")
    with pytest.raises(UpstreamError):
        splitter.feed(b"ok\n")
    with pytest.raises(UpstreamError):
        splitter.flush()


def test_a_long_line_in_small_cuts_is_copied_once() -> None:
    """Were it joined with every cut, this would copy 8 GB and never end."""
    splitter = LineSplitter(max_bytes=128 * 1024)
    for _ in range(128 * 1024):
        splitter.feed(b"x")
    assert [len(line) for line in splitter.feed(b"\n")] == [128 * 1024]
