"""aiohttp's server, made strict: connections judged by http1.py, a deadline for heads, one answer to what is malformed.

aiohttp has no hook before routing that sees raw bytes, so a connection's parser is wrapped (`Intake`) and its protocol
class extended (`Connection`). Both lean on aiohttp's internals: the range in pyproject.toml is narrow for that reason.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo  # the one way to queue an answer behind those before it

from proxy.edge import http1
from proxy.edge.http1 import Chunked, Length, assert_c_parser, log
from proxy.edge.problem import problem
from proxy.errors import BadRequest, ClientGone, HeadersTooLarge, ProxyError, RequestTimeout, UpstreamTimeout

MAX_PIPELINED = 8  # requests parsed and waiting, per connection; beyond that, reading pauses
LINGER = (
    2.0  # seconds in which the rest of a refused request is read and dropped, so that no reset overtakes the answer
)

Headers = Callable[[], Mapping[str, str]]
Item = tuple[RawRequestMessage | _ErrInfo, StreamReader]


class Refusal(Exception):
    """A refused request, on its way to being answered."""

    def __init__(self, error: BadRequest, request_id: str) -> None:
        super().__init__(error.detail)
        self.error = error
        self.request_id = request_id


class Unsigned(web.Response):
    """An answer without aiohttp's `Server` header. (The applications' own answers lose it in on_response_prepare.)"""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


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
        "_parser",
        "_payload",
        "is_refused",
    )

    def __init__(self, parser: Any, connection: Connection) -> None:  # Any: the C parser has no annotations
        self._parser = parser
        self._connection = connection
        self._head = bytearray()
        self._body: Length | Chunked | None = None
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._held = b""  # read, and not to be parsed yet; at most one network read, since reading is paused meanwhile
        self._ends_here = False  # the client said `Connection: close`: nothing after this message counts
        self._is_over = False
        self.is_refused = False

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
        http1.judge(bytes(head[:end]), message)
        head.clear()
        self._connection.unwatch_head()
        self._body, self._payload = http1.body_of(message), payload
        self._ends_here = message.should_close
        found.append((message, payload))
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


class Connection(RequestHandler):
    """One client connection.

    Deadlines: a head has `header_timeout` seconds from its first byte (the first head from the connection on), however
    it drips. Bodies have theirs in `read_body`, idle connections in aiohttp's keep-alive timer; answers have none here.
    """

    __slots__ = ("_base_headers", "_head_timer", "_header_timeout", "_intake")

    def __init__(self, server: Server, *, header_timeout: float, base_headers: Headers, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._max_msg_queue_size = MAX_PIPELINED
        self._msg_queue_resume_size = MAX_PIPELINED // 2
        self._header_timeout = header_timeout
        self._base_headers = base_headers
        self._head_timer: asyncio.TimerHandle | None = None
        self._intake = Intake(self._parser, self)
        self._parser = self._intake  # type: ignore[assignment]  # has the four methods that a server calls

    # What the intake needs to know

    @property
    def is_reading_paused(self) -> bool:
        return self._reading_paused

    def is_queue_full(self, more: int) -> bool:
        return len(self._messages) + more >= MAX_PIPELINED

    def watch_head(self) -> None:
        """One timer per head that doesn't come in one piece, none per byte."""
        if self._intake.is_in_head and self._head_timer is None:
            self._head_timer = self._loop.call_later(self._header_timeout, self._head_is_late)

    def unwatch_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def refusal(self, error: BadRequest) -> Item:
        """The one log line, and the item that aiohttp will answer when its turn comes."""
        self.unwatch_head()
        request_id = uuid.uuid4().hex
        log.info("malformed request from %s: %s (%d, %s)", self._address, error.detail[:80], error.status, request_id)
        return _ErrInfo(error.status, Refusal(error, request_id), ""), EMPTY_PAYLOAD

    def break_off(self, payload: StreamReader, refusal: Item) -> None:
        """The body of a request that is known already turned out to be malformed."""
        for index, (_, queued) in enumerate(self._messages):
            if queued is payload:
                self._messages[index] = refusal
                return
        # Its handler runs: reading the body raises, and the handler's answer is the last one.
        payload.set_exception(web.RequestPayloadError("malformed body"))
        payload.feed_eof()
        self.close()

    @property
    def _address(self) -> str:
        peer = self.peername
        return str(peer[0]) if isinstance(peer, tuple) else "unix"

    # Deadlines

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._header_timeout, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.unwatch_head()
        super().connection_lost(exc)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._force_close or self._close:
            return
        if not self._intake.is_in_head:
            self.force_close()  # not a byte, as on browsers' spare connections: nothing to answer, nothing to log
            return
        self._request_count += 1
        self._messages.append(self._intake.stop(RequestTimeout("the head took too long")))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _process_keepalive(self) -> None:
        """aiohttp takes a connection within a head for an idle one; that head has a deadline of its own."""
        if self._intake.is_in_head:
            self._keepalive_handle = None
            return
        super()._process_keepalive()

    # Answers

    def _make_error_handler(self, err_info: _ErrInfo) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        refusal = err_info.exc

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(refusal, Refusal)  # noqa: S101 - nothing else is ever queued; for the type checker
            request._version = HttpVersion11  # aiohttp's stand-in for a request says 1.0
            return self._problem(refusal.error, refusal.request_id)

        return answer

    def _problem(self, error: ProxyError, request_id: str) -> web.Response:
        plain = problem(error, request_id)
        headers = {**plain.headers, **self._base_headers(), "X-Request-Id": request_id}
        response = Unsigned(body=plain.body, status=plain.status, headers=headers)
        response.force_close()
        return response

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What a handler let slip. Only what nobody expected is logged; a client that left is no error."""
        if isinstance(exc, ConnectionError | ClientGone):
            raise ConnectionError("the client left") from exc
        error: ProxyError
        request_id = uuid.uuid4().hex
        if isinstance(exc, web.RequestPayloadError):
            error = BadRequest("malformed body")  # logged when it was noticed
        else:
            error = UpstreamTimeout("a handler timed out") if status == 504 else ProxyError("a handler failed")
            self.logger.error("%s (%s)", error.detail, request_id, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        return self._problem(error, request_id)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Say `Connection: close` where we close (a body was refused, or we drain), and let the client see the end."""
        if self._close and isinstance(resp, web.StreamResponse):  # a handler may have returned anything
            resp.force_close()
        resp, is_reset = await super().finish_response(request, resp, start_time)
        if is_reset or resp.keep_alive:
            return resp, is_reset
        if self._intake.is_refused:
            self._half_close()
            await asyncio.sleep(LINGER)  # connection_lost ends it earlier, by cancelling the handler
        elif not request.content.is_eof():
            self._half_close()  # aiohttp itself goes on reading for LINGER seconds
        return resp, is_reset

    def _half_close(self) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp's last resort. A body that breaks while it is being dropped was logged already."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)


class Server(web.Server):
    """Makes a Connection where aiohttp makes a RequestHandler. Handlers are cancelled when their client leaves."""

    def __init__(self, plain: web.Server, settings: Mapping[str, Any]) -> None:
        super().__init__(
            plain.request_handler,
            request_factory=plain.request_factory,
            handler_cancellation=True,
            loop=asyncio.get_running_loop(),
        )
        self._settings = settings

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._settings)


class Runner(web.AppRunner):
    """An AppRunner whose connections are strict. Use make_runner."""

    __slots__ = ("_settings",)

    def __init__(self, app: web.Application, settings: Mapping[str, Any], shutdown_timeout: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._settings = settings

    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server(), self._settings)


def make_runner(
    app: web.Application,
    *,
    header_timeout: float = 10,
    keepalive_timeout: float = 75,
    base_headers: Headers = dict,
    shutdown_timeout: float = 15,
) -> web.AppRunner:
    """A runner for a public or ops listener. Times in seconds; `base_headers` are added to the answers given here.

    Raises RuntimeError without aiohttp's C parser. aiohttp's own access log is off.
    """
    assert_c_parser()
    settings: dict[str, Any] = {
        "header_timeout": header_timeout,
        "base_headers": base_headers,
        "keepalive_timeout": keepalive_timeout,
        "lingering_time": LINGER,
        "logger": log,
        "access_log": None,
        "max_line_size": http1.MAX_LINE,
        "max_field_size": http1.MAX_LINE,
        "max_headers": http1.MAX_FIELDS,
        "auto_decompress": False,  # bodies are counted, judged and signed as they came
    }
    return Runner(app, settings, shutdown_timeout)
