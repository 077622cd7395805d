"""Archives that come with a message: zip files, and Office documents, which are zip files too.

What it stops: bombs (size, ratio, number, entries over one another), paths that climb out, links, encrypted entries,
archives in archives, programs, macros and embedded objects. Each entry is unpacked once, to nowhere: what an archive
says of itself is not believed. What it doesn't: it judges no picture or PDF within an archive; clamd opens those.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from typing import BinaryIO

from proxy.content.filetypes import KINDS, RUNNING, Refused, is_program

MAX_ENTRIES = 1000
MAX_DIRECTORY = 1_048_576  # bytes
MAX_UNPACKED = 104_857_600  # bytes of all entries
MAX_RATIO = 100
FREE = 1_048_576  # bytes that may be unpacked whatever the ratio: small texts shrink a lot
BLOCK = 65_536
_END = struct.Struct("<4s4H2LH")  # APPNOTE.TXT section 4.3.16
_CLIMBING = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)|^[/\\]|^[A-Za-z]:|[\x00-\x1f\x7f]")
_ARCHIVE_NAMES = frozenset(
    ("zip", "docx", "xlsx", "pptx", "rar", "7z", "tar", "gz", "tgz", "bz2", "xz", "zst", "cab", "arj", "lzh", "ace")
)
_ARCHIVES = re.compile(rb"PK\x03\x04|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|\x1f\x8b|BZh[1-9]|\xfd7zXZ\x00|\x28\xb5\x2f\xfd")
_OF_DOCUMENTS = frozenset(("xml", "bin"))  # what Office documents are made of; a printer's settings are a .bin
_MACROS = re.compile(r"vbaproject|vbadata|activex|oleobject|/embeddings/", re.IGNORECASE)


def judge_archive(media: str, data: BinaryIO, size: int) -> None:
    """Raises Refused. Takes its time: unpacks everything once."""
    _judge_end(data, size)
    try:
        with zipfile.ZipFile(data) as archive:
            entries = archive.infolist()
            if not 0 < len(entries) <= MAX_ENTRIES:
                raise Refused("archive", f"no entry, or more than {MAX_ENTRIES}")
            if len({entry.filename for entry in entries}) < len(entries):
                raise Refused("archive", "two entries of one name")
            if sum(entry.compress_size for entry in entries) > size:
                raise Refused("archive", "entries that lie over one another")
            left = min(MAX_UNPACKED, max(FREE, size * MAX_RATIO))
            for entry in entries:
                _judge_name(entry, is_document=bool(KINDS[media].folder))
                left = _unpacked(archive, entry, left)
            if KINDS[media].folder:
                _judge_document(KINDS[media].folder, {entry.filename for entry in entries})
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused("archive", f"it can't be unpacked: {type(error).__name__}") from None


def _judge_end(data: BinaryIO, size: int) -> None:
    """The end is read first, before a library makes objects of a directory of any size."""
    data.seek(max(0, size - _END.size))
    tail = data.read(_END.size)
    if len(tail) < _END.size or tail[:4] != b"PK\x05\x06":
        raise Refused("archive", "something behind its end")
    _, disk, first_disk, here, total, length, at, comment = _END.unpack(tail)
    if disk or first_disk or comment or here != total or total > MAX_ENTRIES or length > MAX_DIRECTORY:
        raise Refused("archive", "in volumes, or with too large a directory")
    if at + length + _END.size != size:
        raise Refused("archive", "something in front of its directory or behind it")


def _judge_name(entry: zipfile.ZipInfo, *, is_document: bool) -> None:
    name = entry.filename
    if _CLIMBING.search(name) or len(name) > 255:
        raise Refused("archive", "a path that leads out of it, or is none")
    if stat.S_ISLNK(entry.external_attr >> 16) or entry.flag_bits & 0x1:
        raise Refused("archive", "a link or an encrypted entry")
    if _MACROS.search(name):
        raise Refused("active", "macros or embedded objects")
    extensions = {extension.strip() for extension in name.rpartition("/")[2].lower().split(".")[1:]}
    if not RUNNING.isdisjoint(extensions - _OF_DOCUMENTS if is_document else extensions):
        raise Refused("executable", "a program or page in an archive")
    if not _ARCHIVE_NAMES.isdisjoint(extensions):
        raise Refused("archive", "an archive in an archive")


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> int:
    """Returns how many bytes the others may have."""
    with archive.open(entry) as content:
        head = content.read(BLOCK)
        if _ARCHIVES.match(head):
            raise Refused("archive", "an archive in an archive")
        if is_program(head):
            raise Refused("executable", "a program in an archive")
        block = head
        while block:
            left -= len(block)
            if left < 0:
                raise Refused("archive", "it unpacks to too much")
            block = content.read(BLOCK)
    return left


def _judge_document(folder: str, names: set[str]) -> None:
    if "[Content_Types].xml" not in names or not any(name.startswith(folder) for name in names):
        raise Refused("signature", "an archive, but no such document")
