from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from proxy.edge.http1 import read_body
from proxy.edge.runner import MAX_PIPELINED, Connection, forget_heads
from proxy.errors import ClientGone
from tests.edge.listener import PATIENCE, answers, drip, eventually, listening, read_answer, recorded, until_closed

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
# Seconds. Long enough for a busy machine to read a request that is there, short enough to be waited for.
DEADLINE = 0.25
MALFORMED = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"


class Gate:
    """A handler that waits inside until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()

    async def handle(self, http: web.Request) -> web.StreamResponse:
        self.entered.set()
        try:
            async with asyncio.timeout(PATIENCE):
                await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return web.Response(text="late")


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


# Deadlines of heads


async def test_a_connection_that_never_says_a_word_is_closed_without_one() -> None:
    with recorded() as lines:
        async with listening(header_timeout=DEADLINE) as listener:
            await listener.silent_connection_ends()
    assert lines == []


async def test_a_dripping_head_doesnt_buy_itself_time() -> None:
    with recorded() as lines:
        async with listening(header_timeout=DEADLINE) as listener, listener.connect() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            data = await drip(reader, writer, b"x")
    (answer,) = answers(data)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert [line.name for line in lines] == ["proxy.edge.http1"]


async def test_a_dripping_head_on_a_kept_connection_has_the_same_deadline() -> None:
    async with listening(header_timeout=DEADLINE) as listener, listener.connect() as (reader, writer):
        writer.write(GET)
        assert (await read_answer(reader)).status == 200
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        data = await drip(reader, writer, b"x")
    assert [answer.status for answer in answers(data)] == [408]


async def test_a_late_head_waits_for_the_answer_before_it() -> None:
    gate = Gate()
    async with listening(gate.handle, header_timeout=DEADLINE) as listener, listener.connect() as (reader, writer):
        writer.write(GET + b"GET / HTTP/1.1\r\n")
        await soon(gate.entered)
        await listener.silent_connection_ends()
        gate.go_on.set()
        data = await until_closed(reader)
    assert [answer.status for answer in answers(data)] == [200, 408]


async def test_an_idle_connection_outlives_the_deadline_of_heads() -> None:
    async with listening(header_timeout=DEADLINE) as listener, listener.connect() as (reader, writer):
        writer.write(GET)
        assert (await read_answer(reader)).status == 200
        await listener.silent_connection_ends()
        writer.write(LAST)
        assert (await read_answer(reader)).status == 200


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    with recorded() as lines:
        async with listening(keepalive_timeout=DEADLINE) as listener, listener.connect() as (reader, writer):
            writer.write(GET)
            assert [answer.status for answer in answers(await until_closed(reader))] == [200]
    assert lines == []


async def test_the_idle_deadline_doesnt_cut_a_head_that_has_begun() -> None:
    async with listening(keepalive_timeout=DEADLINE) as listener, listener.connect() as (reader, writer):
        writer.write(GET)
        assert (await read_answer(reader)).status == 200
        writer.write(LAST[:20])
        async with listener.connect() as (other, others):  # idle later than the first one
            others.write(GET)
            await until_closed(other)
        writer.write(LAST[20:])
        assert [answer.status for answer in answers(await until_closed(reader))] == [200]


# Answers that last


async def test_a_stream_outlives_every_deadline() -> None:
    go_on: asyncio.Queue[bytes] = asyncio.Queue()

    async def stream(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        while piece := await go_on.get():  # the test ends it
            await response.write(piece)
        return response

    async with (
        listening(stream, header_timeout=DEADLINE, keepalive_timeout=DEADLINE) as listener,
        listener.connect() as (reader, writer),
        asyncio.timeout(PATIENCE),
    ):
        writer.write(LAST)
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            go_on.put_nowait(piece)
            await reader.readuntil(piece)
            await listener.silent_connection_ends()
        go_on.put_nowait(b"")
        assert (await reader.read()).endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("when", ["along", "within the stream", "half along", "behind it"])
async def test_behind_a_stream_that_forgot_its_head_the_next_request_is_answered(when: str, method: str) -> None:
    async def handle(http: web.Request) -> web.StreamResponse:
        if http.path == "/next":
            return web.Response(body=await http.read(), headers={"X-Heard": http.headers["X-Said"]})
        response = web.StreamResponse()
        await response.prepare(http)
        forget_heads(http, response)
        assert not http.headers
        entered.set()
        await soon(go_on)
        await response.write(b"end")
        return response

    entered, go_on = asyncio.Event(), asyncio.Event()
    following = f"{method} /next HTTP/1.1\r\nHost: a\r\nX-Said: word\r\nContent-Length: 4\r\n\r\nbody".encode()
    along = {"along": len(following), "half along": 30}.get(when, 0)
    async with listening(handle) as listener, listener.connect() as (reader, writer):
        writer.write(GET + following[:along])
        await soon(entered)
        if when != "behind it":
            writer.write(following[along:])
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            assert b"end" in await reader.readuntil(b"\r\n0\r\n\r\n")
        if when == "behind it":
            writer.write(following)
        answer = await read_answer(reader)
        assert (answer.status, answer.headers["x-heard"], answer.body) == (200, "word", b"body")


async def test_a_websocket_outlives_every_deadline() -> None:
    async def echo(http: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(http)
        async for message in socket:  # the client's close ends it
            await socket.send_str(message.data)
        return socket

    async with (
        listening(echo, header_timeout=DEADLINE, keepalive_timeout=DEADLINE) as listener,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{listener.port}/") as socket,
    ):
        for text in ("one", "two"):
            await listener.silent_connection_ends()
            await socket.send_str(text)
            assert await socket.receive_str(timeout=PATIENCE) == text


async def test_frames_sent_together_with_the_handshake_arrive() -> None:
    async def first(http: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(http)
        received.append(await socket.receive_str(timeout=PATIENCE))
        await socket.close()
        return socket

    received: list[str] = []
    handshake = (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with listening(first) as listener, listener.connect() as (reader, writer):
        writer.write(handshake + b"\x81\x82\0\0\0\0hi")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            await reader.readexactly(2)  # the close frame
    assert received == ["hi"]


async def test_a_refused_handshake_leaves_the_connection_usable() -> None:
    async def refuse(http: web.Request) -> web.StreamResponse:
        return web.Response(status=403)

    handshake = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with listening(refuse) as listener:
        found = await listener.exchange(handshake + GET + MALFORMED)
    assert [answer.status for answer in found] == [403, 403, 400]


async def test_a_client_that_leaves_ends_its_handler() -> None:
    gate = Gate()
    with recorded() as lines:
        async with listening(gate.handle) as listener:
            async with listener.connect() as (_, writer):
                writer.write(GET)
                await soon(gate.entered)
            await soon(gate.cancelled)
            await listener.is_idle()
    assert lines == []


async def test_a_client_that_leaves_within_a_body_ends_its_handler() -> None:
    ended = asyncio.Event()

    async def handler(http: web.Request) -> web.StreamResponse:
        entered.set()
        try:
            return web.Response(body=await read_body(http, 100, PATIENCE))
        finally:
            ended.set()

    entered = asyncio.Event()
    with recorded() as lines:
        async with listening(handler) as listener:
            async with listener.connect() as (_, writer):
                writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
                await soon(entered)
            await soon(ended)
            await listener.is_idle()
    assert lines == []


# Pipelining


async def test_a_malformed_request_doesnt_disturb_the_answer_before_it() -> None:
    gate = Gate()
    with recorded() as lines:
        async with listening(gate.handle) as listener, listener.connect() as (reader, writer):
            writer.write(GET + MALFORMED + GET)
            await soon(gate.entered)
            gate.go_on.set()
            found = answers(await until_closed(reader))
    assert [(answer.status, answer.body[:4]) for answer in found] == [(200, b"late"), (400, b'{"ty')]
    assert len(lines) == 1


async def test_a_body_that_breaks_behind_a_running_request_is_refused_in_its_turn() -> None:
    gate = Gate()
    with recorded() as lines:
        async with listening(gate.handle) as listener, listener.connect() as (reader, writer):
            writer.write(GET + b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            await soon(gate.entered)
            (connection,) = listener.server.connections
            await eventually(lambda: len(connection._messages) == 1)
            writer.write(b"zz\r\n")
            await eventually(lambda: len(lines) == 1)
            gate.go_on.set()
            found = answers(await until_closed(reader))
    assert [answer.status for answer in found] == [200, 400]
    assert len(lines) == 1


async def test_every_pipelined_request_is_answered_and_few_wait_in_memory() -> None:
    gate, total = Gate(), 60
    async with listening(gate.handle) as listener, listener.connect() as (reader, writer):
        writer.write(GET * (total - 1) + LAST)
        await soon(gate.entered)
        (connection,) = listener.server.connections
        await eventually(lambda: connection._buffer_paused)
        assert 0 < len(connection._messages) <= MAX_PIPELINED
        gate.go_on.set()
        found = answers(await until_closed(reader))
    assert [answer.status for answer in found] == [200] * total


# What handlers let slip


@asynccontextmanager
async def failing(
    error: BaseException, *, after_start: bool = False
) -> AsyncIterator[tuple[bytes, list[logging.LogRecord]]]:
    """What the client sees, and what is logged, when a handler raises."""

    async def handler(http: web.Request) -> web.StreamResponse:
        if after_start:
            response = web.StreamResponse()
            await response.prepare(http)
            await response.write(b"begun")
        raise error

    with recorded() as lines:
        async with listening(handler) as listener, listener.connect() as (reader, writer):
            writer.write(GET)
            data = await until_closed(reader)
            await listener.is_idle()
        yield data, lines


async def test_an_unexpected_error_is_a_500_that_says_nothing() -> None:
    async with failing(ValueError("secret")) as (data, lines):
        (answer,) = answers(data)
        assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert b"secret" not in data
        assert b"Traceback" not in data
        assert [line.levelno for line in lines] == [logging.ERROR]


async def test_an_unexpected_error_within_a_stream_cuts_it() -> None:
    async with failing(ValueError(), after_start=True) as (data, lines):
        assert b"begun" in data
        assert not data.endswith(b"0\r\n\r\n")
        assert [line.levelno for line in lines] == [logging.ERROR]


async def test_a_timeout_that_nobody_caught_is_a_504() -> None:
    async with failing(TimeoutError()) as (data, lines):
        assert [answer.status for answer in answers(data)] == [504]
        assert len(lines) == 1


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), BrokenPipeError("gone"), ClientGone()])
@pytest.mark.parametrize("after_start", [False, True])
async def test_a_client_that_left_is_nobodys_error(error: Exception, after_start: bool) -> None:
    async with failing(error, after_start=after_start) as (_, lines):
        assert lines == []


async def test_a_handler_that_returns_nothing_is_a_500() -> None:
    async def handler(http: web.Request) -> web.StreamResponse:
        return None  # type: ignore[return-value]  # the mistake

    with recorded() as lines:
        async with listening(handler) as listener, listener.connect() as (reader, writer):
            writer.write(GET)
            assert (await read_answer(reader)).status == 500
    assert len(lines) == 1


# Draining


async def test_answers_given_while_closing_say_so() -> None:
    gate = Gate()
    async with listening(gate.handle) as listener, listener.connect() as (reader, writer):
        writer.write(GET)
        await soon(gate.entered)
        listener.server.pre_shutdown()
        gate.go_on.set()
        (answer,) = answers(await until_closed(reader))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_the_runner_makes_its_own_connections() -> None:
    async with listening() as listener:
        async with listener.connect():
            await eventually(lambda: len(listener.server.connections) == 1)
            assert isinstance(listener.server.connections[0], Connection)
        assert listener.server.handler_cancellation


async def test_a_client_that_resets_its_connection_once_it_was_refused_is_no_crash() -> None:
    client = socket.socket()

    class Refusal(web.Response):
        async def write_eof(self, data: bytes = b"") -> None:
            await super().write_eof(data)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

    async def refuse(http: web.Request) -> web.StreamResponse:
        http.protocol.close()  # the rest of the body isn't read
        return Refusal(status=413)

    with recorded() as lines:
        async with listening(refuse) as listener:
            client.connect(("127.0.0.1", listener.port))
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            await eventually(lambda: client.fileno() < 0)
            await listener.is_idle()
    assert [line.getMessage() for line in lines if line.exc_info] == []
