"""Whatever a webhook answers with, and however the network cuts it, its text comes out, and nothing but its text."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.upstream.answer import WebhookAnswer
from tests.upstream.cuts import cut, decode

META = {"nodeId": "n-ai-agent", "nodeName": "AI Agent", "itemIndex": 0, "runIndex": 0, "timestamp": 1795303509959}
PLACES = st.lists(st.integers(0), max_size=12)
MAX = 4096


def line(kind: str, content: object = None, **more: object) -> bytes:
    event: dict[str, object] = {"type": kind}
    if content is not None:
        event["content"] = content
    # As n8n writes it: UTF-8 unescaped, single halves of characters escaped (JavaScript's well-formed stringify).
    text = json.dumps(event | more, ensure_ascii=False, separators=(",", ":"))
    return b"".join(
        f"\\u{ord(character):04x}".encode() if "\ud800" <= character <= "\udfff" else character.encode()
        for character in text
    )


def stream(*lines: bytes) -> bytes:
    return b"".join(one + b"\n" for one in lines)


def run(*contents: object) -> bytes:
    return stream(
        line("begin", metadata=META),
        *(line("item", content, metadata=META) for content in contents),
        line("end", metadata=META),
    )


def answer(data: bytes, places: list[int] | None = None, max_bytes: int = MAX) -> tuple[str, str | None]:
    return decode(WebhookAnswer(max_bytes), cut(data, places or []))


@settings(deadline=None)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=6).filter(any), PLACES)
@example(["You ", "said: ", "grüße ", "日本 ", "🎉. "], list(range(1000)))
def test_any_cutting_of_a_stream_gives_its_contents(contents: list[str], places: list[int]) -> None:
    assert answer(run(*contents), places) == ("".join(contents), None)


LINES = st.sampled_from(
    [
        line("begin", metadata=META),
        line("end", metadata=META),
        line("item", "one "),
        line("item", "日本 "),
        line("item", "\ud83c"),
        line("item", "\udf89"),
        line("item"),
        line("item", {"a": [1]}),
        line("item", 7),
        line("keepalive"),
        line("some-day", "x"),
        line("error", "secret"),
        b"",
        b"  \r",
        b"{",
        b"[]",
        b"\xff",
        b'{"output": "two"}',
        b'{"response": "three", "done": true}',
        b"plain",
        b"\xef\xbb\xbf",
    ]
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=6).map(b"\n".join), PLACES)
@example(b'{\nplain\n{"type":"error","content":"secret"}', [])
def test_any_cutting_of_anything_gives_the_same_text_and_the_same_end(data: bytes, places: list[int]) -> None:
    text, error = answer(data, places)
    assert (text, error) == answer(data)
    assert "secret" not in text + (error or "") or not data.lstrip(b"\xef\xbb\xbf\n \r").startswith(b"{")
    text.encode()


@settings(deadline=None)
@given(st.binary(max_size=30), PLACES)
def test_any_cutting_of_any_bytes_gives_the_same_text_and_the_same_end(data: bytes, places: list[int]) -> None:
    assert answer(data, places) == answer(data)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["output", "x"]), st.text(), min_size=1), st.booleans(), PLACES)
def test_any_cutting_of_a_document_gives_its_text(document: dict[str, str], is_pretty: bool, places: list[int]) -> None:
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 if is_pretty else 0)
    expected = document["output"] if "output" in document else json.dumps(document, ensure_ascii=False, indent=2)
    assert answer(data, places) == ((expected, None) if expected else ("", "empty answer"))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        # Several runs: an agent that used a tool, a node that responds after it.
        (run("Let me see. ") + run("six times ", "seven"), "Let me see. six times seven"),
        (stream(line("keepalive"), line("item", "late"), line("keepalive")), "late"),
        (stream(line("item", "a"), line("item"), line("item", None), line("item", ""), line("item", "b")), "ab"),
        (stream(line("item", {"output": "ü"})), '{"output": "ü"}'),
        (stream(line("item", 4.5), line("item", True)), "4.5true"),
        (stream(line("start-of-something", metadata=META), line("item", "a")), "a"),
        (stream(line("end"), line("begin"), line("item", "a"), line("end")), "a"),
        (b"\r\n \xef\xbb\xbf\r\n" + run("a").replace(b"\n", b"\r\n\r\n"), "a"),
        (stream(line("item", "\ud83c"), line("item", "\udf89!")), "🎉!"),
        (stream(line("item", "\ud83c"), line("item", "!\ud83c")), "\ufffd!\ufffd"),
        (line("item", "no line end"), "no line end"),
        (run("a")[:-1], "a"),
    ],
)
def test_a_stream_is_read_as_n8n_writes_it(data: bytes, text: str) -> None:
    assert answer(data) == (text, None)
    assert answer(data, list(range(len(data)))) == (text, None)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"output":"hello"}', "hello"),
        (b' \xef\xbb\xbf \n{"output":"hello"}\n', "hello"),
        (b'[{"output":"a"},\n{"output":"b"}]', "a\nb"),
        (b'{\n  "text": "hello"\n}', "hello"),
        (b'{"type":"message","text":"hello"}', "hello"),
        (b'{"type":7,"text":"hello"}', "hello"),
        (rb'{"output":"\ud83c"}', "\ufffd"),
        (b'{"response":"Hel","done":false}\n{"response":"lo","done":false}\n{"response":"","done":true}\n', "Hello"),
        (b'{"a":1}\n{"b":2}', '{\n  "a": 1\n}\n{\n  "b": 2\n}'),
        (b"[Note] just text\nof two lines", "[Note] just text\nof two lines"),
        (b"[1]\n[2]", "[1]\n[2]"),
        (b"{name}, hello", "{name}, hello"),
        (b"hello", "hello"),
        (b"Hi", "Hi"),
        (b"\n\n  hello \n", "hello \n"),
        (b'"hello"', "hello"),
        (b'"Wait\\n here"\n', "Wait\n here"),
        (b'"Yes," he said, "and no."', '"Yes," he said, "and no."'),
        (b'"quoted and cut', '"quoted and cut'),
        (b"<b>bold</b>", "<b>bold</b>"),
        (b"<3", "<3"),
        (b"\xef\xbb\xbfhello", "hello"),
        (b"caf\xe9 \xf0\x9f", "caf\ufffd \ufffd"),
        (b"\xef\xbb", "\ufffd"),
    ],
)
def test_a_plain_answer_is_read_for_what_it_is(data: bytes, text: str) -> None:
    assert answer(data) == (text, None)
    assert answer(data, list(range(len(data)))) == (text, None)


@pytest.mark.parametrize(
    ("data", "text", "detail"),
    [
        (b"", "", "empty"),
        (b" \r\n\n", "", "empty"),
        (b"\xef\xbb\xbf", "", "empty"),
        (b"{}", "", "empty"),
        (b"[]", "", "empty"),
        (b'{"output":""}', "", "empty"),
        (stream(line("begin"), line("end")), "", "empty"),
        (stream(line("keepalive")), "", "empty"),
        (stream(line("begin"), line("item", "half an ans")), "half an ans", "cut"),
        (run("a") + stream(line("begin")), "a", "cut"),
        (run("a") + line("item", "b")[:-4], "a", "not JSON"),
        (stream(line("item", "a"), b"null"), "a", "not an object"),
        (stream(line("item", "a"), b'{"type":"item","content":"\xff"}'), "a", "not JSON"),
        (stream(line("item", "a"), b'{"type":"item","content":NaN}'), "a", "not JSON"),
        (
            stream(line("item", "a"), line("error", "Node 'X' failed"), line("item", "never")),
            "a",
            "n8n reported an error",
        ),
        (stream(line("error")), "", "n8n reported an error"),
        (line("error", "Node 'X' failed"), "", "n8n reported an error"),
        (b'{"executionStarted":true,"executionId":"49","resumeToken":"secret"}', "", "waiting execution"),
        (b'{"error":"Node \'X\' failed"}', "", "report of an error"),
        (b'{"a":1}\n{"type":"error","content":"Node \'X\' failed"}', "", "report of an error"),
        (b'{"output":"half an ans', "", "not valid JSON"),
        (b'[{"output":"half an ans', "", "not valid JSON"),
        (b'{"output":"caf\xe9"}', "", "not valid JSON"),
    ],
)
def test_what_is_no_whole_answer_is_an_error_that_tells_no_content(data: bytes, text: str, detail: str) -> None:
    for places in ([], list(range(len(data)))):
        got, error = answer(data, places)
        assert got == text
        assert error is not None
        assert detail in error
        assert "Node" not in error
        assert "secret" not in error


@pytest.mark.parametrize(
    "data",
    [
        b'{"output":"' + b"x" * MAX + b'"}',
        b"{" * (MAX + 1),
        b"[\n" + b" " * MAX,
        b"x" * (MAX + 1),
        stream(*[line("item", "x" * 1000)] * 5),
        stream(line("item", "a"), *[line("keepalive")] * 200),
        b" " * (MAX + 1),
    ],
)
def test_an_answer_over_the_bound_is_an_error(data: bytes) -> None:
    text, error = answer(data, list(range(0, len(data), 100)))
    assert error == "an answer over 4096 bytes"
    assert len(text) <= MAX + 1000


@pytest.mark.parametrize("start", [b'{"output":"', b"{\n", b"text", stream(line("item", "a"))])
def test_over_the_bound_nothing_more_is_read(start: bytes) -> None:
    decoder = WebhookAnswer(MAX)
    decoder.feed(start)
    for _ in range(3 * MAX):
        if decoder.is_over:
            break
        decoder.feed(line("item", "xxxx") + b"\n" if start.startswith(b'{"type"') else b"xxxx")
    else:
        pytest.fail("endless")


def test_the_first_of_two_errors_in_one_read_is_told() -> None:
    data = stream(line("item", "x" * (MAX + 1)), b"null")
    assert answer(data) == ("x" * (MAX + 1), "a line of the stream is not an object")


def test_a_stream_may_begin_with_an_event_of_a_later_n8n() -> None:
    decoder = WebhookAnswer(MAX)
    assert decoder.feed(stream(line("some-day", metadata=META), line("item", "a"))) == "a"


def test_an_endless_line_of_a_stream_is_an_error() -> None:
    data = stream(line("item", "a")) + b'{"type":"item","content":"' + b"x" * 2**20
    text, error = answer(data, [20_000], max_bytes=2**22)
    assert (text, error) == ("a", "a line over 1048576 bytes")


@pytest.mark.parametrize(
    ("data", "has_begun"),
    [
        (b" \n", False),
        (b'{"output"', True),
        (b"hello", True),
        (stream(line("begin")), False),
        (stream(line("begin"), line("item", "")), True),
        (stream(line("keepalive")), True),
    ],
)
def test_an_answer_has_begun_with_its_first_content_or_sign_of_life(data: bytes, has_begun: bool) -> None:
    decoder = WebhookAnswer(MAX)
    decoder.feed(data)
    assert decoder.has_begun is has_begun


def test_the_contents_of_one_read_are_one_piece() -> None:
    decoder = WebhookAnswer(MAX)
    assert decoder.feed(run("a", "b")) == "ab"


@settings(deadline=None)
@given(PLACES)
def test_the_page_n8n_serves_while_it_starts_is_no_answer(places: list[int]) -> None:
    assert answer(b"n8n is starting up. Please wait", places) == ("", "n8n is still starting")


@settings(deadline=None)
@given(st.sampled_from([b"<!DOCTYPE html>", b"\n<!doctype HTML PUBLIC", b"<html lang='en'>", b"<HTML>"]), PLACES)
def test_a_page_is_no_answer(start: bytes, places: list[int]) -> None:
    assert answer(start + b"<title>502 Bad Gateway</title>", places) == ("", "a page")


@settings(deadline=None)
@given(PLACES)
def test_a_text_that_only_begins_like_it_is_an_answer(places: list[int]) -> None:
    assert answer(b"n8n is starting your order", places) == ("n8n is starting your order", None)
    assert answer(b"n8n is", places) == ("n8n is", None)
    assert answer(b"<!doctype", places) == ("<!doctype", None)
