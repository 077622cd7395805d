"""A real clamd is asked, and stand-ins that say what it never should."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from proxy.guard.clamd import Unavailable, parse_address, scan
from tests.clam import SIGNATURE, ClamServer
from tests.forms import EICAR


@pytest.fixture(scope="module")
def clam() -> Iterator[ClamServer]:
    with ClamServer(max_bytes=1_000_000) as server:
        yield server


async def scanned(address: str, content: bytes, seconds: float = 20) -> str | None:
    def look(at: int, size: int) -> bytes:
        return io.BytesIO(content).getbuffer()[at : at + size].tobytes()

    return await scan(address, look, len(content), seconds)


async def test_eicar_is_found_and_harmless_bytes_are_not(clam: ClamServer) -> None:
    for address in (clam.address, clam.socket):
        assert await scanned(address, EICAR) == f"{SIGNATURE}.UNOFFICIAL"
        assert await scanned(address, b"x" * 100_000 + EICAR) == f"{SIGNATURE}.UNOFFICIAL"
        assert await scanned(address, b"harmless " * 20_000) is None


async def test_of_a_file_over_clamds_own_limit_there_is_no_verdict(clam: ClamServer) -> None:
    with pytest.raises(Unavailable):
        await scanned(clam.address, b"x" * 3_000_000)


@asynccontextmanager
async def saying(reply: bytes | None) -> AsyncIterator[str]:
    """A server that says this to whatever it hears; None: nothing."""

    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"zINSTREAM\0")
        if reply is not None:
            writer.write(reply)
            writer.close()
        else:
            await reader.read()  # the client's end ends this

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "reply",
    [None, b"", b"\0", b"stream: OK", b"OK\0", b"stream: OK FOUND stream: OK\0", b"x" * 10_000, b"stream:  FOUND\0"],
)
async def test_what_is_no_verdict_is_none(reply: bytes | None) -> None:
    async with saying(reply) as address:
        with pytest.raises(Unavailable):
            await scanned(address, b"x", seconds=20 if reply is not None else 0.1)


async def test_a_clamd_that_is_not_there_gives_no_verdict() -> None:
    for address in ("tcp://127.0.0.1:1", "unix:/nowhere/clamd.ctl"):
        with pytest.raises(Unavailable):
            await scanned(address, b"x")


def test_addresses() -> None:
    assert parse_address("tcp://clamav:3310") == ("clamav", 3310)
    assert parse_address("tcp://[::1]:3310") == ("::1", 3310)
    assert parse_address("unix:/run/clamd.ctl") == "/run/clamd.ctl"
    for wrong in ("clamav:3310", "tcp://clamav", "tcp://clamav:0", "tcp://clamav:70000", "unix:run", "http://a:1"):
        with pytest.raises(ValueError, match="tcp://host"):
            parse_address(wrong)
