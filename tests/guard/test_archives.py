"""Archives that are one, and those that are more, or less."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def packed(content: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(content) + deflate.flush()


def entry(
    name: bytes, content: bytes, data: bytes | None = None, *, method: int = 8, flags: int = 0, extra: bytes = b""
) -> bytes:
    """As it stands in front of the directory; `data` is what `content` is packed to."""
    data = packed(content) if data is None else data
    facts = struct.pack("<4H3I", flags, method, 0, 0, zlib.crc32(content), len(data), len(content))
    return b"PK\3\4\x14\0" + facts + struct.pack("<HH", len(name), len(extra)) + name + extra + data


def place(local: bytes, at: int, extra: bytes = b"") -> bytes:
    """What the directory says of an entry that begins there."""
    (length,) = struct.unpack_from("<H", local, 26)
    head = b"PK\1\2\x14\0\x14\0" + local[6:28] + struct.pack("<HHHHII", len(extra), 0, 0, 0, 0, at)
    return head + local[30 : 30 + length] + extra


def end(number: int, length: int, at: int) -> bytes:
    return b"PK\5\6" + struct.pack("<4HIIH", 0, 0, number, number, length, at, 0)


def whole(*locals_: bytes, extra: bytes = b"") -> bytes:
    before, directory = b"", b""
    for local in locals_:
        directory += place(local, len(before), extra)
        before += local
    return before + directory + end(len(locals_), len(directory), len(before))


HONEST, HIDDEN = entry(b"a.txt", b"hello"), entry(b"evil.exe", b"MZ" + bytes(60))


def test_the_archives_made_here_are_honest() -> None:
    assert reason(whole(HONEST, entry(b"b.txt", b"x", b"x", method=0))) == ""


def test_a_bomb_that_says_it_is_small_and_has_the_sum_of_what_it_says_is_refused() -> None:
    bomb = packed(bytes(5_000_000))
    assert reason(whole(entry(b"a.txt", bytes(10), bomb))) == "archive"
    assert reason(whole(entry(b"a.txt", b"hell", packed(b"hello")))) == "archive"
    assert reason(whole(entry(b"a.txt", b"hell", b"hello", method=0))) == "archive"


@pytest.mark.parametrize(
    "content", [HONEST + HIDDEN, HIDDEN + HONEST, HONEST + HIDDEN + HONEST.replace(b"a.txt", b"b.txt")]
)
def test_an_entry_that_the_directory_does_not_have_is_refused(content: bytes) -> None:
    at = [n for n in range(len(content)) if content[n:].startswith((b"PK\3\4",)) and b".txt" in content[n : n + 36]]
    directory = b"".join(place(content[n:], n) for n in at)
    assert reason(content + directory + end(len(at), len(directory), len(content))) == "archive"


def test_something_behind_what_an_entry_unpacks_to_is_refused() -> None:
    assert reason(whole(entry(b"a.txt", b"hello", packed(b"hello") + HIDDEN))) == "archive"
    assert reason(whole(entry(b"a.txt", b"hello", packed(b"hello")[:-1]))) == "archive"


def test_a_second_directory_is_refused() -> None:
    """As of ZIP64: some programs prefer it, some don't know it."""
    before = HONEST + HIDDEN
    second, first = place(HONEST, 0), place(HIDDEN, len(HONEST))
    at = len(before) + len(first)
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, len(second), at)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, at + len(second), 1)
    directory = first + second + record + locator
    content = before + directory + end(1, len(directory), len(before))
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["a.txt"]
    assert reason(content) == "archive"


@pytest.mark.parametrize(
    "change", [{"method": 0}, {"flags": 1}, {"flags": 0x800}, {"name": b"b.txt"}, {"content": b"x"}]
)
def test_an_entry_has_to_say_what_the_directory_says(change: dict[str, Any]) -> None:
    shown: dict[str, Any] = {"name": b"a.txt", "content": b"hello"}
    data = packed(b"hello")
    found = entry(**shown | change, data=data)
    directory = place(entry(**shown, data=data), 0)
    assert reason(found + directory + end(1, len(directory), len(found))) == "archive"


def test_a_size_may_stand_behind_its_entry() -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(Pipe(data), "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.txt", b"hello")
        made.writestr("b.txt", b"hello")
    assert b"PK\7\10" in data.getvalue()
    assert reason(data.getvalue()) == ""


class Pipe(io.RawIOBase):
    """Somewhere that can't be gone back in."""

    def __init__(self, to: io.BytesIO) -> None:
        self._to = to

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # what has a buffer
        return self._to.write(data)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"a.txt\0.exe", "archive"),  # zipfile's own name of it ends at the NUL
        (b"evil.exe::$DATA", "executable"),
        ("evil.\u202eexe".encode(), "executable"),
        ("evil.e\u200bxe".encode(), "executable"),
    ],
)
def test_a_name_that_is_read_in_two_ways_is_refused(name: bytes, why: str) -> None:
    assert reason(whole(entry(name, b"x", flags=0x800))) == why


@pytest.mark.parametrize(
    ("name", "why"), [("../x", "archive"), ("a.exe", "executable"), ("a.zip", "archive"), ("grüße.txt", "")]
)
def test_an_entrys_other_name_is_a_name_too(name: str, why: str) -> None:
    other = b"\1" + struct.pack("<I", zlib.crc32(b"a.txt")) + name.encode()
    extra = b"ab\1\0x" + struct.pack("<HH", 0x7075, len(other)) + other
    assert reason(whole(HONEST, extra=extra)) == why
    assert reason(whole(entry(b"a.txt", b"hello", extra=extra))) == why


def test_a_program_is_found_however_its_first_bytes_are_packed() -> None:
    empty = b"\0\0\0\xff\xff"  # a block of nothing (RFC 1951 section 3.2.4)
    data = b"\0\1\0\xfe\xffM" + empty * 20_000 + b"\1\3\0\xfc\xffZ\x90\0"
    assert zlib.decompress(data, -zlib.MAX_WBITS) == b"MZ\x90\0"
    assert reason(whole(entry(b"a.txt", b"MZ\x90\0", data))) == "executable"


def test_a_tar_in_an_archive_is_refused() -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        made.addfile(tarfile.TarInfo("a.txt"))
    assert reason(archive({"a.dat": data.getvalue()})) == "archive"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_than_those_that_everybody_reads_are_refused(method: int) -> None:
    assert reason(archive({"a.txt": b"x" * 1000}, method)) == "archive"


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=200), st.integers(0, 1000)), min_size=1, max_size=4), st.booleans())
def test_whatever_honest_entries_hold_they_pass(contents: list[tuple[bytes, int]], is_packed: bool) -> None:
    method = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
    made = archive({f"{n}.txt": b"." + part * times for n, (part, times) in enumerate(contents)}, method)
    assert reason(made) == ""


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_damage_anywhere_ends_in_a_verdict(seed: int, times: int) -> None:
    chance = random.Random(seed)
    broken = bytearray(whole(HONEST, entry(b"b.txt", b"x" * 300)))
    for _ in range(times):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    assert reason(bytes(broken)) in ("", "archive", "executable", "active")
