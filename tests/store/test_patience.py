"""A timeout that waits for somebody else's silence, and not for our own lateness."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from proxy.store.patience import patience


async def test_silence_ends_it() -> None:
    with pytest.raises(TimeoutError):
        async with patience(0.05):
            await asyncio.Event().wait()


async def test_an_answer_that_only_we_were_too_busy_to_read_is_taken() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    # This process is busy for longer than its patience, while the answer comes in.
    asyncio.get_running_loop().call_soon(time.sleep, 0.3)
    theirs.sendall(b"here\n")
    async with patience(0.05):
        assert await reader.readline() == b"here\n"
    writer.close()
    await writer.wait_closed()
    theirs.close()


async def test_what_is_done_in_time_leaves_nothing_behind() -> None:
    async with patience(0.05):
        pass
    await asyncio.sleep(0)


async def test_a_failure_inside_is_passed_on() -> None:
    with pytest.raises(KeyError):
        async with patience(0.05):
            raise KeyError
