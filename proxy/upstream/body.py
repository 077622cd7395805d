"""Bodies that carry files: multipart/form-data (RFC 7578), built from scratch, hashed and sent piece by piece."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

import orjson

from proxy.errors import BadRequest
from proxy.model import File, LargeBody

BLOCK = 65_536


def encode(document: Mapping[str, object]) -> bytes:
    """A body of JSON."""
    try:
        return bytes(memoryview(orjson.dumps(document)))  # a copy: what orjson returns keeps 4 KiB as long as it lives
    except TypeError as error:  # the client's part of it: halves of characters, a context nested too deeply
        raise BadRequest("the message can't be written as JSON") from error


def form(fields: Mapping[str, object], files: Sequence[File]) -> LargeBody:
    """Texts as they are, what else as JSON; then every file as `files`. Reads the files once, to hash them."""
    boundary = secrets.token_hex(16)  # 128 random bits, so that no file has it in it
    parts: list[bytes | File] = []
    for name, value in fields.items():
        text = _text(value) if isinstance(value, str) else encode({"": value})[4:-1]  # a value by itself
        parts.append(_head(boundary, f'name="{name}"') + text + b"\r\n")
    for file in files:
        disposition = f'name="files"; filename="{_escaped(file.name)}"'
        parts += [_head(boundary, disposition, f"\r\nContent-Type: {file.media}"), file, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    digest, length = hashlib.sha256(), 0
    for block in _blocks(parts):
        digest.update(block)
        length += len(block)
    return LargeBody(f"multipart/form-data; boundary={boundary}", length, digest.hexdigest(), tuple(parts))


async def stream(body: LargeBody) -> AsyncGenerator[bytes, None]:
    """The very bytes that were hashed."""
    blocks = _blocks(body.parts)
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block


def _blocks(parts: Sequence[bytes | File]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            for at in range(0, part.size, BLOCK):
                yield part.look(at, min(BLOCK, part.size - at))


def _head(boundary: str, disposition: str, more: str = "") -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}{more}\r\n\r\n".encode()


def _escaped(name: str) -> str:
    """As the HTML standard has it: three characters that would end the name, and no others."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise BadRequest("a message with half a character") from None
