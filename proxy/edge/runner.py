"""aiohttp's server, made strict: connections judged by http1.py, a deadline for heads, one answer to what is malformed.

aiohttp has no hook before routing that sees raw bytes, so a connection's parser is wrapped (intake.py) and its protocol
class extended (`Connection`). Both lean on aiohttp's internals: the range in pyproject.toml is narrow for that reason.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo  # the one way to queue an answer behind those before it
from multidict import CIMultiDict

from proxy.edge import http1
from proxy.edge.http1 import assert_c_parser, log
from proxy.edge.intake import Intake, Item
from proxy.edge.problem import problem
from proxy.errors import BadRequest, ClientGone, ProxyError, RequestTimeout, UpstreamTimeout

MAX_PIPELINED = 8  # requests parsed and waiting, per connection; beyond that, reading pauses
LINGER = (
    2.0  # seconds in which the rest of a refused request is read and dropped, so that no reset overtakes the answer
)

Headers = Callable[[], Mapping[str, str]]


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

    def make_parser(self) -> HttpRequestParser:
        """As aiohttp does: its own can't be told to let go of the last head that it read."""
        return HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=http1.MAX_LINE,
            max_headers=self.max_headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,  # bodies are counted, judged and signed as they came
            max_msg_queue_size=MAX_PIPELINED,
        )

    def forget_head(self) -> None:
        """Let go of the last head, unless another one is on its way already; and of the timer for idle connections.

        aiohttp sets that anew behind the answer.
        """
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
            self._keepalive_handle = None
        if not self._messages:
            self._intake.forget()

    def on_data(self, act: Callable[[], None] | None) -> None:
        """Have this done whenever bytes of a WebSocket come; aiohttp's own heartbeat uses the same place."""
        self._data_received_cb = act

    # What the intake needs to know (intake.Host)

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
        if isinstance(resp, web.StreamResponse):  # a handler may have returned anything
            is_leaving = isinstance(self._manager, Server) and self._manager.is_leaving
            # A stream whose head went out before we left didn't say it: its connection is read on like an idle one.
            if self._close or (is_leaving and not resp.prepared):
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
            with suppress(OSError):  # it was reset meanwhile, which connection_lost tells
                transport.write_eof()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp's last resort. A body that breaks while it is being dropped was logged already."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)


class Server(web.Server):
    """Makes a Connection where aiohttp makes a RequestHandler. Handlers are cancelled when their client leaves.

    Once `is_leaving`, each answer is the last one of its connection, and says so; connections without one stay open.
    """

    def __init__(self, plain: web.Server, settings: Mapping[str, Any]) -> None:
        super().__init__(
            plain.request_handler,
            request_factory=self._request,
            handler_cancellation=True,
            loop=asyncio.get_running_loop(),
        )
        self._settings = settings
        self._plain_request = plain.request_factory
        self.is_leaving = False

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._settings)

    def _request(self, message: RawRequestMessage, *more: Any) -> web.BaseRequest:  # Any: passed on as they come
        if self.is_leaving:
            message = message._replace(should_close=True)  # as if the client had asked for it: streams say so, too
        return self._plain_request(message, *more)

    async def is_empty(self, seconds: float) -> None:
        """Wait until no connection is left, so many seconds at most. Meanwhile all of them are read and answered."""
        ends = self._loop.time() + seconds
        while self.connections and self._loop.time() < ends:  # noqa: ASYNC110 - aiohttp forgets one without a word
            await asyncio.sleep(0.05)


class Runner(web.AppRunner):
    """An AppRunner whose connections are strict. Use make_runner."""

    __slots__ = ("_settings",)

    def __init__(self, app: web.Application, settings: Mapping[str, Any], shutdown_timeout: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._settings = settings

    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server(), self._settings)

    async def stop_accepting(self) -> None:
        for site in self.sites:
            await site.stop()

    def leave(self) -> None:
        """From here on every answer says `Connection: close`."""
        self._strict.is_leaving = True

    async def is_empty(self, seconds: float) -> None:
        await self._strict.is_empty(seconds)

    def close_idle(self) -> None:
        """Close the connections that wait for a request, and each other one behind its answer."""
        self._strict.pre_shutdown()

    @property
    def _strict(self) -> Server:
        assert isinstance(self.server, Server)  # noqa: S101 - made above, by setup()
        return self.server


def forget_heads(http: web.Request, response: web.StreamResponse) -> None:
    """Once the response has begun: a connection that is held for long needs none of its heads, which take 10 KiB."""
    response.headers.clear()
    if isinstance(http.headers, CIMultiDict) and isinstance(http.protocol, Connection):
        http.headers.clear()
        http.protocol.forget_head()


def on_data(http: web.Request, act: Callable[[], None] | None) -> None:
    """Have this done whenever bytes of this WebSocket come, whole frames or not; None: no more. Once it is open."""
    assert isinstance(http.protocol, Connection)  # noqa: S101 - each Server makes those; for the type checker
    http.protocol.on_data(act)


def make_runner(
    app: web.Application,
    *,
    header_timeout: float = 10,
    keepalive_timeout: float = 75,
    base_headers: Headers = dict,
    shutdown_timeout: float = 15,
) -> Runner:
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
        # aiohttp counts a chunked body's trailers among the next head's headers; those are counted in http1.judge.
        "max_headers": 2 * http1.MAX_FIELDS,
        "auto_decompress": False,  # bodies are counted, judged and signed as they came
    }
    return Runner(app, settings, shutdown_timeout)
