"""Which HTTP/1.1 requests get in: RFC 9112 without its tolerances, judged beside aiohttp's own parser.

Stops what two parsers could read in two ways (framing, doubled and look-alike headers, odd versions, disguised paths),
and bounds heads, chunk framing and trailers. What a request asks for is not judged here. runner.py waits and answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re

import aiohttp.http
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError, InvalidHeader, InvalidURLError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import BadRequest, HeadersTooLarge, MethodNotAllowed, RequestTimeout, TooLarge

log = logging.getLogger(__name__)

MAX_HEAD = 16 * 1024  # bytes, request line and blank line included
MAX_FIELDS = 100
MAX_LINE = 8190  # bytes of the target, and of one header field
MAX_CHUNK_LINE = 256  # bytes of a chunk's size and extensions
MAX_FRAMING = 16 * 1024  # bytes of chunk framing and trailers beyond as many bytes as the content has

# Read as one value. Of two, another parser on the path may see the one that we don't.
_SINGLE = frozenset(
    b"authorization content-encoding content-length content-type cookie expect host idempotency-key last-event-id"
    b" max-forwards origin proxy-authorization range referer sec-fetch-dest sec-fetch-mode sec-fetch-site"
    b" sec-websocket-key sec-websocket-version traceparent transfer-encoding user-agent x-embed-key x-request-id"
    b" x-sidegate-site".split()
)
# Also worth forging by a name that CGI-like servers fold into it (`Content_Length`), or from within a trailer.
_GUARDED = _SINGLE | frozenset(
    b"connection forwarded keep-alive proxy-connection te trailer upgrade via x-forwarded-for x-forwarded-host"
    b" x-forwarded-port x-forwarded-proto x-real-ip".split()
)

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# One empty line before the request is tolerated (RFC 9112 section 2.2). Possessive: linear in the size of the head.
_REQUEST_LINE = rb"(?:\r\n)?[A-Z-]++ [\x21-\x7e]++ HTTP/1\.[01]\r\n"
_FIELD_LINE = _TOKEN + rb":[\t\x20-\x7e]*+\r\n"
_HEAD = re.compile(_REQUEST_LINE + rb"(?:" + _FIELD_LINE + rb")*+\r\n")
_HEAD_START = re.compile(_REQUEST_LINE)
_TRAILER = re.compile(rb"(" + _TOKEN + rb"):[\t\x20-\x7e]*+\r\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*+;[\t\x20-\x7e]*+)?\r\n")

_LENGTH = re.compile(r"0|[1-9][0-9]{0,14}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9_.])?|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?"
)
# Escapes that don't decode, or decode to a separator or a control character. Dots are looked at after decoding.
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%(?:2[Ff]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])")
_ESCAPED_DOT = re.compile(r"%2[Ee]")


class ExpectationFailed(BadRequest):
    """RFC 9110 section 15.5.18."""

    status = 417
    message = "The request expects something that can't be met."


def without_trailers(head: bytes, message: RawRequestMessage) -> RawRequestMessage:
    """The message with the headers of its own head alone: aiohttp 3.14's parser puts the trailers of a chunked body in
    front of those of the next request on the connection, which may be another client's."""
    foreign = len(message.raw_headers) - (head.strip(b"\r\n").count(b"\n"))
    if foreign <= 0:
        return message
    own = message.raw_headers[foreign:]
    headers = CIMultiDict((name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in own)
    return message._replace(headers=CIMultiDictProxy(headers), raw_headers=own)


def judge(head: bytes, message: RawRequestMessage) -> None:
    """Refuse a head that aiohttp's parser accepted, but not everybody reads alike. Raises BadRequest.

    `head` is what came, from the request line to the blank line; `message` is what aiohttp's parser made of it.
    """
    if _HEAD.fullmatch(head) is None:
        raise BadRequest(_grammar(head))
    names = [name.lower() for name, _ in message.raw_headers]
    if len(names) > MAX_FIELDS:
        raise HeadersTooLarge("too many headers")
    seen = set(names)
    if len(seen) < len(names) and (doubled := sorted(name for name in seen & _SINGLE if names.count(name) > 1)):
        raise BadRequest(f"more than one {doubled[0].decode()} header")
    if b"_" in b" ".join(names):
        for name in names:
            if b"_" in name and name.replace(b"_", b"-") in _GUARDED:
                raise BadRequest("a header name that looks like another one")
    _judge_framing(message)
    _judge_target(message.method, message.path)
    _judge_host(message.headers.get(hdrs.HOST))
    expect = message.headers.get(hdrs.EXPECT)
    if expect is not None and expect.lower() != "100-continue":
        raise ExpectationFailed("an expectation other than 100-continue")


def _grammar(head: bytes) -> str:
    if not head.isascii():
        return "bytes beyond ASCII in the head"
    if _HEAD_START.match(head) is None:
        return "the request line is not `METHOD target HTTP/1.0|1.1`"
    return "a header line is not `name: value`"


def _judge_framing(message: RawRequestMessage) -> None:
    """One way only to tell where a body ends (RFC 9112 section 6)."""
    coding, length = message.headers.get(hdrs.TRANSFER_ENCODING), message.headers.get(hdrs.CONTENT_LENGTH)
    if coding is not None:
        if coding.lower() != "chunked":
            raise BadRequest("a Transfer-Encoding other than chunked")
        if message.version == aiohttp.http.HttpVersion10:
            raise BadRequest("a Transfer-Encoding in HTTP/1.0")
        if length is not None:
            raise BadRequest("a Transfer-Encoding beside a Content-Length")
    if length is not None and _LENGTH.fullmatch(length) is None:
        raise BadRequest("a Content-Length that is no plain number")


def _judge_target(method: str, target: str) -> None:
    """Origin-form, or `OPTIONS *`; a path that means the same to everybody, decoded once or not at all."""
    if method in ("CONNECT", "TRACE"):
        raise MethodNotAllowed(
            f"the method {method}", headers={"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
        )
    if target == "*" and method == "OPTIONS":
        return
    if not target.startswith("/"):
        raise BadRequest("a target that is not in origin form")
    if "#" in target:
        raise BadRequest("a fragment in the target")
    path = target.partition("?")[0]
    if "\\" in path:
        raise BadRequest("a backslash in the path")
    if "%" in path:
        if _BAD_ESCAPE.search(path) is not None:
            raise BadRequest("a broken escape, or an escaped slash, backslash or control character in the path")
        path = _ESCAPED_DOT.sub(".", path)
    # Servers that know path parameters read `/..;x/` as `/../`.
    if "/." in path and any(segment.partition(";")[0] in (".", "..") for segment in path.split("/")):
        raise BadRequest("a dot segment in the path")


def _judge_host(host: str | None) -> None:
    """One host, with or without a port (RFC 9112 section 3.2), in HTTP/1.0 too: sites and allowed hosts hang on it."""
    if host is None:
        raise BadRequest("no Host header")
    parts = _HOST.fullmatch(host)
    if parts is None or int(parts[2] or 0) > 65_535:
        raise BadRequest("a Host that is no host name or address")
    if parts[1] is not None:
        try:
            ipaddress.IPv6Address(parts[1])
        except ValueError:
            raise BadRequest("a Host that is no IPv6 address") from None


def translate(error: HttpProcessingError) -> BadRequest:
    """What aiohttp's parser complains about, as ours. The bytes that it quotes stay out of the detail."""
    if isinstance(error, LineTooLong):
        return HeadersTooLarge("a line of the head is too long")
    if error.message == "Too many headers received":
        return HeadersTooLarge("too many headers")
    if isinstance(error, InvalidURLError):
        return BadRequest("the target can't be read")
    if isinstance(error, InvalidHeader):
        return BadRequest("a header can't be read")
    return BadRequest(error.message.removeprefix("Bad status line:").strip().partition(":\n")[0])


class Length:
    """The body of a message with a Content-Length, or with no body at all (0)."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_over(self) -> bool:
        return self._left == 0

    def consume(self, data: bytes) -> int:
        """How many bytes at the start of `data` belong to the body."""
        taken = min(self._left, len(data))
        self._left -= taken
        return taken


class Chunked:
    """The body of a chunked message (RFC 9112 section 7.1), trailers included.

    Chunk extensions are ignored, and so are trailers: nothing of them reaches a handler. Those that would mean
    something in a head are refused all the same: a parser that merges them would see another request than we do.
    """

    __slots__ = ("_content", "_framing", "_in_trailers", "_left", "_line", "is_over")

    def __init__(self) -> None:
        self._left = 0  # bytes of the present chunk and its CRLF still to come; aiohttp's parser checks that CRLF
        self._line = b""
        self._content = 0
        self._framing = 0
        self._in_trailers = False
        self.is_over = False

    def consume(self, data: bytes) -> int:
        """How many bytes at the start of `data` belong to the body. Raises BadRequest."""
        at = 0
        while at < len(data) and not self.is_over:
            if self._left:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._line += data[at : min(end, at + MAX_LINE + 1)]
            if len(self._line) > (MAX_LINE if self._in_trailers else MAX_CHUNK_LINE):
                raise BadRequest("a chunk's size and extensions, or a trailer, are too long")
            at = end
            if self._line.endswith(b"\n"):
                self._end_of_line()
        return at

    def _end_of_line(self) -> None:
        line, self._line = self._line, b""
        self._framing += len(line) + 2
        if self._in_trailers:
            self._trailer(line)
        else:
            parts = _CHUNK_LINE.fullmatch(line)
            if parts is None:
                raise BadRequest("a chunk size that is no plain hexadecimal number")
            size = int(parts[1], 16)
            self._content += size
            self._left = size + 2 if size else 0
            self._in_trailers = not size
        if self._framing > MAX_FRAMING + self._content:
            raise BadRequest("more chunk framing than content")

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.is_over = True
            return
        parts = _TRAILER.fullmatch(line)
        if parts is None:
            raise BadRequest("a trailer that is not `name: value`")
        if parts[1].lower().replace(b"_", b"-") in _GUARDED:
            raise BadRequest("a trailer that belongs in the head")


def body_of(message: RawRequestMessage) -> Length | Chunked:
    """Where the body of a judged message ends."""
    return Chunked() if message.chunked else Length(int(message.headers.get(hdrs.CONTENT_LENGTH, 0)))


async def read_body(http: web.Request, max_bytes: int, timeout: float) -> bytes:  # noqa: ASYNC109 - the callers' settings
    """The body as it came (content codings are not undone), within `timeout` seconds.

    Raises TooLarge, RequestTimeout, or BadRequest if its framing breaks; after each of them the connection ends with
    the answer. A client that leaves ends the handler.
    """
    content = http.content
    try:
        if (http.content_length or 0) > max_bytes:
            raise TooLarge(f"Content-Length over {max_bytes}")
        if content.is_eof():  # here already, as with nearly every message: no timer
            body = content.read_nowait()
            if len(body) > max_bytes:
                raise TooLarge(f"a body over {max_bytes} bytes")
            return body
        collected = bytearray()
        async with asyncio.timeout(timeout):
            async for piece in content.iter_any():
                if len(collected) + len(piece) > max_bytes:
                    raise TooLarge(f"a body over {max_bytes} bytes")
                collected += piece
        return bytes(collected)
    except TooLarge:
        http.protocol.close()
        raise
    except TimeoutError:
        http.protocol.close()
        raise RequestTimeout(f"no whole body within {timeout} s") from None
    except web.RequestPayloadError as error:
        http.protocol.close()
        raise BadRequest(str(error)) from None


def assert_c_parser() -> None:
    """Raise RuntimeError unless aiohttp's C parser is in use: its pure Python stand-in accepts malformed requests."""
    if aiohttp.http.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise RuntimeError(
            "aiohttp runs on its pure Python HTTP parser, which accepts malformed requests: unset AIOHTTP_NO_EXTENSIONS"
            " and install aiohttp from a wheel, or build it with a C compiler."
        )
