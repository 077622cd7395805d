"""Text comes out whole, without surrogates, and never with what a visitor must not read."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamError
from proxy.wire.text import Halves, Utf8, answer_text, find_text, json_text, loads, strings

UTF8_TROUBLE = st.lists(
    st.one_of(
        st.binary(max_size=3), st.text(max_size=3).map(str.encode), st.sampled_from([b"\xf0\x9f\x8e", b"\xed\xa0\x80"])
    )
).map(b"".join)
HALF_TROUBLE = st.text(st.sampled_from("a\u00e9\u65e5\U0001f389\ud83c\udf89\udfff\ud800"), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@settings(deadline=None)
@given(UTF8_TROUBLE, st.lists(st.integers(0)))
def test_any_cutting_of_any_bytes_gives_the_same_text(data: bytes, places: list[int]) -> None:
    utf8 = Utf8()

    got = "".join([utf8.feed(part) for part in cut(data, places)] + [utf8.flush()])

    assert got == data.decode("utf-8", "replace")
    got.encode()


def test_a_character_that_is_cut_off_becomes_a_replacement() -> None:
    utf8 = Utf8()
    assert utf8.feed("日".encode()[:2]) == ""
    assert utf8.flush() == "\ufffd"


@settings(deadline=None)
@given(HALF_TROUBLE, st.lists(st.integers(0)))
def test_halves_are_joined_or_replaced_wherever_the_text_was_cut(text: str, places: list[int]) -> None:
    halves = Halves()
    ends = sorted(place % (len(text) + 1) for place in places)
    parts = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]

    got = "".join([halves.feed(part) for part in parts] + [halves.flush()])

    pair = re.compile("([\ud800-\udbff])([\udc00-\udfff])")
    joined = pair.sub(lambda m: chr(0x10000 + (ord(m[1]) - 0xD800) * 0x400 + ord(m[2]) - 0xDC00), text)
    assert got == re.sub("[\ud800-\udfff]", "\ufffd", joined)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, "x"]}', {"a": [1, "x"]}),
        (rb'"\ud83c\udf89"', "\U0001f389"),
        (rb'"\ud83c"', "\ud83c"),
        (rb'["\uDF89"]', ["\udf89"]),
    ],
)
def test_json_is_read_with_the_halves_that_javascript_writes(data: bytes, value: object) -> None:
    assert loads(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"NaN",
        b'"\xff"',
        rb'["\ud83c", NaN]',
        b'["\\ud83c", "\xff"]',
        b'["\\ud83c",' + b"[" * 100_000,
        b"[" * 2000 + b"]" * 2000,
    ],
)
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(data)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (None, ""),
        ("", ""),
        ({}, ""),
        ([], ""),
        ("hello", "hello"),
        ({"output": "hello"}, "hello"),
        ({"text": "second", "output": "first"}, "first"),
        ({"output": "", "text": "hello"}, "hello"),
        ({"output": None, "message": "hello"}, "hello"),
        ({"response": "a"}, "a"),
        ({"answer": "a"}, "a"),
        ({"reply": "a", "foo": 1}, "a"),
        ({"result": "a"}, "a"),
        ({"message": {"content": "hello", "role": "assistant"}}, "hello"),
        ({"output": {"unknown": 1}, "text": "hello"}, "hello"),
        ({"data": {"output": "hello"}}, "hello"),
        ({"json": {"text": "hello"}, "pairedItem": 0}, "hello"),
        ({"content": [{"type": "text", "text": "a"}, "b", 7]}, "a\nb"),
        ([{"output": "a"}, None, {"text": "b"}, "c"], "a\nb\nc"),
        ({"output": ""}, ""),
        ({"output": None, "usage": 3}, ""),
        ({"output": "hello", "error": "shown to nobody"}, "hello"),
        ({"error": None, "message": "hello"}, "hello"),
        ({"temperature": 21}, '{\n  "temperature": 21\n}'),
        ({"data": {"deeper": {"output": "x"}}}, '{\n  "data": {\n    "deeper": {\n      "output": "x"\n    }\n  }\n}'),
        ([[1]], "[\n  1\n]"),
        (42, "42"),
        ({"a": "\ud83c"}, '{\n  "a": "\ufffd"\n}'),
        ({"output": "\ud83c\udf89\ud83c"}, "\U0001f389\ufffd"),
    ],
)
def test_the_text_of_a_plain_answer_is_found(document: object, text: str) -> None:
    assert answer_text(document) == text


@pytest.mark.parametrize(
    "document",
    [
        {"executionStarted": True, "executionId": "49", "resumeToken": "secret"},
        {"output": "hello", "resumeToken": "secret"},
        {"data": {"resumeToken": "secret"}},
        [{"output": "hello"}, {"executionStarted": True}],
        {"deep": [[{"resumeToken": "secret"}]]},
    ],
)
def test_the_token_of_a_waiting_execution_is_never_shown(document: object) -> None:
    with pytest.raises(UpstreamError) as caught:
        answer_text(document)
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    "document",
    [
        {"error": "node 'Ask the model' failed"},
        {"errorMessage": "node 'Ask the model' failed", "n8nDetails": {}},
        {"error": {"message": "node"}, "message": "node 'Ask the model' failed"},
        {"type": "error", "content": "node 'Ask the model' failed"},
        {"data": {"error": "node 'Ask the model' failed"}},
    ],
)
def test_the_report_of_an_error_is_an_error_and_not_an_answer(document: object) -> None:
    with pytest.raises(UpstreamError) as caught:
        answer_text(document)
    assert "node" not in caught.value.detail


def test_what_is_known_of_a_line_is_told_apart_from_nothing_and_from_the_unknown() -> None:
    assert find_text({"response": "Hel", "done": False}) == "Hel"
    assert find_text({"response": "", "done": True}) == ""
    assert find_text({"done": True}) is None


def test_a_big_unknown_document_is_not_indented() -> None:
    document = {"values": list(range(10_000))}
    assert answer_text(document) == json.dumps(document)


def test_json_that_is_nested_too_deeply_to_be_shown_is_an_error() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(UpstreamError):
        json_text(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | HALF_TROUBLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["output", "text", "data", "json", "message", "x", "error"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_the_text_of_any_document_can_be_encoded(document: object) -> None:
    try:
        text = answer_text(document)
    except UpstreamError:
        return
    text.encode()


def test_every_text_in_decoded_json_is_found_names_included() -> None:
    value = {"a": ["b", {"c": "d"}, 1, None, True, ["e"]], "f": 2.5}
    assert sorted(strings(value)) == ["a", "b", "c", "d", "e", "f"]
    assert list(strings("alone")) == ["alone"]
    assert list(strings(12)) == []


def test_depth_alone_stops_nothing() -> None:
    value: object = "deep"
    for _ in range(10_000):
        value = [value]
    assert list(strings(value)) == ["deep"]
