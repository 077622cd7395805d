"""What becomes of files: the stage by itself, with a real clamd where one is asked."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.content.filetypes import Refused
from proxy.errors import BadRequest, UploadRejected
from proxy.guard.files import MAX_NAME_CHARS, Files, UploadSettings, clean_name
from proxy.model import File, Message, Request
from proxy.telemetry import Metrics
from tests import forms
from tests.clam import ClamServer
from tests.clients import request as some_request


@pytest.fixture(scope="module")
def clam() -> Iterator[ClamServer]:
    with ClamServer() as server:
        yield server


def file(content: bytes, name: str = "a.txt", media: str = "text/plain") -> File:
    data = tempfile.TemporaryFile()  # noqa: SIM115 - the file closes it
    data.write(content)
    return File(name, media, len(content), hashlib.sha256(content).hexdigest(), data, data.close)


async def judged(*files: File, metrics: Metrics | None = None, **settings: Any) -> Request:
    request = replace(some_request(), message=Message("look", files=files))
    try:
        return await Files(UploadSettings(**settings), metrics or Metrics()).check(request)
    finally:
        for one in files:
            one.close()


async def reason(*files: File, **settings: Any) -> str:
    metrics = Metrics()
    with pytest.raises(UploadRejected) as refused:
        await judged(*files, metrics=metrics, **settings)
    word = refused.value.detail.partition(":")[0]
    assert metrics.registry.get_sample_value("sidegate_uploads_total", {"site": "shop", "outcome": word}) == len(files)
    return word


async def test_a_message_without_files_is_left_alone() -> None:
    assert (await judged()).message == Message("look")


async def test_a_context_that_poses_as_an_upload_is_refused_however_deep_with_files_and_without() -> None:
    request = replace(some_request(), message=Message("look", {"a": [[{"files": {"b": {"filepath": "/etc/passwd"}}}]]}))
    with pytest.raises(BadRequest, match="poses"):
        await Files(UploadSettings(), Metrics()).check(request)


async def test_what_passes_has_its_name_cleaned_and_its_type_known() -> None:
    request = await judged(file(b"x", "..\\..\\a b.TXT", "text/plain"))
    assert [(one.name, one.media) for one in request.message.files] == [("a b.TXT", "text/plain")]


@pytest.mark.parametrize(
    ("content", "name", "media", "why"),
    [
        (b"x", "a\0.txt", "text/plain", "name"),
        (b"x", "a.exe", "text/plain", "executable"),
        (b"x", "a.csv", "text/csv", "extension"),
        (b"x", "a.xyz", "text/plain", "extension"),
        (b"x", "a.txt", "text/html", "declared"),
        (b"", "a.txt", "text/plain", "empty"),
        (b"\0", "a.txt", "text/plain", "signature"),
        (b"<html>", "a.txt", "text/plain", "active"),
        (forms.png()[:-4], "a.png", "image/png", "damaged"),
        (forms.jpeg(behind=forms.archive({"a": b"x"})), "a.jpg", "image/jpeg", "polyglot"),
    ],
)
async def test_each_refusal_has_its_reason(content: bytes, name: str, media: str, why: str) -> None:
    assert await reason(file(content, name, media)) == why


async def test_archives_are_opened_where_they_are_allowed() -> None:
    types = ["application/zip"]
    assert (await judged(file(forms.archive({"a": b"x"}), "a.zip", types[0]), types=types)).message.files
    assert await reason(file(forms.archive({"../a": b"x"}), "a.zip", types[0]), types=types) == "archive"


async def test_more_files_than_allowed_are_refused_whoever_read_them() -> None:
    assert await reason(file(b"a"), file(b"b"), max_files=1) == "count"


async def test_eicar_is_refused_and_other_files_are_scanned_too(clam: ClamServer) -> None:
    scan = {"clamd": clam.address}
    assert (await judged(file(b"harmless"), scan=scan)).message.files
    assert await reason(file(forms.EICAR), scan=scan) == "malware"
    assert await reason(file(b"harmless"), file(forms.EICAR), scan=scan) == "malware"


async def test_without_clamd_nothing_passes_or_everything_does_as_configured() -> None:
    with ClamServer() as stopped:
        scan = {"clamd": stopped.address}
        assert (await judged(file(b"harmless"), scan=scan)).message.files
        stopped.stop()
        assert await reason(file(b"harmless"), scan=scan) == "scanner"
        metrics = Metrics()
        request = await judged(file(b"harmless"), metrics=metrics, scan=scan | {"when_unavailable": "allow"})
        assert request.message.files
    labels = {"site": "shop", "outcome": "unscanned"}
    assert metrics.registry.get_sample_value("sidegate_uploads_total", labels) == 1


async def test_stripping_leaves_the_picture_alone_and_files_without_metadata_as_they_are() -> None:
    dirty = file(forms.jpeg(forms.EXIF), "a.jpg", "image/jpeg")
    clean = file(forms.jpeg(), "b.jpg", "image/jpeg")
    files = Files(UploadSettings(strip_metadata=True), Metrics())
    request = await files.check(replace(some_request(), message=Message("look", files=(dirty, clean))))
    contents = [one.look(0, one.size + 100) for one in request.message.files]
    assert contents == [forms.jpeg(), forms.jpeg()]
    dirty.close()
    clean.close()


@given(st.text(max_size=400))
def test_a_cleaned_name_is_one_that_nothing_happens_with(name: str) -> None:
    try:
        cleaned = clean_name(name)
    except Refused:
        return
    stem, _, extension = cleaned.rpartition(".")
    assert stem
    assert len(cleaned) <= max(MAX_NAME_CHARS, 2 * len(extension) + 2)
    assert cleaned == cleaned.strip(" .")
    assert not set(cleaned) & set('/\\<>:"|?*;`$&%\0\r\n\u202e')


def test_clamd_may_stay_unnamed() -> None:
    assert UploadSettings.model_validate({"scan": {"clamd": None}}).scan.clamd is None


@pytest.mark.parametrize("wrong", [{"types": ["image/svg+xml"]}, {"scan": {"clamd": "clamav"}}, {"max_files": 21}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UploadSettings(**wrong)


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [("CON.txt", "_CON.txt"), ("COM¹.txt", "_COM¹.txt"), ("a\u200b.txt", "a.txt"), ("/x/ b..txt", "b..txt")],
)
def test_names_that_systems_know_are_changed(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned
