"""ClamAV is asked about a file: clamd's INSTREAM over TCP or a Unix socket (clamd(8)).

What it stops: what its signatures know. What it doesn't: the rest. The file goes to clamd in pieces, and clamd's own
StreamMaxLength has to be as large as uploads may be: of a file that is over it there is no verdict.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Callable
from contextlib import suppress

BLOCK = 65_536
MAX_REPLY = 4096
_ADDRESS = re.compile(r"tcp://(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
_SIGNATURE = re.compile(rb"stream: ([\x21-\x7e]{1,200}) FOUND")


class Unavailable(Exception):
    """There is no verdict. The text says why."""


def parse_address(address: str) -> tuple[str, int] | str:
    """`tcp://host:port` as host and port, `unix:/path` as the path. Raises ValueError."""
    if address.startswith("unix:/") and "\0" not in address:
        return address.removeprefix("unix:")
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) <= 65_535:
        raise ValueError("write tcp://host:3310 or unix:/run/clamav/clamd.ctl")
    return match[1] or match[2], int(match[3])


async def scan(address: str, look: Callable[[int, int], bytes], size: int, seconds: float) -> str | None:
    """The name of what was found, or None. Raises Unavailable, after `seconds` at most."""
    try:
        async with asyncio.timeout(seconds):
            reply = await _ask(parse_address(address), look, size)
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Unavailable(f"clamd: {type(error).__name__}") from error  # OSError includes TimeoutError
    if reply == b"stream: OK":
        return None
    if (match := _SIGNATURE.fullmatch(reply)) is not None:
        return match[1].decode()
    raise Unavailable("clamd: no verdict")


async def _ask(place: tuple[str, int] | str, look: Callable[[int, int], bytes], size: int) -> bytes:
    if isinstance(place, str):
        reader, writer = await asyncio.open_unix_connection(place, limit=MAX_REPLY)
    else:
        reader, writer = await asyncio.open_connection(*place, limit=MAX_REPLY)
    try:
        # Where clamd has had enough, it says so and closes: its answer is read all the same.
        with suppress(ConnectionError):
            writer.write(b"zINSTREAM\0")
            for at in range(0, size, BLOCK):
                block = await asyncio.to_thread(look, at, min(BLOCK, size - at))
                writer.write(struct.pack(">I", len(block)) + block)
                await writer.drain()
            writer.write(struct.pack(">I", 0))
            await writer.drain()
        return (await reader.readuntil(b"\0"))[:-1]
    finally:
        writer.transport.abort()
