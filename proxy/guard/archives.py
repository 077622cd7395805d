"""Archives that come with a message: zip files, and Office documents, which are zip files too.

What it stops: bombs (size, ratio, number, entries over one another), paths that climb out, links, encrypted entries,
archives in archives, programs, macros and embedded objects, and what only some programs would find there: a second
directory, other names, entries that the directory lacks. Each entry is unpacked once, to nowhere: what an archive says
of itself is not believed. What it doesn't: it judges no picture or PDF within an archive; clamd opens those.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from proxy.content.filetypes import KINDS, Refused, extensions_of, is_program, running

MAX_ENTRIES = 1000
MAX_DIRECTORY = 1_048_576  # bytes
MAX_UNPACKED = 104_857_600  # bytes of all entries
MAX_RATIO = 100
FREE = 1_048_576  # bytes that may be unpacked whatever the ratio: small texts shrink a lot
BLOCK = 65_536
HEAD = 512  # bytes of an entry by which programs and archives are told
_END = struct.Struct("<4s4H2LH")  # APPNOTE.TXT section 4.3.16
_ZIP64 = struct.Struct("<4s16x")  # section 4.3.15: where another directory is, in front of the end
_LOCAL = struct.Struct("<4s2x2H4x3L2H")  # section 4.3.7: in front of each entry
_LEVEL, _SIZES_BEHIND, _UTF_8 = 0x6, 0x8, 0x800  # flags, section 4.4.4
_LONGEST_DESCRIPTOR = 24  # bytes: the sizes, where they stand behind an entry (section 4.3.9)
_OTHER_NAME = 0x7075  # section 4.6.9
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
            left = min(MAX_UNPACKED, max(FREE, size * MAX_RATIO))
            end = spare = 0
            for entry in sorted(entries, key=lambda each: each.header_offset):
                if not 0 <= entry.header_offset - end <= spare:
                    raise Refused("archive", "entries that lie over one another, or something between them")
                _judge_names(entry, entry.orig_filename, entry.extra, is_document=bool(KINDS[media].folder))
                start, spare = _start(data, entry, is_document=bool(KINDS[media].folder))
                left = _unpacked(data, entry, start, left)
                end = start + entry.compress_size
            if not 0 <= archive.start_dir - end <= spare:
                raise Refused("archive", "something in front of its directory")
            if KINDS[media].folder:
                _judge_document(KINDS[media].folder, {entry.filename for entry in entries})
    except Refused:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, OSError, ValueError) as error:
        raise Refused("archive", f"it can't be unpacked: {type(error).__name__}") from None


def _judge_end(data: BinaryIO, size: int) -> None:
    """The end is read first, before a library makes objects of a directory of any size."""
    data.seek(max(0, size - _END.size - _ZIP64.size))
    before, tail = data.read(min(_ZIP64.size, max(0, size - _END.size))), data.read(_END.size)
    if len(tail) < _END.size or tail[:4] != b"PK\x05\x06":
        raise Refused("archive", "something behind its end")
    if before.startswith(b"PK\x06\x07"):
        raise Refused("archive", "two directories")
    _, disk, first_disk, here, total, length, at, comment = _END.unpack(tail)
    if disk or first_disk or comment or here != total or total > MAX_ENTRIES or length > MAX_DIRECTORY:
        raise Refused("archive", "in volumes, or with too large a directory")
    if at + length + _END.size != size:
        raise Refused("archive", "something in front of its directory or behind it")


def _judge_names(entry: zipfile.ZipInfo, name: str, extra: bytes, *, is_document: bool) -> None:
    """`extra`: of the entry, or of its place in the directory. Programs don't agree on which of its names counts."""
    if stat.S_ISLNK(entry.external_attr >> 16) or entry.flag_bits & 0x1:
        raise Refused("archive", "a link or an encrypted entry")
    for each in (name, *_other_names(extra)):
        if _CLIMBING.search(each) or len(each) > 255:
            raise Refused("archive", "a path that leads out of it, or is none")
        if _MACROS.search(each):
            raise Refused("active", "macros or embedded objects")
        extensions = extensions_of(each.rpartition("/")[2])
        if running(extensions) - (_OF_DOCUMENTS if is_document else frozenset()):
            raise Refused("executable", "a program or page in an archive")
        if not _ARCHIVE_NAMES.isdisjoint(extensions):
            raise Refused("archive", "an archive in an archive")


def _other_names(extra: bytes) -> Iterator[str]:
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == _OTHER_NAME:
            yield extra[9 : 4 + size].decode()
        extra = extra[4 + size :]


def _start(data: BinaryIO, entry: zipfile.ZipInfo, *, is_document: bool) -> tuple[int, int]:
    """Where its content starts, and how many bytes may follow behind it. In front of it stands what the directory says
    too: some programs read the one, some the other.
    """
    data.seek(entry.header_offset)
    mark, flags, method, crc, packed, size, name_length, extra_length = _LOCAL.unpack(data.read(_LOCAL.size))
    name = data.read(name_length).decode("utf-8" if flags & _UTF_8 else "cp437")
    _judge_names(entry, name, data.read(extra_length), is_document=is_document)
    has_sizes_behind = bool(flags & _SIZES_BEHIND)
    if (
        mark != b"PK\x03\x04"
        or (flags ^ entry.flag_bits) & ~(_LEVEL | _SIZES_BEHIND)
        or (method, name) != (entry.compress_type, entry.orig_filename)
        or not (has_sizes_behind or (crc, packed, size) == (entry.CRC, entry.compress_size, entry.file_size))
    ):
        raise Refused("archive", "an entry that says something else than the directory")
    return data.tell(), _LONGEST_DESCRIPTOR if has_sizes_behind else 0


def _unpacked(data: BinaryIO, entry: zipfile.ZipInfo, start: int, left: int) -> int:
    """Returns how many bytes the others may have."""
    crc, size, head = 0, 0, b""
    for block in _blocks(data, entry, start):
        head += block[: HEAD - len(head)]
        crc = zlib.crc32(block, crc)
        size += len(block)
        if size > left:
            raise Refused("archive", "it unpacks to too much")
    if (crc, size) != (entry.CRC, entry.file_size):
        raise Refused("archive", "an entry that is another than it says")
    _judge_head(head)
    return left - size


def _judge_head(head: bytes) -> None:
    if _ARCHIVES.match(head) or head[257:262] == b"ustar":
        raise Refused("archive", "an archive in an archive")
    if is_program(head):
        raise Refused("executable", "a program in an archive")


def _blocks(data: BinaryIO, entry: zipfile.ZipInfo, start: int) -> Iterator[bytes]:
    """Its content, unpacked to its end, whatever size it says it has: zipfile stops there. Only the methods that
    everybody reads.
    """
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused("archive", "a method that few programs know")
    data.seek(start)
    left = entry.compress_size
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    while left:
        packed = data.read(min(BLOCK, left))
        if not packed:
            raise Refused("archive", "an entry that is cut")
        left -= len(packed)
        if entry.compress_type == zipfile.ZIP_STORED:
            yield packed
            continue
        while packed and not inflate.eof:
            yield inflate.decompress(packed, BLOCK)
            packed = inflate.unconsumed_tail
        if inflate.unused_data:
            raise Refused("archive", "something behind an entry's content")
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        yield inflate.flush()  # a few bytes at most: all that was read has gone through it
        if not inflate.eof:
            raise Refused("archive", "an entry that is cut")


def _judge_document(folder: str, names: set[str]) -> None:
    if "[Content_Types].xml" not in names or not any(name.startswith(folder) for name in names):
        raise Refused("signature", "an archive, but no such document")
