"""However an upstream misbehaves: an error of ours, in time, and no connection left behind."""

from __future__ import annotations

import asyncio
import socket
import zlib
from contextlib import suppress

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.errors import UpstreamError, UpstreamTimeout
from proxy.model import Upstream
from proxy.upstream import build
from proxy.upstream.http import Reply, Timeouts, open_pool
from proxy.upstream.n8n import N8n
from tests.clients import request
from tests.upstream.script import (
    CHUNKED,
    DEADLINE,
    LAST_CHUNK,
    OK,
    Connection,
    LoopClock,
    Script,
    answer,
    ask,
    chunk,
    n8n,
    owned,
    plain,
    says,
    serving,
)

ITEM = b'{"type":"item","content":"one "}\n'


async def resets_at_once(connection: Connection) -> None:
    connection.reset()


async def resets_in_mid_stream(connection: Connection) -> None:
    await connection.send(CHUNKED + chunk(ITEM))
    connection.reset()


async def never_stops_its_head(connection: Connection) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await connection.send(b"X-Filler: " + b"x" * 1000 + b"\r\n")


async def never_ends_a_line(connection: Connection) -> None:
    await connection.send(CHUNKED + chunk(ITEM))
    while True:
        await connection.send(chunk(b"x" * 65536))


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (resets_at_once, ""),
        (resets_in_mid_stream, None),
        (never_stops_its_head, ""),
        (never_ends_a_line, "one "),
        (says(), ""),
        (says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n"), ""),
        (says(b"hello, this is HTTP/0.9\n"), ""),
        (says(b"HTTP/1.1 200 OK\r\n"), ""),
        (says(b"HTTP/1.1 two hundred\r\n\r\n"), ""),
        (says(b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\nhello"), ""),
        (says(b"HTTP/1.1 200 OK\r\nX-Huge: " + b"x" * 1_000_000 + b"\r\n\r\n"), ""),
        (says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"), ""),
        (says(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), ""),
        (says(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), ""),
        (says(OK + b"Content-Length: -5\r\n\r\nhello"), ""),
        (says(OK + b"Content-Length: 1000\r\n\r\nhello"), "hello"),
        (says(CHUNKED + chunk(ITEM)), "one "),
        (says(CHUNKED + chunk(ITEM) + b"20\r\n" + ITEM[:10]), "one "),
        (says(CHUNKED + chunk(ITEM), b"not a size\r\n"), None),
        (says(CHUNKED + b"ffffffffffffffffffff\r\n"), ""),
        (says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello"), ""),
        (says(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 5\r\n\r\nhello"), ""),
        (says(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"), ""),
        (says(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5000), ""),
        (says(b"HTTP/1.1 204 No Content\r\n\r\n"), ""),
        (says(plain(b"")), ""),
        (says(plain(b"hello", b"HTTP/1.1 404 Not Found\r\n")), ""),
        (says(plain(b"hello", b"HTTP/1.1 500 Oops\r\n")), ""),
        (says(plain(zlib.compress(b"x" * 1000), OK + b"Content-Encoding: deflate\r\n")), ""),
        (says(plain(b"hello", OK + b"Content-Encoding: gzip\r\n")), ""),
    ],
)
async def test_an_upstream_that_misbehaves_is_an_upstream_error(script: Script, text: str | None) -> None:
    async with serving(script) as server:
        got, error = await ask(n8n(server.url))
    assert error is not None
    assert error.code == "upstream_error"
    assert text is None or got == text
    assert server.connections == 1
    assert not any(word in error.detail for word in ("hello", "garbage", "one", "X-", "http:"))


FRAGMENTS = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.0 200 OK\r\n",
            b"HTTP/2.0 200\r\n",
            b"HTTP/1.1 304 X\r\n",
            b"HTTP/1.1 999 X\r\n",
        ),
        *(b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(
            b"Transfer-Encoding: x\r\n",
            b"Connection: upgrade\r\nUpgrade: websocket\r\n",
            b"Set-Cookie: \xff=;;=\x01\r\n",
        ),
        *(
            b"Content-Type: \xff/;;charset=x\r\n",
            b"Content-Encoding: \xff\r\n",
            b": none\r\n",
            b" folded\r\n",
            b"\r\n",
            b"\n",
        ),
        *(
            b"5\r\nhello\r\n",
            b"5;ext=\xff\r\nhello\r\n",
            b"-5\r\n",
            b"f" * 20 + b"\r\n",
            b"0\r\n\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
        ),
        *(ITEM, b'{"output":"y"}', b"\xff" * 100, b"x" * 70_000, b"\0"),
    ]
)


@settings(deadline=None)
@given(st.booleans(), st.lists(FRAGMENTS, max_size=7))
def test_any_bytes_are_text_or_an_upstream_error(has_head: bool, fragments: list[bytes]) -> None:
    async def run() -> UpstreamError | None:
        async with serving(says(*([CHUNKED] if has_head else []), *fragments)) as server:
            return (await ask(n8n(server.url)))[1]

    error = asyncio.run(run())
    assert error is None or error.code == "upstream_error"


async def test_an_interim_response_is_not_the_response() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with serving(says(interim, interim + plain(b"hello"))) as server:
        assert await ask(n8n(server.url)) == ("hello", None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    head = b"HTTP/1.1 %d X\r\nLocation: /elsewhere\r\n" % status
    async with serving(says(plain(b"", head)), requests=2) as server:
        _, error = await ask(n8n(server.url))
    assert error is not None
    assert error.detail == f"status {status}"
    assert len(server.heard) == 1


async def test_no_connection_is_an_upstream_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    _, error = await ask(n8n(url))
    assert error is not None
    assert (error.code, error.detail) == ("upstream_error", "no connection: ClientConnectorError")
    assert not error.was_sent


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden"])
async def test_a_refusal_of_our_credentials_is_told_to_the_log_alone(status: bytes) -> None:
    challenge = b'WWW-Authenticate: Basic realm="Webhook"\r\n'
    async with serving(says(plain(b"jwt expired", b"HTTP/1.1 " + status + b"\r\n" + challenge))) as server:
        _, error = await ask(n8n(server.url))
    assert error is not None
    assert "our token or credential was refused by the upstream" in error.detail
    assert "jwt" not in error.detail
    assert error.public == UpstreamError.message


async def test_a_plain_http_server_is_no_tls_upstream_and_is_asked_once() -> None:
    contacts = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal contacts
        contacts += 1
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        _, error = await ask(n8n(url))
    assert error is not None
    assert error.code == "upstream_error"
    assert contacts == 1


async def test_bytes_after_the_body_do_not_reach_the_next_answer() -> None:
    async def script(connection: Connection) -> None:
        await connection.send(plain(b"hello") + plain(b"smuggled"))

    async with serving(script, requests=2) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream) == ("hello", None)
        assert await answer(upstream) == ("hello", None)
    assert server.connections == 2


async def test_a_connection_is_used_again_after_a_whole_answer() -> None:
    script = says(CHUNKED + chunk(ITEM) + LAST_CHUNK)
    async with serving(script, requests=2) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream) == ("one ", None)
        assert await answer(upstream) == ("one ", None)
    assert server.connections == 1


async def test_a_request_that_was_sent_is_never_sent_again() -> None:
    async def hangs_up(connection: Connection) -> None:
        if len(server.heard) > 1:
            connection.reset()
        else:
            await connection.send(plain(b"hello"))

    async with serving(hangs_up, requests=3) as server, build(n8n(server.url), owned) as upstream:
        assert await answer(upstream) == ("hello", None)
        _, error = await answer(upstream)
    assert error is not None
    assert len(server.heard) == 2


async def test_a_failed_connect_is_tried_once_more() -> None:
    attempts = 0
    listening = asyncio.Event()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        pool = open_pool()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        async def count(*_: object) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 2:
                listener.listen()
                listening.set()

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(count)
        trace.freeze()
        pool.trace_configs.append(trace)
        async with pool, asyncio.TaskGroup() as group:
            asking = group.create_task(answer(N8n(n8n(url), pool, owned)))
            await listening.wait()
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            with connection:
                await asyncio.get_running_loop().sock_sendall(connection, plain(b"hello"))
                assert await asking == ("hello", None)
    assert attempts == 2


async def test_a_connect_that_hangs_is_a_timeout() -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):  # a full queue: the kernel drops whoever comes next
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        _, error = await ask(n8n(url, timeouts=Timeouts(connect=0.2)))
    assert isinstance(error, UpstreamTimeout)
    assert error.detail == "timeout: connect"


async def stalls(connection: Connection) -> None:
    await connection.gone()


@pytest.mark.parametrize(("total", "phase"), [(900, "first byte"), (100, "total")])
async def test_a_stall_before_the_head_is_a_timeout(monkeypatch: pytest.MonkeyPatch, total: float, phase: str) -> None:
    clock = LoopClock(monkeypatch)

    async def script(connection: Connection) -> None:
        clock.advance(121)
        await connection.gone()

    async with serving(script) as server, build(n8n(server.url, timeouts=Timeouts(total=total)), owned) as upstream:
        with pytest.raises(UpstreamTimeout, match=f"^timeout: {phase}$"):
            async with upstream.open(request(), b"{}", "token"):
                pytest.fail("opened")


@pytest.mark.parametrize(
    ("said", "timeouts", "wait", "phase"),
    [
        (b"", Timeouts(), 121, "first byte"),
        (chunk(b'{"type":"begin"}\n'), Timeouts(), 121, "first byte"),
        (b"", Timeouts(total=100), 101, "total"),
        (chunk(b'{"type":"keepalive"}\n'), Timeouts(first_byte=1000), 61, "idle"),
    ],
)
async def test_a_stall_after_the_head_is_a_timeout(
    monkeypatch: pytest.MonkeyPatch, said: bytes, timeouts: Timeouts, wait: float, phase: str
) -> None:
    clock = LoopClock(monkeypatch)

    async def script(connection: Connection) -> None:
        await connection.send(CHUNKED + said)
        await connection.gone()

    async def read(upstream: Upstream) -> None:
        async with upstream.open(request(), b"{}", "token") as pieces:
            clock.advance_soon(wait)  # what was said came along with the head, and is read first
            await anext(pieces)

    async with serving(script) as server, build(n8n(server.url, timeouts=timeouts), owned) as upstream:
        with pytest.raises(UpstreamTimeout, match=f"^timeout: {phase}$"):
            await read(upstream)


class Drip:
    """A script that sends the next item when it is told to, until it is told to wait for the end."""

    def __init__(self) -> None:
        self._go_on: asyncio.Queue[bool] = asyncio.Queue()

    def go_on(self) -> None:
        self._go_on.put_nowait(True)

    def stop(self) -> None:
        self._go_on.put_nowait(False)

    async def __call__(self, connection: Connection) -> None:
        await connection.send(CHUNKED + chunk(ITEM))
        while await self._go_on.get():
            await connection.send(chunk(ITEM))
        await connection.gone()


@pytest.mark.parametrize(("pause", "count", "phase"), [(59, 16, "total"), (31, 30, "total"), (61, 1, "idle")])
async def test_an_answer_may_pause_and_go_on_but_neither_for_ever(
    monkeypatch: pytest.MonkeyPatch, pause: float, count: int, phase: str
) -> None:
    clock, drip, got = LoopClock(monkeypatch), Drip(), 0

    async def read(upstream: Upstream) -> None:
        nonlocal got
        async with upstream.open(request(), b"{}", "token") as pieces:
            async for piece in pieces:
                assert piece == "one "
                got += 1
                loop = asyncio.get_running_loop()
                clock.advance_soon(pause)  # while the next piece is waited for
                loop.call_soon(loop.call_soon, drip.go_on)

    async with serving(drip) as server, build(n8n(server.url), owned) as upstream:
        with pytest.raises(UpstreamTimeout, match=f"^timeout: {phase}$"):
            await read(upstream)
        drip.stop()
    assert got == count


async def test_once_an_answer_has_begun_the_first_bytes_deadline_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, go_on = LoopClock(monkeypatch), asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.send(CHUNKED)
        await go_on.wait()
        await connection.send(chunk(ITEM))
        await connection.gone()

    async def read(upstream: Upstream) -> None:
        async with upstream.open(request(), b"{}", "token") as pieces:
            asyncio.get_running_loop().call_soon(go_on.set)  # while the first piece is waited for
            assert await anext(pieces) == "one "
            clock.advance_soon(61)
            await anext(pieces)

    async with serving(script) as server, build(n8n(server.url, timeouts=Timeouts(first_byte=800)), owned) as upstream:
        with pytest.raises(UpstreamTimeout, match=r"^timeout: idle$"):
            await read(upstream)


async def test_a_slow_client_is_not_a_slow_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, drip, got = LoopClock(monkeypatch), Drip(), 0
    async with (
        serving(drip) as server,
        build(n8n(server.url), owned) as upstream,
        upstream.open(request(), b"{}", "token") as pieces,
    ):
        async for piece in pieces:
            assert piece == "one "
            got += 1
            if got == 4:
                drip.stop()
                break
            clock.advance(200)  # spent with the piece, not on waiting for one
            for _ in range(2):  # a timer that is due rings now
                await asyncio.sleep(0)
            drip.go_on()


async def test_an_error_in_the_stream_ends_the_connection_at_once() -> None:
    async def script(connection: Connection) -> None:
        await connection.send(CHUNKED + chunk(ITEM + b'{"type":"error","content":"Node X failed"}\n'))
        await connection.gone()  # as n8n does after a timeout: it never closes

    async with serving(script) as server:
        text, error = await ask(n8n(server.url))
    assert text == "one "
    assert error is not None
    assert error.detail == "n8n reported an error in the workflow"


@pytest.mark.parametrize("garbage", [b"not a size\r\n", b"-5\r\nhello\r\n", b"5\r\nhello, world", b"f" * 24 + b"\r\n"])
async def test_chunks_that_make_no_sense_are_noticed_at_once(garbage: bytes) -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.send(CHUNKED + chunk(ITEM))
        await go_on.wait()
        await connection.send(garbage)
        await connection.gone()

    async def read(upstream: Upstream) -> None:
        async with asyncio.timeout(DEADLINE), upstream.open(request(), b"{}", "token") as pieces:
            async for _ in pieces:
                go_on.set()

    async with serving(script) as server, build(n8n(server.url), owned) as upstream:
        with pytest.raises(UpstreamError, match=r"^the response broke off"):
            await read(upstream)


async def test_a_connection_that_was_lost_before_anybody_read_is_noticed() -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.send(CHUNKED)
        await go_on.wait()
        await connection.send(b"not a size\r\n")

    async with serving(script) as server, asyncio.timeout(DEADLINE), open_pool() as pool:
        response = await pool.post(server.url, data=b"{}")
        go_on.set()
        assert response.connection is not None
        assert response.connection.protocol is not None
        while response.connection.protocol.is_connected():  # noqa: ASYNC110 - it has no event before it is read
            await asyncio.sleep(0)
        for _ in range(3):  # until the loop has told the protocol
            await asyncio.sleep(0)
        reply = Reply(response, Timeouts(), asyncio.get_running_loop().time())
        with pytest.raises(UpstreamError):
            await reply.read(has_begun=True)
        reply.close()


async def test_no_queue_for_connections_stands_behind_the_slots() -> None:
    crowd, here, all_here = 120, 0, asyncio.Event()  # more than an HTTP client opens when it isn't told

    async def script(connection: Connection) -> None:
        nonlocal here
        here += 1
        if here == crowd:
            all_here.set()
        await all_here.wait()
        await connection.send(CHUNKED + chunk(ITEM) + LAST_CHUNK)

    async with (
        serving(script) as server,
        build(n8n(server.url), owned) as upstream,
        asyncio.timeout(DEADLINE),
        asyncio.TaskGroup() as tasks,
    ):
        asking = [tasks.create_task(answer(upstream)) for _ in range(crowd)]
    assert [each.result() for each in asking] == [("one ", None)] * crowd


async def test_who_stops_reading_ends_the_connection() -> None:
    drip = Drip()
    async with serving(drip) as server, build(n8n(server.url), owned) as upstream:
        async with upstream.open(request(), b"{}", "token") as pieces:
            assert await anext(pieces) == "one "
        drip.stop()


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_cancelled_request_ends_the_connection(has_begun: bool) -> None:
    heard = asyncio.Event()

    async def script(connection: Connection) -> None:
        if has_begun:
            await connection.send(CHUNKED + chunk(ITEM))
        heard.set()
        await connection.gone()

    async with serving(script) as server, build(n8n(server.url), owned) as upstream, asyncio.TaskGroup() as group:
        asking = group.create_task(answer(upstream))
        async with asyncio.timeout(DEADLINE):
            await heard.wait()
        asking.cancel()
    assert asking.cancelled()


async def test_an_upstream_is_held_back_while_nobody_reads() -> None:
    sent = 0
    held_back = asyncio.Event()

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.send(OK + b"\r\n" + ITEM)
        while not held_back.is_set():
            connection.writer.write(ITEM * 1000)
            sent += 1000 * len(ITEM)
            try:
                await asyncio.wait_for(connection.writer.drain(), 0.3)
            except TimeoutError:
                held_back.set()
        connection.reset()

    async with (
        serving(script) as server,
        build(n8n(server.url), owned) as upstream,
        upstream.open(request(), b"{}", "token") as pieces,
    ):
        await anext(pieces)
        async with asyncio.timeout(DEADLINE):
            await held_back.wait()
    assert sent < 32 * 1024 * 1024  # the kernel's buffers on both sides; of ours, some 64 kB


async def test_no_cookie_of_one_answer_goes_along_with_the_next_request() -> None:
    script = says(plain(b"hello", OK + b"Set-Cookie: n8n-auth=x; Path=/\r\n"))
    async with serving(script, requests=2) as server, build(n8n(server.url), owned) as upstream:
        await answer(upstream)
        await answer(upstream)
    assert [heard.headers.get("Cookie") for heard in server.heard] == [None, None]


async def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serving(says(plain(b"hello"))) as server:
        assert await ask(n8n(server.url)) == ("hello", None)


@pytest.mark.parametrize(
    "url",
    [
        "n8n:5678/webhook",
        "/webhook",
        "ftp://n8n/webhook",
        "http://",
        "http://user@n8n/",
        "http://user:password@n8n/",
        "http://:password@n8n/",
        "http://n8n/#fragment",
        "http://n8n/a b",
        "http://n8n/\r\nX: y",
        "http://n8n:99999/",
        "http://[::1/",
        "",
    ],
)
def test_an_address_that_cannot_or_must_not_be_called_stops_the_start(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        n8n(url)
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"connect": 0},
        {"connect": 61},
        {"first_byte": -1},
        {"idle": float("nan")},
        {"total": float("inf")},
        {"totel": 10},
    ],
)
def test_a_timeout_out_of_range_stops_the_start(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        n8n("http://n8n/", timeouts=given)


def test_silence_is_allowed_for_longer_than_n8n_keeps_silent() -> None:
    assert n8n("http://n8n/").timeouts.idle > 30
