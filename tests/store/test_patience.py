"""A timeout that waits for somebody else's silence, and not for our own lateness."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.store.patience import patience


async def test_silence_ends_it() -> None:
    with pytest.raises(TimeoutError):
        async with patience(0.05):
            await asyncio.Event().wait()


async def test_an_answer_that_only_we_were_too_busy_to_read_is_taken() -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*await _answering_at_once())
    loop.call_soon(time.sleep, 0.3)  # this process is busy for longer than its own patience
    async with patience(0.05):
        assert await reader.readline() == b"here\n"
    writer.close()
    await writer.wait_closed()


async def _answering_at_once() -> tuple[str, int]:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address: tuple[str, int] = server.sockets[0].getsockname()
    return address


async def test_what_is_done_in_time_leaves_nothing_behind() -> None:
    async with patience(0.05):
        pass
    await asyncio.sleep(0)


async def test_a_failure_inside_is_passed_on() -> None:
    with pytest.raises(KeyError):
        async with patience(0.05):
            raise KeyError
