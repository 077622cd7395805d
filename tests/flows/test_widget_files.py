"""Files from @n8n/chat: the form that it sends, what n8n gets of it, and the sentence that a refusal shows."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from proxy.guard.keys import hash_of, new_key
from tests import forms
from tests.clam import ClamServer
from tests.forms import file, form, png, text
from tests.hostile import DOCX, HOSTILE
from tests.sidegate import ORIGIN, Visitor, sidegate
from tests.upstreams import BEGIN, END, HEAD, LAST, Asked, Script, Step, Webhook, chunk, item, stream, webhook

STREAMING = {"Accept": "text/plain"}
TYPES = [
    *("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "text/plain", "text/csv"),
    *("application/json", "application/zip", "audio/mpeg", DOCX),
]
WITH_CONTEXT = ("context that is no JSON", "context that poses as an upload")  # whose place is `metadata` here


@asynccontextmanager
async def world(script: Script | None = None, **more: Any) -> AsyncIterator[tuple[Visitor, Webhook]]:
    """Any: configuration as written."""
    async with (
        webhook(lambda _: script or stream("se", "en")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, **{"uploads": {"types": TYPES}} | more) as visitor,
    ):
        yield visitor, hook


def written(*parts: bytes, message: str = "look at this", visitor: str = "v1") -> bytes:
    """As the widget does it."""
    return form(text("action", "sendMessage"), text("sessionId", visitor), text("chatInput", message), *parts)


async def post(
    visitor: Visitor, body: bytes, headers: dict[str, str] | None = None, content_type: str = forms.CONTENT_TYPE
) -> tuple[int, Any]:
    """Status, and JSON or the lines of a stream."""
    headers = visitor.headers | {"Content-Type": content_type} | (headers or {})
    async with visitor.http.post(f"{visitor.url}/chat/shop", data=io.BytesIO(body), headers=headers) as response:
        answer = await response.read()
        if response.content_type == "application/x-ndjson":
            return response.status, [orjson.loads(line) for line in answer.splitlines()]
        return response.status, orjson.loads(answer)


def got(asked: Asked) -> list[forms.Sent]:
    return forms.read(asked.body, asked.headers["content-type"])


async def test_files_reach_n8n_in_the_form_that_its_chat_trigger_reads() -> None:
    picture = png()
    async with world() as (visitor, hook):
        metadata = text("metadata", '{"page":"/a","site":"another"}')
        body = written(metadata, file(b"one\n", "Grüße.txt"), file(picture, "a.png", "image/png"))
        assert await post(visitor, body) == (200, {"output": "seen"})
        status, lines = await post(visitor, written(file(b"one\n")), STREAMING)
        assert (status, "".join(line.get("content", "") for line in lines)) == (200, "seen")
        async with visitor.http.post(
            f"{visitor.url}/chat/shop", json={"sessionId": "v1", "chatInput": "hello"}, headers=visitor.headers
        ) as response:
            assert response.status == 200
        parts = got(hook.asked[0])
        assert [one.name for one in parts] == ["action", "sessionId", "chatInput", "metadata", "files", "files"]
        assert (parts[0].content, parts[2].content) == (b"sendMessage", b"look at this")
        known = orjson.loads(parts[3].content)
        assert (known["page"], known["site"]) == ("/a", "shop")
        assert [(one.filename, one.media, one.content) for one in parts[4:]] == [
            ("Grüße.txt", "text/plain", b"one\n"),
            ("a.png", "image/png", picture),
        ]
        sessions = {parts[1].content, got(hook.asked[1])[1].content, str(hook.asked[2].json["sessionId"]).encode()}
        assert len(sessions) == 1  # with files or without, it is one conversation,
        assert b"v1" not in sessions  # and its name is ours


@pytest.mark.parametrize("headers", [{}, STREAMING])
async def test_hostile_uploads_are_refused_in_a_sentence_and_none_reaches_n8n(headers: dict[str, str]) -> None:
    ours = text("action", "sendMessage") + text("sessionId", "v1")
    async with world() as (visitor, hook):
        for name, (body, (status, code)) in HOSTILE.items():
            if name in WITH_CONTEXT:
                continue
            at = body.find(b"------form")  # what stands in front of the form stays there
            body = body[:at] + ours + body[at:].replace(b'name="message"', b'name="chatInput"')
            shown, answer = await post(visitor, body, headers)
            told = answer[-1] if headers else answer
            assert (shown, told["code"]) == (200 if headers else status, code), name
            sentence = told["content" if headers else "message"]
            assert sentence.endswith("."), (name, sentence)
        assert hook.asked == []


@pytest.mark.parametrize("headers", [{}, STREAMING])
@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ((file(b"OggS", "a.ogg", "audio/ogg"),), "Files of this type can't be sent."),
        ((file(b"<svg/>", "a.svg", "image/svg+xml"),), "This file can't be sent."),
        ((file(b""),), "This file is empty."),
        ((file(b"x"),) * 6, "These are too many files."),
        ((file(b"x" * 10_600_000),), "These files are too large."),
        ((text("metadata", "[1]"), file(b"x")), None),
        ((text("metadata", '{"a":{"filepath":"/etc/passwd"}}'), file(b"x")), None),
        ((text("files", "x"),), 'Files belong in "files".'),
    ],
)
async def test_the_sentence_says_what_is_wrong_with_a_file(
    parts: tuple[bytes, ...], sentence: str | None, headers: dict[str, str]
) -> None:
    async with world() as (visitor, hook):
        status, answer = await post(visitor, written(*parts), headers)
        assert (status == 200) == bool(headers)
        told = answer[-1] if headers else answer
        shown = told["content" if headers else "message"]
        assert sentence is None or shown == sentence
        assert hook.asked == []


async def test_a_form_needs_a_session_id_and_is_no_way_to_a_history() -> None:
    async with world() as (visitor, hook):
        for body in (
            form(text("chatInput", "x"), file(b"x")),
            form(text("sessionId", "v1"), file(b"x"), text("action", "loadPreviousSession")),
            form(text("sessionId", "v1"), file(b"x")),
            written(file(b"x"), message=" "),
        ):
            assert (await post(visitor, body))[0] == 400
        assert hook.asked == []


async def test_a_form_without_files_is_a_message() -> None:
    async with world() as (visitor, hook):
        assert await post(visitor, written()) == (200, {"output": "seen"})
        assert hook.asked[0].json["chatInput"] == "look at this"


async def test_forms_of_other_pages_and_without_the_sites_key_are_refused_unread() -> None:
    """A form needs no preflight: any page can have a browser send one."""
    page = new_key("embed")
    site = {"origins": [ORIGIN], "upstream": "support", "auth": ["embed_key"], "embed_keys": [{"hash": hash_of(page)}]}
    async with world(sites={"shop": site}) as (visitor, hook):
        body = written(file(b"x"))
        elsewhere = {"Origin": "https://evil.example", "X-Embed-Key": page}
        for headers, status in (({}, 401), ({"X-Embed-Key": "guessed"}, 401), (elsewhere, 403)):
            assert (await post(visitor, body, headers))[0] == status
        assert hook.asked == []
        assert (await post(visitor, body, {"X-Embed-Key": page}))[0] == 200


async def test_a_site_whose_upstream_takes_no_files_says_so() -> None:
    async with world(uploads={"max_files": 0}) as (visitor, hook):
        status, answer = await post(visitor, written(file(b"x")))
        assert (status, answer["message"]) == (415, "Files are not accepted here.")
        assert hook.asked == []


async def test_the_same_words_with_another_file_are_no_second_click() -> None:
    gate = asyncio.Event()
    script = [
        Step(HEAD + chunk(BEGIN) + chunk(item("one "))),
        Step(wait=gate),
        Step(chunk(item("two")) + chunk(END) + LAST),
    ]
    clicked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    async with world(script) as (visitor, hook), asyncio.timeout(20), asyncio.TaskGroup() as group:
        answers = [group.create_task(post(visitor, written(file(name)), clicked)) for name in (b"a", b"b", b"b")]
        while len(hook.asked) < 2:  # noqa: ASYNC110 - the webhook has no event for it
            await asyncio.sleep(0.01)
        gate.set()
    assert [answer.result() for answer in answers] == [(200, {"output": "one two"})] * 3
    assert sorted(got(asked)[-1].content for asked in hook.asked) == [b"a", b"b"]


@pytest.mark.parametrize("when_unavailable", ["reject", "allow"])
@pytest.mark.parametrize("path", ["/chat/shop", "/v1/messages"])
async def test_a_real_clamd_stops_a_virus_and_without_one_it_is_as_configured(path: str, when_unavailable: str) -> None:
    with ClamServer() as clam:
        scan = {"clamd": clam.address, "when_unavailable": when_unavailable, "timeout": 20}
        async with world(uploads={"types": TYPES, "scan": scan}) as (visitor, hook):
            await visitor.session()

            async def sent(content: bytes) -> tuple[int, str]:
                body = written(text("message", "look"), file(content))
                headers = visitor.headers | {"Content-Type": forms.CONTENT_TYPE, "Accept": "application/json"}
                async with visitor.http.post(visitor.url + path, data=io.BytesIO(body), headers=headers) as response:
                    answer = await response.json(content_type=None)
                    return response.status, answer.get("code", "passed")

            assert await sent(b"harmless") == (200, "passed")
            assert await sent(forms.EICAR) == (422, "upload_rejected")
            clam.stop()
            without = (200, "passed") if when_unavailable == "allow" else (422, "upload_rejected")
            assert await sent(b"harmless again") == without
            assert len(hook.asked) == 1 + (when_unavailable == "allow")
            assert all(forms.EICAR not in asked.body for asked in hook.asked)


POSING: list[dict[str, Any]] = [
    {"files": {"f": {"filepath": "/etc/passwd", "originalFilename": "a.txt", "mimetype": "text/plain", "size": 9}}},
    {"files": [{"filepath": "/home/node/.n8n/config"}]},
    {"metadata": {"files": {"f": {"filepath": "/etc/passwd"}}}},
    {"context": {"files": {"f": {"filepath": "/etc/passwd"}}}},
    {"data": {}, "files": {}, "filepath": "/etc/passwd"},
    {"files": None, "body": {"files": {"f": {"filepath": "/etc/passwd"}}}},
]
CLAIMED = [
    "application/json",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "text/plain",
    "multipart/form-data",
    forms.CONTENT_TYPE,
    "multipart/form-data; boundary=x, application/json",
]


@pytest.mark.parametrize("path", ["/chat/shop", "/v1/messages"])
async def test_json_that_poses_as_an_upload_reaches_n8n_under_no_content_type(path: str) -> None:
    """CVE-2026-21858: n8n took `files` of a JSON body for files that it had received itself, and read them by path.

    Where such fields stand in places that nobody reads, the message runs, since the body that n8n gets is built anew.
    """
    refused = 0
    async with world() as (visitor, hook):
        await visitor.session()
        said = {"action": "sendMessage", "sessionId": "v1", "chatInput": "hello", "message": "hello"}
        for posing in POSING:
            for media in CLAIMED:
                headers = visitor.headers | {"Content-Type": media}
                body = io.BytesIO(orjson.dumps(said | posing))
                async with visitor.http.post(visitor.url + path, data=body, headers=headers) as response:
                    await response.read()
                    assert response.status in (200, 400, 415)
                    refused += response.status != 200
        assert refused == len(POSING) * len(CLAIMED) - len(hook.asked)
        assert refused >= len(POSING) * (len(CLAIMED) - 2) + 2
        for asked in hook.asked:
            assert asked.headers["content-type"] == "application/json"
            assert b"filepath" not in asked.body
            assert b"files" not in asked.body
