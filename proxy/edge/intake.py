"""Between a connection's bytes and aiohttp's parser: one head or piece of a body at a time, judged by http1.py."""

from __future__ import annotations

from typing import Any, Protocol

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo  # the one way to queue an answer behind those before it
from multidict import CIMultiDict

from proxy.edge import http1
from proxy.edge.http1 import Chunked, Length
from proxy.errors import BadRequest, HeadersTooLarge

Item = tuple[RawRequestMessage | _ErrInfo, StreamReader]


class Host(Protocol):
    """The connection that an intake belongs to."""

    @property
    def is_reading_paused(self) -> bool: ...

    def is_queue_full(self, more: int) -> bool: ...

    def make_parser(self) -> HttpRequestParser: ...

    def watch_head(self) -> None:
        """There may be a beginning of a head, which has only so much time."""

    def unwatch_head(self) -> None: ...

    def refusal(self, error: BadRequest) -> Item:
        """What stands in the place of a request that is none."""

    def break_off(self, payload: StreamReader, refusal: Item) -> None:
        """The body of a request that is known already turned out to be malformed."""


class Intake:
    """Stands where aiohttp expects its parser, and feeds it exactly one head or (part of a) body at a time.

    So a broken request can't take an earlier good one with it, a broken head is told from a broken body, and aiohttp's
    idea of where a message ends is held against our own: where they differ, the request is refused.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_ends_here",
        "_head",
        "_held",
        "_is_over",
        "_made",
        "_payload",
        "is_refused",
    )

    def __init__(self, parser: Any, connection: Host) -> None:  # Any: the C parser has no annotations
        self._made: Any | None = parser
        self._connection = connection
        self._head = bytearray()
        self._body: Length | Chunked | None = None
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._held = b""  # read, and not to be parsed yet; at most one network read, since reading is paused meanwhile
        self._ends_here = False  # the client said `Connection: close`: nothing after this message counts
        self._is_over = False
        self.is_refused = False

    @property
    def _parser(self) -> Any:  # as in __init__
        if self._made is None:
            self._made = self._connection.make_parser()
        return self._made

    @property
    def is_in_head(self) -> bool:
        return bool(self._head)

    def feed_data(self, data: bytes) -> tuple[list[Item], bool, bytes]:
        """aiohttp's contract: the messages that began, whether the connection was upgraded, and what came then."""
        found: list[Item] = []
        if self._is_over:
            return found, False, b""
        if self._held:
            data, self._held = self._held + data, b""
        upgraded, rest = False, b""
        try:
            upgraded, rest = self._take(data, found)
        except HttpProcessingError as error:
            self._refuse(http1.translate(error), found)
        except BadRequest as error:
            self._refuse(error, found)
        self._connection.watch_head()
        return found, upgraded, rest

    def pause_reading(self) -> None:
        self._parser.pause_reading()

    def message_consumed(self) -> None:
        self._parser.message_consumed()

    def set_upgraded(self, value: bool) -> None:
        self._parser.set_upgraded(value)

    def forget(self) -> None:
        """Go on with another parser, when more comes, where that makes no difference: between two messages."""
        if self._body is None and not self._head and not self._held:
            self._made = None

    def stop(self, error: BadRequest) -> Item:
        """No further byte of this connection counts. Writes the one log line; returns what answers it."""
        self._is_over = self.is_refused = True
        self._head.clear()
        self._held = b""
        return self._connection.refusal(error)

    def _take(self, data: bytes, found: list[Item]) -> tuple[bool, bytes]:
        upgraded = False
        if self._body is not None:
            # Reading may have been paused within this body: then aiohttp's parser still keeps bytes of it.
            upgraded = self._feed(b"")
        while not self._must_wait(data, found):
            if self._body is None:
                data, upgraded = self._take_head(data, found)
            elif self._body.is_over != self._payload.is_eof():
                raise BadRequest("two opinions about where the body ends")
            elif not self._body.is_over:
                taken = self._body.consume(data)
                upgraded = self._feed(data[:taken])
                data = data[taken:]
            else:
                self._body = None
                if upgraded:
                    return True, data
                self._is_over = self._ends_here
        self._held = b"" if self._is_over else data
        return False, b""

    def _must_wait(self, data: bytes, found: list[Item]) -> bool:
        if self._is_over or self._connection.is_reading_paused:
            return True
        if self._body is None:
            return not data or self._connection.is_queue_full(len(found))
        return not data and not self._body.is_over and not self._payload.is_eof()

    def _feed(self, data: bytes) -> bool:
        messages, upgraded, rest = self._parser.feed_data(data)
        if messages or rest:
            raise BadRequest("two opinions about where the body ends")
        return bool(upgraded)

    def _take_head(self, data: bytes, found: list[Item]) -> tuple[bytes, bool]:
        """Take as much of a head as is there. Returns what is left, and whether the message asks for an upgrade."""
        head = self._head
        before = len(head)
        head += data[: http1.MAX_HEAD + 1 - before]
        first = 2 if head.startswith(b"\r\n") else 0
        end = head.find(b"\r\n\r\n", max(before - 3, first)) + 4
        if end < 4:
            if len(head) > http1.MAX_HEAD:
                raise HeadersTooLarge(f"a head over {http1.MAX_HEAD} bytes")
            messages, _, _ = self._parser.feed_data(data)
            if messages:
                raise BadRequest("two opinions about where the head ends")
            return b"", False
        messages, upgraded, rest = self._parser.feed_data(data[: end - before])
        if len(messages) != 1 or rest:
            raise BadRequest("two opinions about where the head ends")
        message, payload = messages[0]
        message = http1.without_trailers(bytes(head[:end]), message)
        http1.judge(bytes(head[:end]), message)
        head.clear()
        self._connection.unwatch_head()
        self._body, self._payload = http1.body_of(message), payload
        self._ends_here = message.should_close
        # The raw ones are read by nobody behind this; the others by forget_heads, which can't empty aiohttp's own.
        headers: Any = CIMultiDict(message.headers)  # aiohttp's type is a view, which couldn't be emptied
        found.append((message._replace(headers=headers, raw_headers=()), payload))
        return data[end - before :], upgraded

    def _refuse(self, error: BadRequest, found: list[Item]) -> None:
        """Answer the broken request in its turn, and only once."""
        item = self.stop(error)
        if self._body is None:
            found.append(item)
        elif found and found[-1][1] is self._payload:
            found[-1] = item
        else:
            self._connection.break_off(self._payload, item)
        self._body = None
