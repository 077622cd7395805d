from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp.http
import aiohttp.web_protocol
import pytest
from aiohttp import HttpVersion10, HttpVersion11, http_parser, web
from aiohttp.http_parser import RawRequestMessagePy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.edge import http1
from proxy.edge.http1 import Chunked, Length, assert_c_parser
from proxy.edge.runner import make_runner
from proxy.errors import BadRequest
from tests.edge.listener import (
    BASE_HEADERS,
    PATIENCE,
    Answer,
    answer_with_size,
    answers,
    drip,
    listening,
    read_answer,
    recorded,
    until_closed,
)

CORPORA = Path(os.environ.get("SIDEGATE_CORPORA") or Path(__file__).parents[2] / ".." / "shared" / "corpora")


def request(
    target: str = "/",
    *fields: str,
    method: str = "GET",
    version: str = "HTTP/1.1",
    host: str = "Host: a",
    body: str = "",
) -> bytes:
    lines = [f"{method} {target} {version}", *([host] if host else []), *fields, "", ""]
    return ("\r\n".join(lines) + body).encode("latin-1")


def chunked(body: str, *fields: str) -> bytes:
    return request("/", "Transfer-Encoding: chunked", *fields, method="POST", body=body)


MALFORMED: dict[str, tuple[bytes, int]] = {
    # versions
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/1.2": (request(version="HTTP/1.2"), 400),
    "HTTP/2.0": (request(version="HTTP/2.0"), 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "lower-case version": (request(version="http/1.1"), 400),
    "another protocol": (request(method="OPTIONS", version="RTSP/1.0"), 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "two blanks before the target": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two blanks after the target": (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "lower-case method": (request(method="get"), 400),
    "two empty lines before": (b"\r\n\r\n" + request(), 400),
    # framing
    "two lengths": (request("/", "Content-Length: 1", "Content-Length: 1", body="x"), 400),
    "two differing lengths": (request("/", "Content-Length: 1", "Content-Length: 2", body="xy"), 400),
    "a list of lengths": (request("/", "Content-Length: 1, 1", body="x"), 400),
    "an empty length": (request("/", "Content-Length: "), 400),
    "a signed length": (request("/", "Content-Length: +1", body="x"), 400),
    "an underscored length": (request("/", "Content-Length: 1_0", body="0123456789"), 400),
    "a hexadecimal length": (request("/", "Content-Length: 0x1", body="x"), 400),
    "a length that could be octal": (request("/", "Content-Length: 010", body="0123456789"), 400),
    "an endless length": (request("/", f"Content-Length: {10**19}"), 400),
    "a look-alike length": (request("/", "Content_Length: 1", body="x"), 400),
    "length and coding": (request("/", "Content-Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n"), 400),
    "coding and length": (request("/", "Transfer-Encoding: chunked", "Content-Length: 5", body="0\r\n\r\n"), 400),
    "a comma before chunked": (request("/", "Transfer-Encoding: ,chunked", body="0\r\n\r\n"), 400),
    "gzip, chunked": (request("/", "Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), 400),
    "chunked, gzip": (request("/", "Transfer-Encoding: chunked, gzip", body="0\r\n\r\n"), 400),
    "chunked, chunked": (request("/", "Transfer-Encoding: chunked, chunked", body="0\r\n\r\n"), 400),
    "chunked twice": (request("/", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="0\r\n\r\n"), 400),
    "identity": (request("/", "Transfer-Encoding: identity"), 400),
    "xchunked": (request("/", "Transfer-Encoding: xchunked", body="0\r\n\r\n"), 400),
    "quoted chunked": (request("/", 'Transfer-Encoding: "chunked"', body="0\r\n\r\n"), 400),
    "chunked with a parameter": (request("/", "Transfer-Encoding: chunked;a=b", body="0\r\n\r\n"), 400),
    "an empty coding": (request("/", "Transfer-Encoding:"), 400),
    "chunked in HTTP/1.0": (request("/", "Transfer-Encoding: chunked", version="HTTP/1.0", body="0\r\n\r\n"), 400),
    "identity in HTTP/1.0": (request("/", "Transfer-Encoding: identity", version="HTTP/1.0"), 400),
    "a look-alike coding": (request("/", "Transfer_Encoding: chunked", body="0\r\n\r\n"), 400),
    "a blank before the colon": (request("/", "Transfer-Encoding : chunked", body="0\r\n\r\n"), 400),
    "a coding with 0x0b": (request("/", "Transfer-Encoding: \x0bchunked", body="0\r\n\r\n"), 400),
    # chunks
    "no chunk size": (chunked("\r\n\r\n"), 400),
    "a signed chunk size": (chunked("-0\r\n\r\n"), 400),
    "a prefixed chunk size": (chunked("0x1\r\nx\r\n0\r\n\r\n"), 400),
    "an underscored chunk size": (chunked("1_0\r\n0123456789abcdef\r\n0\r\n\r\n"), 400),
    "a blank before a chunk size": (chunked(" 1\r\nx\r\n0\r\n\r\n"), 400),
    "an endless chunk size": (chunked("fffffffffffffffff\r\nx"), 400),
    "a chunk line ended by LF": (chunked("1\nx\r\n0\r\n\r\n"), 400),
    "a chunk line with CR": (chunked("1\r\r;a\r\nx\r\n0\r\n\r\n"), 400),
    "a chunk longer than its size": (chunked("1\r\nxyz\r\n0\r\n\r\n"), 400),
    "an endless chunk extension": (chunked("1;" + "a" * 9000 + "\r\nx\r\n0\r\n\r\n"), 400),
    "a chunk extension with NUL": (chunked("1;a=\x00\r\nx\r\n0\r\n\r\n"), 400),
    "more framing than content": (chunked("1\r\nx\r\n" * 6000 + "0\r\n\r\n"), 400),
    "a length in a trailer": (chunked("1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n"), 400),
    "a coding in a trailer": (chunked("1\r\nx\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
    "a host in a trailer": (chunked("1\r\nx\r\n0\r\nHost: b\r\n\r\n"), 400),
    "credentials in a trailer": (chunked("1\r\nx\r\n0\r\nauthorization: Bearer x\r\n\r\n"), 400),
    "a look-alike in a trailer": (chunked("1\r\nx\r\n0\r\nContent_Length: 5\r\n\r\n"), 400),
    "a trailer without a colon": (chunked("1\r\nx\r\n0\r\nGET / HTTP/1.1\r\n\r\n"), 400),
    "an endless trailer": (chunked("1\r\nx\r\n0\r\nX: " + "a" * 9000 + "\r\n\r\n"), 400),
    "endless trailers": (chunked("1\r\nx\r\n0\r\n" + "X: aaaaaaaa\r\n" * 2000 + "\r\n"), 400),
    # header fields
    "two hosts": (request("/", "Host: b"), 400),
    "the same host twice": (request("/", "host: a"), 400),
    "two origins": (request("/", "Origin: https://a", "Origin: https://b"), 400),
    "two authorizations": (request("/", "Authorization: Bearer a", "authorization: Bearer b"), 400),
    "two content types": (request("/", "Content-Type: text/plain", "Content-Type: application/json"), 400),
    "two cookies": (request("/", "Cookie: a=1", "Cookie: a=2"), 400),
    "two sites": (request("/", "X-Sidegate-Site: a", "X-Sidegate-Site: b"), 400),
    "a look-alike host": (request("/", "X_Forwarded_Host: b"), 400),
    "a name beyond ASCII": (request("/", "X-\xe4: b"), 400),
    "a value beyond ASCII": (request("/", "X-Name: D\xfcsseldorf"), 400),
    "NUL in a value": (request("/", "X-Name: a\x00b"), 400),
    "a control character in a value": (request("/", "X-Name: a\x07b"), 400),
    "DEL in a value": (request("/", "X-Name: a\x7fb"), 400),
    "CR in a value": (request("/", "X-Name: a\rb"), 400),
    "LF in a value": (request("/", "X-Name: a\nX-Other: b"), 400),
    "LF line ends": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "a folded value": (request("/", "X-Name: a", " b"), 400),
    "a blank before the first name": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "no colon": (request("/", "X-Name a"), 400),
    "no name": (request("/", ": a"), 400),
    # hosts
    "no host": (request(host=""), 400),
    "no host in HTTP/1.0": (request(host="", version="HTTP/1.0"), 400),
    "an empty host": (request(host="Host:"), 400),
    "a host with a path": (request(host="Host: a/b"), 400),
    "a host with credentials": (request(host="Host: a@b"), 400),
    "two hosts in one": (request(host="Host: a, b"), 400),
    "a host with a blank": (request(host="Host: a b"), 400),
    "a host with an empty port": (request(host="Host: a:"), 400),
    "a host with a wordy port": (request(host="Host: a:http"), 400),
    "a port that is none": (request(host="Host: a:65536"), 400),
    "a host that is no IPv6 address": (request(host="Host: [1::2::3]"), 400),
    "a bare IPv6 address": (request(host="Host: ::1"), 400),
    # targets
    "absolute form": (request("http://b/"), 400),
    "absolute form with the same host": (request("http://a/"), 400),
    "authority form": (request("a:80"), 400),
    "no slash": (request("a"), 400),
    "an asterisk": (request("*"), 400),
    "a fragment": (request("/a#b"), 400),
    "a parent segment": (request("/a/../b"), 400),
    "a parent segment at the end": (request("/a/.."), 400),
    "a same segment": (request("/a/./b"), 400),
    "an escaped parent segment": (request("/a/%2e%2e/b"), 400),
    "a half escaped parent segment": (request("/a/.%2E/b"), 400),
    "a parent segment with a parameter": (request("/a/..;x=1/b"), 400),
    "an escaped slash": (request("/a%2fb"), 400),
    "an escaped slash in capitals": (request("/a%2Fb"), 400),
    "an escaped backslash": (request("/a%5Cb"), 400),
    "a backslash": (request("/a\\..\\b"), 400),
    "an escaped NUL": (request("/a%00"), 400),
    "an escaped line break": (request("/a%0d%0aX:b"), 400),
    "a broken escape": (request("/a%2"), 400),
    "NUL in the target": (request("/a\x00"), 400),
    "a control character in the target": (request("/a\x01"), 400),
    "a byte beyond ASCII in the target": (request("/a\xff"), 400),
    "a byte beyond ASCII in the query": (request("/a?b=\xff"), 400),
    "a blank in the target": (request("/a b"), 400),
    # methods, expectations, sizes
    "CONNECT": (request("a:80", method="CONNECT"), 405),
    "CONNECT to a path": (request("/", method="CONNECT"), 405),
    "TRACE": (request("/", method="TRACE"), 405),
    "an unknown expectation": (request("/", "Expect: the-unexpected"), 417),
    "two expectations": (request("/", "Expect: 100-continue", "Expect: 100-continue"), 400),
    "too many headers": (request("/", *(f"X-{n}: a" for n in range(100))), 431),
    "a header too long": (request("/", "X-Name: " + "a" * 9000), 431),
    "a target too long": (request("/" + "a" * 9000), 431),
    "a head too large": (request("/", *(f"X-{n}: {'a' * 900}" for n in range(20))), 431),
    "an endless head": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"b" * 100_000, 431),
}

# The request, and the size of its body.
GOOD: dict[str, tuple[bytes, int]] = {
    "plain": (request(), 0),
    "HTTP/1.0": (request(version="HTTP/1.0"), 0),
    "an empty line before": (b"\r\n" + request(), 0),
    "a body": (request("/", "Content-Length: 2", method="POST", body="ab"), 2),
    "an empty body": (request("/", "Content-Length: 0", method="POST"), 0),
    "no word about a body": (request("/", method="POST"), 0),
    "blanks around a length": (request("/", "Content-Length: \t 2 ", method="POST", body="ab"), 2),
    "chunks": (chunked("2\r\nab\r\n0\r\n\r\n"), 2),
    "chunks in capitals": (request("/", "TRANSFER-ENCODING: Chunked", method="POST", body="2\r\nab\r\n0\r\n\r\n"), 2),
    "a chunk extension": (chunked('2;name=value;q="a b"\r\nab\r\n0;x\r\n\r\n'), 2),
    "zeros before a chunk size": (chunked("0002\r\nab\r\n000\r\n\r\n"), 2),
    "a harmless trailer": (chunked("2\r\nab\r\n0\r\nX-Checksum: 1\r\n\r\n", "Trailer: X-Checksum"), 2),
    "a body with heads in it": (
        request("/", "Content-Length: 20", method="POST", body="GET / HTTP/1.1\r\n\r\n\r\n"),
        20,
    ),
    "two accepts": (request("/", "Accept: text/html", "Accept: */*"), 0),
    "two forwarded fors": (request("/", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"), 0),
    "an underscore in a name of nobody's": (request("/", "session_id: a"), 0),
    "an empty value": (request("/", "X-Name:"), 0),
    "a tab in a value": (request("/", "X-Name: a\tb"), 0),
    "a host with a port": (request(host="Host: shop.example:8443"), 0),
    "a host with an underscore": (request(host="Host: my_service:8080"), 0),
    "an IPv4 host": (request(host="Host: 127.0.0.1:80"), 0),
    "an IPv6 host": (request(host="Host: [::1]:80"), 0),
    "an IPv6 host with IPv4 in it": (request(host="Host: [::ffff:127.0.0.1]"), 0),
    "a host with a final dot": (request(host="Host: shop.example."), 0),
    "dots that are no segments": (request("/a..b/.well-known/...c/d.."), 0),
    "an escaped dot in a name": (request("/widget%2Ejs"), 0),
    "an escaped letter": (request("/%c3%a4?"), 0),
    "separators in the query": (request("/a?next=%2Fb%5c/../&x=100%&y=a\\b"), 0),
    "an expectation": (request("/", "Expect: 100-Continue", "Content-Length: 2", method="POST", body="ab"), 2),
    "a hundred headers": (request("/", *(f"X-{n}: a" for n in range(98)), "Accept: a"), 0),
    "an upgrade that nobody takes": (request("/", "Connection: Upgrade", "Upgrade: h2c"), 0),
}


def assert_refused(answer: Answer, status: int) -> str:
    """The one form of a refusal. Returns the request id."""
    fields = json.loads(answer.body)
    assert answer.status == fields["status"] == status
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/problem+json"
    assert {name: answer.headers[name.lower()] for name in BASE_HEADERS} == BASE_HEADERS
    assert "server" not in answer.headers
    assert (fields["type"], fields["code"]) == ("about:blank", "bad_request")
    assert fields["title"]
    assert fields["request_id"] == answer.headers["x-request-id"]
    return str(fields["request_id"])


def assert_one_line(lines: list[logging.LogRecord], request_id: str) -> None:
    assert [(line.name, line.levelno, line.exc_info) for line in lines] == [("proxy.edge.http1", logging.INFO, None)]
    text = lines[0].getMessage()
    assert "127.0.0.1" in text
    assert request_id in text
    assert text.isprintable()
    assert len(text) < 200


@pytest.mark.parametrize(("raw", "status"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_is_refused_once_and_the_connection_closed(raw: bytes, status: int) -> None:
    reached: list[str] = []

    async def handler(http: web.Request) -> web.StreamResponse:
        reached.append(http.path)
        return await answer_with_size(http, 1_000_000, 5)

    async with listening(handler) as listener:
        with recorded() as lines:
            found = await listener.exchange(raw)
            await listener.is_idle()
    assert len(found) == 1
    assert_one_line(lines, assert_refused(found[0], status))
    assert reached == []


@pytest.mark.parametrize(("raw", "size"), GOOD.values(), ids=GOOD)
async def test_a_well_formed_request_is_answered_and_the_connection_kept(raw: bytes, size: int) -> None:
    last = request("/", "Connection: close", "Content-Length: 3", method="POST", body="abc")
    async with listening() as listener:
        with recorded() as lines:
            found = await listener.exchange(raw, last)
    final = [answer for answer in found if answer.status != 100]
    # HTTP/1.0 ends its connection after the first answer.
    assert [answer.status for answer in final] == ([200] if b"HTTP/1.0" in raw else [200, 200])
    assert json.loads(final[0].body) == {"size": size}
    assert lines == []


async def test_trailers_are_none_of_the_next_requests_headers() -> None:
    """A proxy in front may send several clients' requests over one connection."""

    async def handler(http: web.Request) -> web.StreamResponse:
        await http.read()
        return web.json_response({"names": sorted(http.headers)})

    trailers = "X-Sidegate-Device: stolen\r\nSec-CH-UA: forged\r\n"
    body = chunked(f"2\r\nab\r\n0\r\n{trailers}\r\n", "Trailer: X-Sidegate-Device")
    many = request("/", *(f"X-{number}: a" for number in range(98)), "Connection: close")
    async with listening(handler) as listener:
        found = await listener.exchange(body + many)
    assert [answer.status for answer in found] == [200, 200]
    names = set(json.loads(found[1].body)["names"])
    assert len(names) == 100
    assert names.isdisjoint({"X-Sidegate-Device", "Sec-CH-UA"})


async def test_refusing_a_method_names_the_others() -> None:
    async with listening() as listener:
        (answer,) = await listener.exchange(MALFORMED["TRACE"][0])
    assert "GET" in answer.headers["allow"]
    assert "TRACE" not in answer.headers["allow"]


async def test_options_for_the_whole_server_is_well_formed_though_nothing_answers_it() -> None:
    async with listening() as listener:
        found = await listener.exchange(request("*", method="OPTIONS") + request("/", "Connection: close"))
    assert [answer.status for answer in found] == [404, 200]


async def test_bytes_after_a_connection_that_the_client_closes_count_for_nothing() -> None:
    async with listening() as listener:
        with recorded() as lines:
            found = await listener.exchange(request("/", "Connection: close") + b"garbage\r\n\r\n" + request())
    assert [answer.status for answer in found] == [200]
    assert lines == []


async def test_a_trailer_never_shows_in_the_head() -> None:
    seen: list[str | None] = []

    async def handler(http: web.Request) -> web.StreamResponse:
        answer = await answer_with_size(http, 100, 5)
        seen.append(http.headers.get("X-Late"))
        return answer

    async with listening(handler) as listener:
        found = await listener.exchange(chunked("1\r\nx\r\n0\r\nX-Late: a\r\n\r\n", "Connection: close"))
    assert [answer.status for answer in found] == [200]
    assert seen == [None]


def head_only(raw: bytes) -> RawRequestMessagePy:
    """A head as the most lenient of parsers would read it."""
    line, *fields = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, version = line.split(" ")
    pairs = [(name, value.strip()) for name, _, value in (field.partition(":") for field in fields)]
    headers = CIMultiDictProxy(CIMultiDict(pairs))
    raw_headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)
    minor = HttpVersion11 if version == "HTTP/1.1" else HttpVersion10
    return RawRequestMessagePy(
        method, target, minor, headers, raw_headers, False, None, False, "transfer-encoding" in headers, URL("/")
    )


@pytest.mark.parametrize(
    "raw",
    [
        request("/", "Transfer-Encoding: chunked", "Content-Length: 5"),
        request("/", "Content-Length: +5"),
        request("/", "Content-Length: 5", "content-length: 5"),
        request("/", "X-Name : a"),
        request("/", "X-Name: a\x00"),
        request("/", "X-Name: a\xff"),
        request("/\x7f"),
        request(host="X-Name: a"),
    ],
)
def test_what_aiohttps_parser_refuses_today_is_refused_without_it_too(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        http1.judge(raw, head_only(raw))


def test_a_good_head_passes_without_a_word() -> None:
    raw = request("/a?b=c", "Transfer-Encoding: chunked", method="POST")
    http1.judge(raw, head_only(raw))


class Disagreeing:
    """A parser that finds two requests in every head."""

    def feed_data(self, data: bytes) -> tuple[list[object], bool, bytes]:
        return [None, None], False, b""

    def message_consumed(self) -> None:
        pass


@pytest.mark.parametrize("pieces", [[request()], [b"GET / HTTP/1.1\r\n", b"Host: a\r\n\r\n"]])
async def test_two_opinions_about_where_a_head_ends_are_one_too_many(
    pieces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as listener:
        with recorded() as lines:
            monkeypatch.setattr(aiohttp.web_protocol, "HttpRequestParser", lambda *args, **kwargs: Disagreeing())
            (answer,) = await listener.exchange(*pieces)
            await listener.is_idle()
    assert_one_line(lines, assert_refused(answer, 400))


@pytest.mark.parametrize(("announced", "ours"), [(0, 5), (5, 0), (5, 6), (5, 4)])
async def test_two_opinions_about_where_a_body_ends_are_one_too_many(
    announced: int, ours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "body_of", lambda message: Length(ours))
    async with listening() as listener:
        with recorded() as lines:
            (answer,) = await listener.exchange(request("/", f"Content-Length: {announced}", body="abcdefgh"))
            await listener.is_idle()
    assert_one_line(lines, assert_refused(answer, 400))


# Bodies


async def test_a_body_that_breaks_while_it_is_read_is_a_400_and_the_end() -> None:
    entered = asyncio.Event()

    async def handler(http: web.Request) -> web.StreamResponse:
        entered.set()
        return await answer_with_size(http, 1000, 5)

    async with listening(handler) as listener, listener.connect() as (reader, writer):
        with recorded() as lines:
            writer.write(chunked("2\r\nab\r\n"))
            async with asyncio.timeout(5):
                await entered.wait()
            writer.write(b"zz\r\n" + request())
            data = await until_closed(reader)
    assert data.startswith(b"HTTP/1.1 400 ")
    assert data.count(b"HTTP/1.1") == 1
    assert b"\r\nConnection: close\r\n" in data
    assert [line.name for line in lines] == ["proxy.edge.http1"]


async def test_a_body_that_breaks_after_its_request_was_answered_costs_one_line() -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async with listening(handler) as listener, listener.connect() as (reader, writer):
        with recorded() as lines:
            writer.write(chunked("2\r\nab\r\n"))
            assert (await read_answer(reader)).status == 200
            writer.write(b"zz\r\n")
            assert await until_closed(reader) == b""
            await listener.is_idle()
    assert [(line.name, line.exc_info) for line in lines] == [("proxy.edge.http1", None)]


async def test_a_broken_body_that_a_handler_reads_by_itself_is_a_400_too() -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        entered.set()
        return web.Response(body=await http.read())

    entered = asyncio.Event()
    async with listening(handler) as listener, listener.connect() as (reader, writer):
        with recorded() as lines:
            writer.write(chunked("2\r\nab\r\n"))
            async with asyncio.timeout(5):
                await entered.wait()
            writer.write(b"zz\r\n")
            assert (await until_closed(reader)).startswith(b"HTTP/1.1 400 ")
    assert len(lines) == 1


@pytest.mark.parametrize(
    "raw",
    [
        request("/", "Content-Length: 11", method="POST", body="x" * 11),
        request("/", "Content-Length: 99999999999", method="POST"),
        chunked("6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n"),
        chunked("b\r\nabcdefghijk"),
    ],
    ids=["by its length", "by its length, unsent", "by its chunks", "by its chunks, unfinished"],
)
async def test_a_body_over_the_limit_is_a_413_and_the_end(raw: bytes) -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        return await answer_with_size(http, 10, 5)

    async with listening(handler) as listener:
        (answer,) = await listener.exchange(raw)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"


async def test_a_body_at_the_limit_passes() -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        return await answer_with_size(http, 10, 5)

    async with listening(handler) as listener:
        (answer,) = await listener.exchange(chunked("a\r\n0123456789\r\n0\r\n\r\n", "Connection: close"))
    assert (answer.status, json.loads(answer.body)) == (200, {"size": 10})


async def test_a_body_that_stops_coming_is_a_408_and_the_end() -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        return await answer_with_size(http, 100, 0.05)

    async with listening(handler) as listener:
        (answer,) = await listener.exchange(request("/", "Content-Length: 9", method="POST", body="abc"))
    assert answer.status == 408
    assert answer.headers["connection"] == "close"


async def test_a_dripping_body_doesnt_buy_itself_time() -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        return await answer_with_size(http, 10_000, 0.2)

    async with listening(handler) as listener, listener.connect() as (reader, writer):
        writer.write(request("/", "Content-Length: 10000", method="POST"))
        data = await drip(reader, writer, b"x")
    assert [answer.status for answer in answers(data)] == [408]


async def test_a_coded_body_arrives_as_it_was_sent() -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        return await answer_with_size(http, 100, 5)

    packed = base64.b64decode("H4sIAAAAAAAC/0tMTAQA4HkTNQMAAAA=").decode("latin-1")
    raw = request("/", "Content-Encoding: gzip", f"Content-Length: {len(packed)}", "Connection: close", body=packed)
    async with listening(handler) as listener:
        (answer,) = await listener.exchange(raw)
    assert json.loads(answer.body) == {"size": len(packed)}


@pytest.mark.parametrize("size", [300_000, 900_000])
async def test_a_body_larger_than_every_buffer_arrives_whole(size: int) -> None:
    large = request("/", f"Content-Length: {size}", method="POST", body="x" * size)
    pieces = f"{size:x}\r\n{'x' * size}\r\n" + "1000\r\n" + "y" * 4096 + "\r\n0\r\n\r\n"
    async with listening() as listener:
        found = await listener.exchange(large + chunked(pieces) + request("/", "Connection: close"))
    assert [json.loads(answer.body) for answer in found] == [{"size": size}, {"size": size + 4096}, {"size": 0}]


# Properties

WELL_FORMED = st.lists(
    st.sampled_from([good for name, good in GOOD.items() if name != "HTTP/1.0"]), min_size=1, max_size=5
)


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 60), max_size=30))
def test_chunked_bodies_are_framed_alike_however_they_are_cut(contents: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(b"%x\r\n%s\r\n" % (len(content), content) for content in contents if content) + b"0\r\n\r\n"
    body, taken = Chunked(), 0
    for piece in _cut(raw + b"GET / HTTP/1.1", cuts):
        taken += body.consume(piece)
    assert body.is_over
    assert taken == len(raw)


@given(st.binary(max_size=60))
@example(b"0\r\nX\r\n\r\n")
def test_a_chunked_body_is_whole_or_refused_or_goes_on(raw: bytes) -> None:
    body = Chunked()
    try:
        taken = body.consume(raw)
    except BadRequest:
        return
    assert taken == len(raw) or body.is_over


@settings(max_examples=60, deadline=None)
@given(WELL_FORMED, st.lists(st.integers(1, 200), max_size=40))
def test_pipelined_requests_are_read_alike_however_they_are_cut(
    goods: list[tuple[bytes, int]], cuts: list[int]
) -> None:
    async def bodies() -> list[bytes]:
        runner = make_runner(web.Application())
        await runner.setup()
        try:
            assert runner.server is not None
            connection = runner.server()
            found = []
            for piece in _cut(b"".join(raw for raw, _ in goods), cuts):
                assert connection._parser is not None
                found += connection._parser.feed_data(piece)[0]
            connection.unwatch_head()  # type: ignore[attr-defined]  # nobody will close this connection
            return [payload.read_nowait() for _, payload in found]
        finally:
            await runner.cleanup()

    assert [len(body) for body in asyncio.run(bodies())] == [size for _, size in goods]


def _cut(raw: bytes, cuts: list[int]) -> Iterator[bytes]:
    for cut in cuts:
        if raw:
            yield raw[:cut]
        raw = raw[cut:]
    if raw:
        yield raw


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A request with some bytes changed, or anything at all."""
    if draw(st.booleans()):
        return draw(st.binary(min_size=1, max_size=300))
    raw = bytearray(
        draw(
            st.sampled_from(
                [raw for raw, _ in MALFORMED.values() if len(raw) < 1000] + [raw for raw, _ in GOOD.values()]
            )
        )
    )
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(
            st.sampled_from(
                [b"", b"\r\n", b"\n", b"\r", b" ", b":", b"\0", b"\xff", b"0", b"%", b"\r\n\r\n", b"chunked"]
            )
        )
    return bytes(raw) or b"\n"


def test_no_bytes_make_a_5xx_a_traceback_or_a_server_that_stops_answering() -> None:
    with asyncio.Runner() as loop:
        context = listening()
        listener = loop.run(context.__aenter__())

        async def send(raw: bytes) -> tuple[bytes, list[Answer]]:
            data = bytearray()
            async with listener.connect() as (reader, writer):
                writer.write(raw)
                # What is incomplete isn't waited for: the client leaves.
                with contextlib.suppress(TimeoutError, ConnectionResetError):
                    async with asyncio.timeout(0.03):
                        while piece := await reader.read(1000):
                            data += piece
            return bytes(data), await listener.exchange(request("/", "Connection: close"))

        @settings(max_examples=150, deadline=None)
        @given(broken())
        def holds(raw: bytes) -> None:
            with recorded() as lines:
                data, after = loop.run(send(raw))
            assert re.search(rb"HTTP/1\.[01] 5", data) is None
            assert [answer.status for answer in after] == [200]
            assert len(lines) <= 1
            assert not [line for line in lines if line.exc_info or line.name != "proxy.edge.http1"]

        try:
            holds()
        finally:
            loop.run(context.__aexit__(None, None, None))


# Corpora of other projects' test requests

# Rows whose first requests are well-formed and get their answers before the malformed one is refused.
GOOD_STARTS = {"http_garden-6aa3f2fad9de": 2, "http_llhttp-9a2cf5bb7b53": 1}
# What other servers accept and we refuse, by the reason in the log.
STRICTER = {
    "the request line is not": 3,
    "a Content-Length that is no plain number": 2,
    "a fragment in the target": 1,
    "a target that is not in origin form": 1,
    "bytes beyond ASCII": 1,
    "Duplicate 'Transfer-Encoding'": 1,
    "Transfer-Encoding can't be present with Content-Length": 1,
}


def corpus(label: str) -> list[tuple[str, bytes]]:
    if not CORPORA.is_dir():
        pytest.fail(f"No corpora in {CORPORA}: put them there, or set SIDEGATE_CORPORA to the folder that holds them.")
    rows = []
    for name in ("http_garden", "http_h1spec", "http_llhttp", "http_patt"):
        for line in (CORPORA / f"{name}.jsonl").read_bytes().splitlines():
            row = json.loads(line)
            if row["label"] == label:
                rows.append((row["id"], base64.b64decode(row["raw_b64"]) if "raw_b64" in row else row["text"].encode()))
    assert rows
    return rows


async def test_every_request_of_the_corpora_that_must_be_refused_is_refused_in_one_line() -> None:
    wrong = []
    async with listening(header_timeout=1, keepalive_timeout=1) as listener:
        for name, raw in corpus("block"):
            with recorded() as lines:
                statuses = [answer.status for answer in await listener.exchange(raw)]
                await listener.is_idle()
            good = GOOD_STARTS.get(name, 0)
            if statuses[:good] != [200] * good or statuses[good:] not in ([400], [408]) or len(lines) != 1:
                wrong.append((name, statuses, [line.getMessage() for line in lines]))
    assert wrong == []


async def test_well_formed_requests_of_the_corpora_are_answered_but_for_the_known_exceptions() -> None:
    stricter: Counter[str] = Counter()
    wrong = []

    async def handler(http: web.Request) -> web.StreamResponse:
        return await answer_with_size(http, 10_000, 0.05)  # some rows announce a body that never comes

    async with listening(handler) as listener:
        for name, raw in corpus("allow"):
            if b"\r\nhost:" not in raw.lower():  # most rows leave it out, which we refuse
                raw = re.sub(rb"( HTTP/1\.[01]\r\n)", rb"\1Host: a\r\n", raw)
            with recorded() as lines:
                async with listener.connect() as (reader, writer), asyncio.timeout(PATIENCE):
                    writer.write(raw)
                    status = (await reader.readline())[9:12]
            reasons = [reason for reason in STRICTER if lines and reason in lines[0].getMessage()]
            stricter.update(reasons)
            if not reasons and (lines or status not in (b"200", b"408")):
                wrong.append((name, status, [line.getMessage() for line in lines]))
    assert wrong == []
    assert stricter == STRICTER


# The parser


def test_the_c_parser_is_in_use() -> None:
    assert_c_parser()


def test_without_the_c_parser_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.http, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(RuntimeError, match="AIOHTTP_NO_EXTENSIONS"):
        make_runner(web.Application())


def test_what_aiohttp_quotes_of_a_request_stays_out_of_the_log() -> None:
    from aiohttp.http_exceptions import BadHttpMessage, InvalidHeader, InvalidURLError

    for error in (
        BadHttpMessage("Bad thing:\n\n  b'secret'\n  ^"),
        InvalidHeader(b"secret"),
        InvalidURLError("secret"),
    ):
        assert "secret" not in http1.translate(error).detail
