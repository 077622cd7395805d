"""Archives that are one, and those that are more, or less."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from proxy.content.filetypes import Refused
from proxy.guard import archives
from proxy.guard.archives import judge_archive
from tests.forms import archive, docx

ZIP = "application/zip"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def reason(content: bytes, media: str = ZIP) -> str:
    try:
        judge_archive(media, io.BytesIO(content), len(content))
    except Refused as refused:
        return refused.reason
    return ""


def test_honest_ones_pass() -> None:
    assert reason(archive({"a/": b"", "a/b.txt": b"x" * 500_000})) == ""
    assert reason(archive({"a.txt": b"x"}, zipfile.ZIP_STORED)) == ""
    assert reason(docx(), DOCX) == ""


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/a", "\\a", "C:a", "a\\..\\b", "a\x01b", "x" * 256, "a.zip", "a.tar.gz", "a.7z"]
)
def test_a_name_that_leads_out_or_to_another_archive_is_refused(name: str) -> None:
    assert reason(archive({name: b"x"})) == "archive"


@pytest.mark.parametrize("name", ["a.exe", "b/a.js", "a.txt.vbs", "a.svg"])
def test_a_program_by_its_name_is_refused(name: str) -> None:
    assert reason(archive({name: b"x"})) == "executable"


def test_a_program_or_an_archive_by_its_bytes_is_refused() -> None:
    assert reason(archive({"a.txt": b"\x7fELF"})) == "executable"
    assert reason(archive({"a.txt": archive({})})) == ""  # it is empty, so it is none
    assert reason(archive({"a.txt": archive({"b": b""})})) == "archive"
    assert reason(archive({"a.txt": b"\x1f\x8b\x08"})) == "archive"


@pytest.mark.parametrize("name", ["word/vbaProject.bin", "word/embeddings/a.bin", "word/activeX/activeX1.bin"])
def test_macros_and_embedded_objects_are_refused(name: str) -> None:
    assert reason(docx(**{name: b"x"}), DOCX) == "active"


def test_a_document_has_to_be_one() -> None:
    assert reason(archive({"word/document.xml": b"x"}), DOCX) == "signature"
    assert reason(archive({"[Content_Types].xml": b"x", "xl/a.xml": b""}), DOCX) == "signature"


def test_what_unpacks_to_too_much_is_refused_whatever_it_says_of_itself() -> None:
    bomb = archive({"a.txt": bytes(5_000_000)})
    assert reason(bomb) == "archive"
    said = struct.pack("<I", 5_000_000)
    assert bomb.count(said) == 2
    assert reason(bomb.replace(said, struct.pack("<I", 10))) == "archive"


def test_entries_over_one_another_or_of_one_name_are_refused() -> None:
    made = bytearray(archive({"a.txt": b"x" * 3000, "b.txt": b"y" * 3000}, zipfile.ZIP_STORED))
    first, second = (made.index(b"PK\1\2"), made.rindex(b"PK\1\2"))
    twice = bytes(made).replace(b"b.txt", b"a.txt")
    assert reason(twice) == "archive"
    made[second + 42 : second + 46] = made[first + 42 : first + 46]  # both begin at the same place
    assert reason(bytes(made)) == "archive"
    made[first + 20 : first + 24] = struct.pack("<I", 100_000)
    assert reason(bytes(made)) == "archive"


def test_a_number_of_entries_that_is_too_large_is_refused_before_they_are_read() -> None:
    assert reason(archive({str(n): b"" for n in range(archives.MAX_ENTRIES + 1)})) == "archive"
    made = bytearray(archive({str(n): b"" for n in range(archives.MAX_ENTRIES + 1)}))
    made[-14:-10] = struct.pack("<HH", 5, 5)
    assert reason(bytes(made)) == "archive"
    assert reason(archive({})) == "archive"


def test_what_stands_around_an_archive_is_refused() -> None:
    plain = archive({"a": b"x"})
    for changed in (plain + b"x", b"x" + plain, plain[:-1], b"PK\3\4", plain[:-2] + b"\1\0x"):
        assert reason(changed) == "archive"


def test_links_and_encrypted_entries_are_refused() -> None:
    data = io.BytesIO()
    link = zipfile.ZipInfo("a")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(data, "w") as made:
        made.writestr(link, "/etc/passwd")
    assert reason(data.getvalue()) == "archive"
    locked = bytearray(archive({"a": b"x"}))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        locked[locked.index(mark) + at] |= 1
    assert reason(bytes(locked)) == "archive"


def test_damage_is_refused() -> None:
    broken = bytearray(archive({"a": b"x" * 100}))
    broken[40] ^= 0xFF
    assert reason(bytes(broken)) == "archive"
