"""A chat completion comes as its text, however it was cut, or not at all."""

from __future__ import annotations

from typing import Any

import hypothesis
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.config import Secret
from proxy.errors import UpstreamError
from proxy.model import Usage
from proxy.upstream import build
from proxy.upstream.openai import CompletionAnswer, OpenAiSettings
from tests.clients import request
from tests.upstream.cuts import cut, decode
from tests.upstream.script import CHUNKED, LAST_CHUNK, answer, chunk, encoded, owned, plain, says, serving

MAX = 4096
PLACES = st.lists(st.integers(0), max_size=12)
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices":[],"usage":{"total_tokens":9}}\n\n'


def settings(url: str = "http://model/v1/chat/completions", **given: Any) -> OpenAiSettings:  # Any: as from a file
    return OpenAiSettings(**{"kind": "openai", "url": url, "model": "small"} | given)


def delta(content: object = None, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": content} | more, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "x", "choices": [choice]}) + b"\n\n"


def completion(data: bytes, places: list[int] | None = None) -> tuple[str, str | None]:
    return decode(CompletionAnswer(MAX), cut(data, places or []))


@hypothesis.settings(deadline=None)
@given(st.lists(st.text(max_size=6), min_size=1, max_size=6).filter(any), st.sampled_from([b"\n", b"\r\n"]), PLACES)
def test_any_cutting_of_a_stream_gives_its_deltas(contents: list[str], end: bytes, places: list[int]) -> None:
    data = delta("", role="assistant") + b"".join(map(delta, contents)) + delta(finish="stop") + USAGE + DONE
    assert completion(data.replace(b"\n", end), places) == ("".join(contents), None)


@hypothesis.settings(deadline=None)
@given(st.text(max_size=6), st.booleans(), PLACES)
def test_any_cutting_of_a_document_gives_its_message(content: str, is_pretty: bool, places: list[int]) -> None:
    document = {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}
    data = b" \n" + orjson.dumps(document, option=orjson.OPT_INDENT_2 if is_pretty else 0)
    assert completion(data, places) == ((content, None) if content else ("", "empty answer"))


@hypothesis.settings(deadline=None)
@given(st.binary(max_size=40), PLACES)
def test_any_cutting_of_any_bytes_gives_the_same_text_and_the_same_end(data: bytes, places: list[int]) -> None:
    assert completion(data, places) == completion(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (delta("a") + DONE, "a"),
        (delta("a") + DONE + delta("after the end"), "a"),
        (delta("a", "stop"), "a"),
        (delta("a") + delta(finish="length") + USAGE, "a"),
        (b"\xef\xbb\xbf: comment\n\n" + delta("a") + b"event: ping\ndata: {}\n\n" + DONE, "a"),
        (delta(["odd"]) + delta("a") + b'data: {"choices":[7]}\n\ndata: {"choices":[{"delta":7}]}\n\n' + DONE, "a"),
        (rb'data: {"choices":[{"delta":{"content":"\ud83c"}}]}' + b"\n\n" + delta("!") + DONE, "\ufffd!"),
        (rb'data: {"choices":[{"delta":{"content":"a\ud83c"}}]}' + b"\n\n" + DONE, "a\ufffd"),
        (
            rb'data: {"choices":[{"delta":{"content":"\ud83c"}}]}' + b"\n\n"
            rb'data: {"choices":[{"delta":{"content":"\udf89"}}]}' + b"\n\n" + DONE,
            "🎉",
        ),
        (rb'{"choices":[{"message":{"content":"a\ud83c"}}]}', "a\ufffd"),
    ],
)
def test_a_completion_is_read_as_servers_send_it(data: bytes, text: str) -> None:
    assert completion(data) == (text, None)
    assert completion(data, list(range(len(data)))) == (text, None)


@pytest.mark.parametrize(
    ("data", "text", "detail"),
    [
        (b"", "", "cut"),
        (b" \n", "", "cut"),
        (b": ping\n\n", "", "cut"),
        (b"<html>not a model</html>", "", "cut"),
        (delta("half an ans"), "half an ans", "cut"),
        (delta("a") + b'data: {"choices":[{"delta":{"content":"b"}}]}', "a", "cut"),
        (DONE, "", "empty"),
        (delta(finish="tool_calls") + DONE, "", "empty"),
        (delta("a") + b'data: {"error":{"message":"secret"}}\n\n' + DONE, "a", "the model server reported an error"),
        (delta("a") + b"data: secret\n\n", "a", "not JSON"),
        (delta("a") + b"data: [1]\n\n", "a", "not an object"),
        (b'{"error":{"message":"secret"}}', "", "the model server reported an error"),
        (b'{"choices":[{"message":{"content":"half an', "", "not JSON"),
        (b'{"choices":[]}', "", "empty"),
        (b'{"choices":[{"message":{"content":null}}]}', "", "empty"),
        (b'{"choices":[{"message":"secret"}]}', "", "empty"),
        (b"{" + b" " * MAX, "", "over 4096"),
        (b" " * (MAX + 1), "", "over 4096"),
        (b": nothing but a sign of life\n\n" * 200, "", "over 4096"),
    ],
)
def test_what_is_no_whole_completion_is_an_error_that_tells_no_content(data: bytes, text: str, detail: str) -> None:
    got, error = completion(data, list(range(0, len(data), 50)))
    assert got == text
    assert error is not None
    assert detail in error
    assert "secret" not in error


def test_a_stream_over_the_bound_keeps_the_text_that_came_before_it() -> None:
    text, error = completion(delta("x" * 20) * 100, list(range(0, 4200, 50)))
    assert error == "an answer over 4096 bytes"
    assert 500 < len(text) < 2000


@pytest.mark.parametrize(
    ("data", "has_begun"),
    [
        (b" ", False),
        (delta("", role="assistant"), False),
        (b": OPENROUTER PROCESSING\n\n", True),
        (delta("a"), True),
        (b"{", True),
    ],
)
def test_a_completion_has_begun_with_its_first_text_or_sign_of_life(data: bytes, has_begun: bool) -> None:
    decoder = CompletionAnswer(MAX)
    decoder.feed(data)
    assert decoder.has_begun is has_begun


@pytest.mark.parametrize("ask", [True, False])
async def test_the_body_asks_for_a_stream(ask: bool) -> None:
    async with build(settings(ask_usage=ask), owned) as upstream:
        assert orjson.loads(encoded(upstream, request("hello"))) == {
            "model": "small",
            "messages": [{"role": "user", "content": "hello"}],
            "stream": True,
            **({"stream_options": {"include_usage": True}} if ask else {}),
        }


def told(usage: object) -> Usage | None:
    answer = CompletionAnswer(MAX)
    chunk = orjson.dumps({"choices": [], "usage": usage})
    answer.feed(delta("hi", finish="stop") + b"data: " + chunk + b"\n\n" + DONE)
    answer.finish()
    return answer.usage


def test_what_it_used_is_read_from_the_stream_and_from_a_document() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert told(usage) == Usage(3, 4)
    document = CompletionAnswer(MAX)
    document.feed(orjson.dumps({"choices": [{"message": {"content": "hi"}}], "usage": usage}))
    document.finish()
    assert document.usage == Usage(3, 4)


@pytest.mark.parametrize(
    "usage",
    [None, 7, {}, {"prompt_tokens": 3}, {"prompt_tokens": -1, "completion_tokens": 4},
     {"prompt_tokens": 10**9, "completion_tokens": 4}, {"prompt_tokens": "3", "completion_tokens": 4}],
)  # fmt: skip
def test_a_usage_that_cant_be_is_none(usage: object) -> None:
    assert told(usage) is None


async def test_the_systems_message_comes_first() -> None:
    async with build(settings(system="Be kind."), owned) as upstream:
        messages = orjson.loads(encoded(upstream, request("hello")))["messages"]
    assert messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]


@pytest.mark.parametrize(("api_key", "bearer"), [(None, "tok.e.n"), (Secret("sk-1"), "sk-1")])
async def test_a_third_party_gets_a_key_and_nothing_of_the_visitor(api_key: Secret | None, bearer: str) -> None:
    script = says(CHUNKED, chunk(delta("Hel")), chunk(delta("lo")), chunk(DONE) + LAST_CHUNK)
    async with serving(script) as server, build(settings(server.url, api_key=api_key), owned) as upstream:
        assert await answer(upstream) == ("Hello", None)
    headers = server.heard[0].headers
    assert headers["Authorization"] == f"Bearer {bearer}"
    assert set(headers) == {
        *("Accept", "Accept-Encoding", "Authorization", "Content-Length", "Content-Type", "Host", "User-Agent"),
        *("X-Request-Id", "traceparent"),
    }
    assert headers["User-Agent"] == "sidegate"


async def test_after_done_nothing_is_waited_for() -> None:
    async with (
        serving(says(CHUNKED + chunk(delta("a") + DONE))) as server,
        build(settings(server.url), owned) as upstream,
    ):
        assert await answer(upstream) == ("a", None)


async def test_a_server_that_does_not_stream_is_understood() -> None:
    body = b'{"choices":[{"message":{"role":"assistant","content":"hello"}}]}'
    async with serving(says(plain(body))) as server, build(settings(server.url), owned) as upstream:
        assert await answer(upstream) == ("hello", None)


async def test_a_wrong_key_is_our_mistake() -> None:
    async with (
        serving(says(plain(b"no", b"HTTP/1.1 401 No\r\n"))) as server,
        build(settings(server.url), owned) as upstream,
    ):
        _, error = await answer(upstream)
    assert isinstance(error, UpstreamError)
    assert "refused by the upstream" in error.detail


@pytest.mark.parametrize("given", [{"api_key": Secret("a\nb")}, {"api_key": Secret("")}, {"model": ""}])
def test_what_no_request_can_carry_stops_the_start(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_the_first_of_two_errors_in_one_read_is_told() -> None:
    data = delta("x" * (MAX + 1)) + b"data: secret\n\n"
    assert completion(data) == ("x" * (MAX + 1), "a chunk that is not JSON")
