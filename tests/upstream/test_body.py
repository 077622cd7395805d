"""The form that n8n gets: what is hashed is what is sent."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import pytest

from proxy.errors import BadRequest, UnsupportedMedia
from proxy.model import File, LargeBody, Message
from proxy.upstream import build
from proxy.upstream.body import form, stream
from tests.clients import request as some_request
from tests.forms import read
from tests.upstream.script import n8n, owned
from tests.upstream.test_openai import settings


def file(content: bytes, name: str = "a.txt") -> File:
    return File(name, "text/plain", len(content), "", io.BytesIO(content), lambda: None)


async def sent(body: LargeBody) -> bytes:
    return b"".join([block async for block in stream(body)])


async def test_length_and_hash_are_of_the_very_bytes_that_are_sent_each_time() -> None:
    body = form({"chatInput": "grüße", "metadata": {"a": [1]}}, [file(b"x" * 150_000), file(b"")])
    content = await sent(body)
    assert content == await sent(body)
    assert (body.length, body.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    parts = read(content, body.media)
    assert [(one.name, len(one.content)) for one in parts] == [
        ("chatInput", 7), ("metadata", 9), ("files", 150_000), ("files", 0)
    ]  # fmt: skip
    assert parts[1].content == b'{"a":[1]}'


async def test_a_name_cant_end_its_header() -> None:
    body = form({}, [file(b"x", 'a"\r\nX: y.txt')])
    assert b'filename="a%22%0D%0AX: y.txt"\r\n' in await sent(body)


async def test_half_a_character_is_the_clients_mistake() -> None:
    for fields in ({"chatInput": "\ud83c"}, {"metadata": {"a": "\ud83c"}}):
        with pytest.raises(BadRequest):
            form(fields, [])


async def test_an_upstream_that_takes_no_files_sends_none() -> None:
    request = replace(some_request(), message=Message("look", files=(file(b"x"),)))
    async with build(settings(), owned) as upstream:
        with pytest.raises(UnsupportedMedia):
            upstream.encode(request)
    async with build(n8n("http://n8n/"), owned) as upstream:
        assert isinstance(upstream.encode(request), LargeBody)
