"""What kind of file something is: by its name, by what its sender says, and by its bytes, which have to agree.

Pure: `look(at, size)` gives bytes of the file. What it stops: files under a false flag, files that are two things at
once where that can be told (an archive, a page or a PDF in or behind another kind), scripts in PDFs that stand there
openly. What it doesn't: scripts in a PDF's compressed objects, and what breaks the program that opens a genuine file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from proxy.content.images import BLOCK, WALKERS, Look, Malformed, Piece

FileType = Literal[
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "application/pdf",
    "text/plain",
    "text/csv",
    "text/markdown",
    "application/json",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "application/zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
]
Reason = Literal[
    "name",  # it would do something where it is written to, or deceive who reads it
    "count",
    "empty",
    "extension",  # of no type that is allowed
    "declared",  # its sender says otherwise
    "signature",  # its bytes say otherwise
    "damaged",
    "polyglot",
    "active",
    "executable",
    "archive",
    "malware",
    "scanner",  # there is no verdict
]


@dataclass(frozen=True, slots=True)
class Kind:
    """`also`: what else browsers call it. `opening` matches at its first byte."""

    extensions: tuple[str, ...]
    opening: re.Pattern[bytes]
    also: tuple[str, ...] = ()
    is_text: bool = False
    folder: str = ""  # of an Office document, within its archive

    @property
    def is_archive(self) -> bool:
        return self.opening is _ZIP


def _opening(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


_ZIP = _opening(rb"PK\x03\x04")
_ANY = _opening(rb"")
_OFFICE = "application/vnd.openxmlformats-officedocument."
KINDS: dict[str, Kind] = {
    "image/png": Kind(("png",), _opening(rb"\x89PNG\r\n\x1a\n"), ("image/x-png",)),
    "image/jpeg": Kind(("jpg", "jpeg"), _opening(rb"\xff\xd8\xff"), ("image/jpg", "image/pjpeg")),
    "image/gif": Kind(("gif",), _opening(rb"GIF8[79]a")),
    "image/webp": Kind(("webp",), _opening(rb"RIFF.{4}WEBPVP8[ LX]")),
    "application/pdf": Kind(("pdf",), _opening(rb"%PDF-[12]\.\d")),
    "text/plain": Kind(("txt", "text", "log"), _ANY, is_text=True),
    "text/csv": Kind(("csv",), _ANY, ("application/vnd.ms-excel", "application/csv"), is_text=True),
    "text/markdown": Kind(("md", "markdown"), _ANY, ("text/x-markdown", "application/octet-stream"), is_text=True),
    "application/json": Kind(("json",), _opening(rb"(?:\xef\xbb\xbf)?\s*+[\[{]"), is_text=True),
    "audio/mpeg": Kind(("mp3",), _opening(rb"ID3[\x02-\x04]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]"), ("audio/mp3",)),
    "audio/ogg": Kind(("ogg", "oga", "opus"), _opening(rb"OggS\x00"), ("audio/opus", "application/ogg")),
    "audio/wav": Kind(("wav",), _opening(rb"RIFF.{4}WAVEfmt "), ("audio/x-wav", "audio/wave", "audio/vnd.wave")),
    "application/zip": Kind(("zip",), _ZIP, ("application/x-zip-compressed",)),
    _OFFICE + "wordprocessingml.document": Kind(("docx",), _ZIP, folder="word/"),
    _OFFICE + "spreadsheetml.sheet": Kind(("xlsx",), _ZIP, folder="xl/"),
    _OFFICE + "presentationml.presentation": Kind(("pptx",), _ZIP, folder="ppt/"),
}
assert KINDS.keys() == set(get_args(FileType))  # noqa: S101 - a type without its row would refuse everything

# What a computer runs, or a browser shows as a page, if it is only opened.
_RUNNING = """
ade adp apk app appimage appref-ms appx ashx asmx asp aspx bat bin cer cfm cgi chm class cmd com cpl csh desktop diagcab
dll dmg docm dotm elf exe gadget hlp hta htaccess htm html inf ins iqy iso jar jnlp js jse jsp jspx ksh library-ms lnk
mht mhtml mjs msc msi msix msp phar php php3 php4 php5 php7 php8 phps pht phtml pif pl pptm ps1 ps1xml psd1 psm1 py pyc
rb reg scf scr sct search-ms settingcontent-ms sh shtm shtml slk svg svgz swf sys url vb vbe vbs vhd vhdx wasm webloc ws
wsc wsf wsh xbap xht xhtm xhtml xla xlam xll xlsm xltm xml xsl xslt
"""
RUNNING = frozenset(_RUNNING.split())
_SITES = frozenset(("app", "com"))  # in front of another one, the end of a site's name: no system runs it there
_EXECUTABLE = re.compile(
    rb"MZ|\x7fELF|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe|\xca\xfe\xba\xbe|\x00asm|dex\n|#!|L\x00\x00\x00\x01\x14"
    rb"\x02|\xd0\xcf\x11\xe0|MSCF|!<arch>"
)
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?|<%|<!--|<!doctype|<(?:html|head|body|script|iframe|svg|style|title|table"
    rb"|div|img|a|h1|font|br|p|b)[\s>/])",
    re.IGNORECASE,
)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_PDF = b"%pdf-1."
# In small letters. Long enough not to stand in compressed data by chance.
_FOREIGN = (
    *(b"<script", b"<?php", b"<!doctype html", b"<html", b"<iframe"),
    *(b"rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", _PDF),
)
HEAD = 2048  # bytes by which a file's kind is told; browsers look at 1445 (WHATWG MIME Sniffing, section 7)
_OVERLAP = 64  # bytes, more than any of these, and than a name of a PDF with all its letters escaped
_END_OF_ZIP = b"PK\x05\x06"
_LONGEST_ZIP_TAIL = 65_557  # a comment of 65,535 bytes and what stands in front of it


def _name_in_pdf(name: str) -> bytes:
    """A name, any letter of which may be written as #xx (ISO 32000-1 section 7.3.5)."""
    return b"".join(b"(?:%c|#%02x|#%02X)" % (ord(letter), ord(letter), ord(letter)) for letter in name)


_ACTIVE_PDF = re.compile(b"/(?:" + b"|".join(map(_name_in_pdf, ("JavaScript", "Launch", "RichMedia", "XFA"))) + b")")


class Refused(ValueError):
    """`reason` is what counts and logs say; the text has nothing of the file in it."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


def kind_of_name(name: str) -> str:
    """The type that a cleaned name's extension stands for. Raises Refused."""
    extensions = extensions_of(name)
    if running(extensions):
        raise Refused("executable", "an extension that programs or pages have")
    for media, kind in KINDS.items():
        if extensions and extensions[-1] in kind.extensions:
            return media
    raise Refused("extension", "an extension of no known type")


def extensions_of(name: str) -> list[str]:
    """What stands behind the dots of a name, as systems take it: without blanks, what can't be seen, and a stream's
    name behind a colon."""
    shown = "".join(character for character in name.lower() if unicodedata.category(character) != "Cf")
    return [extension.partition(":")[0].strip() for extension in shown.rstrip(" .").split(".")[1:]]


def running(extensions: Sequence[str]) -> frozenset[str]:
    """Which of them programs or pages have."""
    inner = RUNNING.intersection(extensions[:-1]) - _SITES
    return inner | RUNNING.intersection(extensions[-1:])


def is_program(head: bytes) -> bool:
    """Does it begin like something that a computer runs?"""
    return _EXECUTABLE.match(head) is not None


def judge(media: str, declared: str, look: Look, size: int) -> list[Piece]:
    """Is it what its name says: does its sender say so, and do its bytes? Its pieces, where it is a picture.

    Archives are opened elsewhere. Raises Refused.
    """
    kind = KINDS[media]
    if declared != media and declared not in kind.also:
        raise Refused("declared", "its sender calls it something else")
    if not size:
        raise Refused("empty", "nothing in it")
    head = look(0, HEAD)
    if not kind.opening.match(head):
        raise Refused("executable" if is_program(head) else "signature", "it doesn't begin like one")
    if kind.is_text:
        _judge_text(head, look, size)
        return []
    if kind.is_archive:
        return []
    try:
        pieces = WALKERS[media](look, size) if media in WALKERS else []
    except Malformed as malformed:
        raise Refused("damaged", str(malformed)) from None
    _judge_rest(media, look, size)
    return pieces


def _judge_text(head: bytes, look: Look, size: int) -> None:
    if head.startswith(b"#!"):
        raise Refused("executable", "a script")
    if _PAGE.match(head):
        raise Refused("active", "a page")
    if any(kind.opening.match(head) for kind in KINDS.values() if not kind.is_text):
        raise Refused("signature", "no text")
    for at in range(0, size, BLOCK):
        if _CONTROL.search(look(at, BLOCK)):
            raise Refused("signature", "control characters, which text has none of")


def _judge_rest(media: str, look: Look, size: int) -> None:
    """Is it anything else besides?"""
    is_pdf = media == "application/pdf"
    tail = max(0, size - _LONGEST_ZIP_TAIL)
    if _END_OF_ZIP in look(tail, size - tail):
        raise Refused("polyglot", "an archive, too")
    if is_pdf and b"%%EOF" not in look(max(0, size - 2048), 2048):
        raise Refused("damaged", "a PDF without an end")
    if look(4, 2) == b"/*":  # a length, in JPEG and RIFF, that opens a comment in JavaScript
        raise Refused("polyglot", "a script, too")
    foreign = [each for each in _FOREIGN if not (is_pdf and each == _PDF)]
    for at in range(0, size, BLOCK):
        block = look(at, BLOCK + _OVERLAP)
        if is_pdf and _ACTIVE_PDF.search(block):
            raise Refused("active", "a PDF that runs something")
        small = block.lower()
        if any(each in small for each in foreign):
            raise Refused("polyglot", "something else, too")
