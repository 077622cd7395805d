"""Files come with messages, or are refused: what the client is told, and what reaches the webhook."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import resource
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest

from tests import forms
from tests.forms import archive, file, form, gif, jpeg, pdf, png, said, text
from tests.hostile import BAD, DOCX, HOSTILE
from tests.sidegate import JWT_KEY, Visitor, parse_sse, sidegate, text_of
from tests.until import until
from tests.upstreams import Webhook, stream, webhook

ALL = [
    *("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "text/plain", "text/csv"),
    *("application/json", "application/zip", "audio/mpeg"),
    DOCX,
]
PATHS = ["/v1/messages", "/chat/shop"]


@asynccontextmanager
async def serving(**uploads: Any) -> AsyncIterator[tuple[Visitor, Webhook]]:
    async with (
        webhook(lambda _: stream("seen")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, uploads={"types": ALL, "scan": {}} | uploads) as visitor,
    ):
        await visitor.session()
        yield visitor, hook


def send(visitor: Visitor, body: Any, content_type: str = forms.CONTENT_TYPE, **headers: str) -> Any:
    headers = visitor.headers | {"Content-Type": content_type} | headers
    body = io.BytesIO(body) if isinstance(body, bytes) else body  # aiohttp warns of large bytes
    return visitor.http.post(f"{visitor.url}/v1/messages", data=body, headers=headers)


async def answered(visitor: Visitor, body: Any, content_type: str = forms.CONTENT_TYPE) -> tuple[int, str]:
    """Status, and the code of a refusal or the text of an answer."""
    async with send(visitor, body, content_type) as response:
        answer = await response.text()
        if response.status == 200:
            return 200, text_of(parse_sse(answer))
        return response.status, orjson.loads(answer)["code"]


def sent(body: bytes, content_type: str) -> list[forms.Sent]:
    return forms.read(body, content_type)


async def spooled(visitor: Visitor) -> float:
    async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("sidegate_upload_spool_bytes ")))


def open_files() -> int:
    """Temporary files without a name that this process has open."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # it was the directory's own
            continue
        found += target.startswith(tempfile.gettempdir()) and target.endswith("(deleted)")
    return found


async def test_a_message_with_files_reaches_n8n_as_its_own_chat_would_send_it() -> None:
    picture = png()
    async with serving() as (visitor, hook):
        body = form(
            text("message", "what is this?"),
            text("context", '{"page": "/a"}'),
            text("sessionId", "somebody-elses"),
            file(picture, "Über uns.png", "image/png"),
            file(b"a,b\n", "t.csv", "text/csv"),
        )
        assert await answered(visitor, body) == (200, "seen")
        assert await spooled(visitor) == 0
    asked = hook.asked[0]
    parts = sent(asked.body, asked.headers["content-type"])
    assert [one.name for one in parts] == ["action", "sessionId", "chatInput", "metadata", "files", "files"]
    assert parts[1].content != b"somebody-elses"
    assert parts[2].content == b"what is this?"
    assert orjson.loads(parts[3].content)["context"] == {"page": "/a"}
    assert [(one.filename, one.media, one.content) for one in parts[4:]] == [
        ("Über uns.png", "image/png", picture),
        ("t.csv", "text/csv", b"a,b\n"),
    ]
    claims = jwt.decode(
        asked.headers["authorization"].removeprefix("Bearer "), JWT_KEY, ["HS256"], audience="n8n", issuer="sidegate"
    )
    assert claims["body_sha256"] == hashlib.sha256(asked.body).hexdigest()
    assert int(asked.headers["content-length"]) == len(asked.body)


async def test_seventy_hostile_uploads_are_refused_each_in_its_way_and_none_reaches_the_webhook() -> None:
    before = open_files()
    assert len(HOSTILE) >= 70
    async with serving() as (visitor, hook):
        answers = {name: await answered(visitor, body) for name, (body, _) in HOSTILE.items()}
        assert hook.asked == []
        await until(lambda: _is_zero(visitor))
    assert answers == {name: answer for name, (_, answer) in HOSTILE.items()}
    assert open_files() == before


async def _is_zero(visitor: Visitor) -> bool:
    return await spooled(visitor) == 0


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=a; boundary=b",
        f"multipart/form-data; charset=utf-7; boundary={forms.BOUNDARY}",
        "multipart/form-data; boundary=" + "a" * 71,
    ],
)
async def test_a_form_without_one_clear_boundary_is_refused(content_type: str) -> None:
    async with serving() as (visitor, hook):
        assert await answered(visitor, said(file(b"x")), content_type) == BAD
        assert hook.asked == []


@pytest.mark.parametrize("files", [{"a": {"filepath": "/etc/passwd"}}, [{"filepath": "/etc/passwd"}], "x", 1])
async def test_json_that_poses_as_an_upload_never_reaches_the_webhook(files: object) -> None:
    async with serving() as (visitor, hook):
        status, problem = await visitor.problem(files=files)
        assert (status, problem["code"]) == BAD
        status, problem = await visitor.problem(context={"deep": [{"files": files, "filepath": "/etc/passwd"}]})
        assert (status, problem["code"]) == BAD
        assert hook.asked == []


async def test_what_poses_as_an_upload_is_refused_where_content_is_only_observed_too() -> None:
    async with (
        webhook(lambda _: stream("seen")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, content={"mode": "observe"}) as visitor,
    ):
        await visitor.session()
        status, problem = await visitor.problem(context={"files": {"a": {"filepath": "/etc/passwd"}}})
        assert (status, problem["code"]) == BAD
        assert hook.asked == []


@pytest.mark.parametrize(
    ("content", "name", "media"),
    [
        (jpeg(forms.EXIF), "photo.JPG", "image/jpeg"),
        (gif(), "a.gif", "image/gif"),
        (b"RIFF\x12\0\0\0WEBPVP8 " + bytes(10), "a.webp", "image/webp"),
        (pdf(), "a.pdf", "application/pdf"),
        ("Grüße\n".encode(), "notes v1.2.txt", "text/plain; charset=utf-8"),
        (b'{"a": 1}', "a.json", "application/json"),
        (archive({"a/": b"", "a/b.txt": b"x" * 5000}), "a.zip", "application/x-zip-compressed"),
        (forms.docx(), "letter.docx", DOCX),
    ],
)
async def test_honest_files_pass_unchanged(content: bytes, name: str, media: str) -> None:
    async with serving() as (visitor, hook):
        assert await answered(visitor, said(file(content, name, media))) == (200, "seen")
    parts = sent(hook.asked[0].body, hook.asked[0].headers["content-type"])
    assert (parts[-1].filename, parts[-1].content) == (name, content)


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("..%2f..%2fa.txt", "..%2f..%2fa.txt".replace("%", "_").strip(" .")),
        ("C:/fakepath/a.txt", "a.txt"),
        ("a;b`c$d.txt", "a_b_c_d.txt"),
        ("<img src=x>.txt", "_img src=x_.txt"),
        ("con.txt", "_con.txt"),
        ("a\u200b.txt", "a.txt"),
        ("x" * 300 + ".txt", "x" * 116 + ".txt"),
    ],
)
async def test_names_are_cleaned(name: str, cleaned: str) -> None:
    async with serving() as (visitor, hook):
        assert await answered(visitor, said(file(b"x", name))) == (200, "seen")
    assert sent(hook.asked[0].body, hook.asked[0].headers["content-type"])[-1].filename == cleaned


async def test_metadata_is_stripped_where_that_is_asked_for() -> None:
    clean = jpeg()
    dirty = jpeg(forms.EXIF, forms.segment(0xFE, b"by Ada"), behind=b"\xff\xd8 a preview")
    async with serving(strip_metadata=True) as (visitor, hook):
        body = said(
            file(dirty, "a.jpg", "image/jpeg"),
            file(png(forms.png_chunk(b"eXIf", b"MM\0*"), forms.png_chunk(b"tIME", bytes(7))), "a.png", "image/png"),
        )
        assert await answered(visitor, body) == (200, "seen")
    parts = sent(hook.asked[0].body, hook.asked[0].headers["content-type"])
    assert [one.content for one in parts[-2:]] == [clean, png()]


async def test_a_message_that_is_sent_again_joins_its_answer_and_other_files_are_a_conflict() -> None:
    before = open_files()
    async with serving() as (visitor, hook):
        key = {"Idempotency-Key": "k1"}
        for content, status in ((b"one", 200), (b"one", 200), (b"two", 409)):
            async with send(visitor, said(file(content)), **key) as response:
                await response.read()
                assert response.status == status
        assert len(hook.asked) == 1
        await until(lambda: _is_zero(visitor))
    assert open_files() == before


async def test_a_site_whose_upstream_takes_no_files_refuses_them_unread() -> None:
    openai = {"kind": "openai", "url": "http://127.0.0.1:9/v1/chat/completions", "model": "m"}
    async with sidegate(openai) as visitor:
        await visitor.session()
        assert await answered(visitor, said(file(b"x"))) == (415, "unsupported_media")
    async with serving(max_files=0) as (visitor, _):
        assert await answered(visitor, said(file(b"x"))) == (415, "unsupported_media")


@pytest.mark.parametrize("path", PATHS)
async def test_uploads_of_one_address_are_limited_before_their_bodies_are_read(path: str) -> None:
    limits = [{"per": "ip", "limit": 3, "window": 60}]
    async with (
        webhook(lambda _: stream("seen")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, limits=limits) as one,
    ):
        await one.session()
        head = "\r\n".join(f"{name}: {value}" for name, value in one.headers.items())
        for expected in (b"100", b"100", b"429"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(one.url.rpartition(":")[2]))
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: a\r\n{head}\r\nContent-Type: {forms.CONTENT_TYPE}\r\n"
                "Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n".encode()
            )
            async with asyncio.timeout(10):
                answer = await reader.readuntil(b"\r\n\r\n")
                if answer.startswith(b"HTTP/1.1 100"):
                    answer = answer if expected == b"100" else await reader.readuntil(b"\r\n\r\n")
            assert answer.split()[1] == expected
            writer.transport.abort()


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_leaves_or_stalls_leaves_no_file_behind(path: str) -> None:
    before = open_files()
    async with serving(timeout=0.3) as (visitor, hook):
        head = "\r\n".join(f"{name}: {value}" for name, value in visitor.headers.items())
        begun = said(file(b"x" * 100_000))[:50_000]
        for leaves in (True, False):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(visitor.url.rpartition(":")[2]))
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: a\r\n{head}\r\nContent-Type: {forms.CONTENT_TYPE}\r\n"
                "Content-Length: 200000\r\n\r\n".encode()
                + begun
            )
            await until(lambda: _is_spooling(visitor))
            if leaves:
                writer.transport.abort()
            else:
                async with asyncio.timeout(10):
                    assert (await reader.readuntil(b"\r\n")).split()[1] == b"408"
                writer.close()
            await until(lambda: _is_zero(visitor))
            assert open_files() == before
        assert hook.asked == []


async def _is_spooling(visitor: Visitor) -> bool:
    return await spooled(visitor) > 0


async def test_no_more_waits_on_disk_than_there_is_room_for() -> None:
    async with serving(max_spool_bytes=50_000) as (visitor, _):
        assert await answered(visitor, said(file(b"x" * 60_000))) == (503, "upstream_unavailable")
        assert await answered(visitor, said(file(b"x" * 40_000))) == (200, "seen")
        await until(lambda: _is_zero(visitor))
        assert await answered(visitor, said(file(b"x" * 40_000))) == (200, "seen")


async def test_a_full_disk_is_told_as_no_room_and_the_next_upload_passes() -> None:
    with pytest.MonkeyPatch.context() as patch:
        async with serving() as (visitor, hook):
            patch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("r+b"))  # noqa: SIM115 - as the real one
            assert await answered(visitor, said(file(b"x"))) == (503, "upstream_unavailable")
            patch.undo()
            assert await answered(visitor, said(file(b"x"))) == (200, "seen")
            await until(lambda: _is_zero(visitor))
        assert len(hook.asked) == 1


async def test_a_file_of_10_mb_keeps_memory_flat() -> None:
    """Peak memory, which never falls: so a small upload first, whose cost counts for nothing."""
    size = 10_400_000

    async def pieces() -> AsyncIterator[bytes]:
        whole = said(file(b"\0MARK\0"))
        front, behind = whole.split(b"\0MARK\0")
        yield front
        for _ in range(0, size, 50_000):
            yield b"all of it is text " * 2777
        yield behind

    async with sidegate({"kind": "echo", "delay": 0}, uploads={"types": ["text/plain"]}) as visitor:
        await visitor.session()
        assert (await answered(visitor, said(file(b"x" * 200_000))))[0] == 200
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert (await answered(visitor, pieces()))[0] == 200
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB
