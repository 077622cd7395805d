"""What is read of a chat trigger's memory."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamError
from proxy.upstream.recall import MAX_TURNS, Turn, turns

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "kwargs", "content"]), inner),
    max_leaves=10,
)


def said(kind: str, content: object) -> dict[str, object]:
    return {"lc": 1, "id": ["langchain_core", "messages", kind], "kwargs": {"content": content}}


def test_what_visitor_and_assistant_said_is_read_and_nothing_else() -> None:
    data = [said("SystemMessage", "s"), said("HumanMessage", "a"), said("AIMessage", "b"), said("AIMessage", "")]
    data += [said("ToolMessage", "t"), said("HumanMessage", ["c"]), said("AIMessageChunk", "d")]
    assert turns(orjson.dumps({"data": data})) == [Turn("user", "a"), Turn("assistant", "b"), Turn("assistant", "d")]


def test_only_the_latest_are_read() -> None:
    data = [said("HumanMessage", str(number)) for number in range(MAX_TURNS + 5)]
    assert turns(orjson.dumps({"data": data}))[0] == Turn("user", "5")


def test_halves_of_characters_are_replaced() -> None:
    body = b'{"data":[{"id":["HumanMessage"],"kwargs":{"content":"a\\ud800"}}]}'
    assert turns(body) == [Turn("user", "a?")]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data":null}', b'{"firstEntryJson":1}'])
def test_anything_else_is_an_error(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        turns(body)


@settings(deadline=None)
@given(st.lists(JSON, max_size=5))
def test_whatever_is_in_the_list_does_no_harm(data: list[object]) -> None:
    assert all(turn.text for turn in turns(orjson.dumps({"data": data})))
