"""Calling an upstream over HTTP: the pool of connections, the deadlines, and how it fails.

Nothing of a response but its body reaches an adapter, and nothing of its body reaches an error.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Annotated, Protocol

import aiohttp
from pydantic import Field, field_validator
from yarl import URL

from proxy.config import Section
from proxy.errors import UpstreamError, UpstreamTimeout
from proxy.model import Body, LargeBody
from proxy.upstream.body import stream
from proxy.upstream.retries import RetryBudget
from proxy.upstream.slots import LineSettings

_KEEPALIVE = 4.0  # Node closes idle connections after 5 s; a POST on a closed one fails, and must not be repeated
_READ_BYTES = 16 * 1024  # what a stalled stream may hold in memory is a small multiple of this
_AT_ONCE_BYTES = 1024 * 1024
_NO_TEXT = re.compile(r"(?:image|audio|video|font)/|application/(?:pdf|zip|gzip)\b")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class Timeouts(Section):
    """Seconds. n8n says something every 30 s, so `idle` has to be above that."""

    connect: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 5.0  # for each of two tries
    first_byte: Seconds = 120.0  # from the start until the answer begins
    idle: Seconds = 60.0  # between two reads, once it has begun
    total: Seconds = 900.0


class HttpSettings(LineSettings):
    """What every upstream over HTTP can be told."""

    url: str = Field(max_length=2000)
    timeouts: Timeouts = Timeouts()
    max_answer_bytes: int = Field(4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)

    @property
    def patience(self) -> float:
        return self.timeouts.first_byte

    @property
    def longest(self) -> float:
        return self.patience + self.timeouts.total

    @field_validator("url")
    @classmethod
    def _callable(cls, url: str) -> str:
        parsed = URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host or not _VISIBLE.fullmatch(url):
            raise ValueError("give a whole address: http://host/path or https://host/path")
        if parsed.user is not None or parsed.password is not None or parsed.raw_fragment:
            raise ValueError("leave out user, password and #fragment: credentials belong into `auth`")
        return url


def open_pool(traces: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
    """One upstream's connections. Close it after use; it belongs to the running event loop.

    As many as it takes: the slots decide. A second queue behind them would look like an upstream that does not answer.
    No cookies (one visitor's would reach the next), no proxy from the environment, no redirects, no decompression.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        read_bufsize=_READ_BYTES,
        skip_auto_headers=("User-Agent",),
        trust_env=False,
        trace_configs=list(traces),
    )


class Reply:
    """A response whose head is here, and whose body can be read, within the deadlines."""

    def __init__(self, response: aiohttp.ClientResponse, timeouts: Timeouts, started: float) -> None:
        self._response = response
        self._content = response.content
        self._loop = asyncio.get_running_loop()
        self._idle = timeouts.idle
        self._first = started + timeouts.first_byte
        self._end = started + timeouts.total
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_waiting = False
        self._phase = ""
        self._closed = self._watch()

    def _watch(self) -> asyncio.Future[None] | None:
        """Notice the connection's end: of chunks that make no sense, aiohttp doesn't tell the reader (3.14)."""
        connection = self._response.connection
        if connection is None:  # given back: the body is here
            return None
        closed = connection.protocol.closed if connection.protocol is not None else None
        if closed is None:
            self._lose()  # it ended already
        else:
            # The connection is used again and again; one callback that takes its exception stays, ours go.
            closed.remove_done_callback(_take_exception)
            closed.add_done_callback(_take_exception)
            closed.add_done_callback(self._lose)
        return closed

    def _lose(self, _: asyncio.Future[None] | None = None) -> None:
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(UpstreamError("the response broke off: it can't be read"))

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def media_type(self) -> str:
        return self._response.headers.get("Content-Type", "").strip().lower()

    @property
    def encoding(self) -> str:
        return self._response.headers.get("Content-Encoding", "identity").strip().lower()

    async def read(self, *, has_begun: bool) -> bytes:
        """The next bytes of the body, or none at its end. Until it `has_begun`, the first byte's deadline counts."""
        try:
            if data := self._content.read_nowait():
                return data
            if self._content.at_eof():
                return b""
            self._arm(has_begun=has_begun)
            self._is_waiting = True
            try:
                return await self._content.readany()
            finally:
                self._is_waiting = False
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(f"the response broke off: {type(error).__name__}") from error

    def _arm(self, *, has_begun: bool) -> None:
        """One timer for all reads, set anew only to ring earlier: a timeout for each would cost more than the read."""
        if has_begun:
            self._deadline, self._phase = self._loop.time() + self._idle, "idle"
        else:
            self._deadline, self._phase = self._first, "first byte"
        if self._deadline > self._end:
            self._deadline, self._phase = self._end, "total"
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        self._stop_timer()
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if not self._is_waiting:
            return  # the next read sets it again
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._content.set_exception(UpstreamTimeout(f"timeout: {self._phase}"))

    def close(self) -> None:
        """End the connection, unless the response was read to its end."""
        self._stop_timer()
        if self._closed is not None:
            self._closed.remove_done_callback(self._lose)
        self._response.close()


def _take_exception(closed: asyncio.Future[None]) -> None:
    _ = closed.cancelled() or closed.exception()


@asynccontextmanager
async def exchange(
    pool: aiohttp.ClientSession, settings: HttpSettings, body: Body, headers: dict[str, str], retries: RetryBudget
) -> AsyncIterator[Reply]:
    """POST the body; wait for the head of a good response. Leaving the context ends the exchange.

    Raises UpstreamError for any status but 2xx, for pictures and other files, for an encoding that wasn't asked for,
    and for whatever goes wrong. What else the type says is not believed: upstreams mislabel their text.
    """
    started = asyncio.get_running_loop().time()
    reply = Reply(await _post(pool, settings, body, headers, retries), settings.timeouts, started)
    try:
        if reply.status in (401, 403):
            raise UpstreamError(f"status {reply.status}: our token or credential was refused by the upstream")
        if not 200 <= reply.status <= 299:
            raise UpstreamError(f"status {reply.status}")
        if reply.encoding != "identity":
            raise UpstreamError("the response is compressed, though identity was asked for")
        if _NO_TEXT.match(reply.media_type):
            raise UpstreamError("the response is a file, not text")
        yield reply
    finally:
        reply.close()


async def _post(
    pool: aiohttp.ClientSession, settings: HttpSettings, body: Body, headers: dict[str, str], retries: RetryBudget
) -> aiohttp.ClientResponse:
    timeouts = settings.timeouts
    limit, phase = min((timeouts.first_byte, "first byte"), (timeouts.total, "total"))
    retries.earn()
    try:
        async with asyncio.timeout(limit):
            try:
                return await _post_once(pool, settings, body, headers)
            except aiohttp.ClientConnectorError as error:
                # Nothing was sent yet: a workflow that had been started would run, and cost, twice.
                if isinstance(error, aiohttp.ClientSSLError) or not retries.spend():
                    raise
                await asyncio.sleep(retries.pause())
                return await _post_once(pool, settings, body, headers)
    except aiohttp.ConnectionTimeoutError as error:
        raise _unsent(UpstreamTimeout("timeout: connect")) from error
    except TimeoutError as error:
        raise UpstreamTimeout(f"timeout: {phase}") from error
    except aiohttp.ClientConnectorError as error:
        raise _unsent(UpstreamError(f"no connection: {type(error).__name__}")) from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamError(f"no response: {type(error).__name__}") from error


def _unsent(error: UpstreamError) -> UpstreamError:
    error.was_sent = False
    return error


async def _post_once(
    pool: aiohttp.ClientSession, settings: HttpSettings, body: Body, headers: dict[str, str]
) -> aiohttp.ClientResponse:
    timeout = aiohttp.ClientTimeout(total=None, connect=settings.timeouts.connect)
    data = stream(body) if isinstance(body, LargeBody) else _readable(body)
    return await pool.post(settings.url, data=data, headers=headers, timeout=timeout, allow_redirects=False)


def _readable(body: bytes) -> bytes | BytesIO:
    """aiohttp writes bytes in one go, which would hold everybody up with those of a large webhook."""
    return body if len(body) <= _AT_ONCE_BYTES else BytesIO(body)


class Decoder(Protocol):
    """Makes text out of a body. Errors wait for `finish`, so that the text before them is never lost."""

    @property
    def has_begun(self) -> bool:
        """The upstream has said something that counts: text, or that it is still at work."""
        ...

    @property
    def is_over(self) -> bool:
        """There is nothing to read any more: the end was announced, or an error was found."""
        ...

    def feed(self, data: bytes) -> str: ...

    def finish(self) -> str:
        """The last of the text; raises UpstreamError where the answer is not a whole one."""
        ...


async def pieces(reply: Reply, decoder: Decoder) -> AsyncGenerator[str, None]:
    """The answer's text, one piece per network read."""
    while not decoder.is_over and (data := await reply.read(has_begun=decoder.has_begun)):
        if text := decoder.feed(data):
            yield text
    if text := decoder.finish():
        yield text
