"""Uploads that a guard has to refuse, each a whole message, and the refusal that it gets: made here, byte by byte."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

from tests import forms
from tests.forms import archive, file, form, gif, jpeg, part, pdf, png, said, text

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def _odd_zip(change: Callable[[zipfile.ZipFile], None]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as made:
        change(made)
    return data.getvalue()


def _link() -> bytes:
    entry = zipfile.ZipInfo("notes.txt")
    entry.external_attr = 0o120777 << 16
    return _odd_zip(lambda made: made.writestr(entry, "/etc/passwd"))


def _small(content: bytes) -> bytes:
    """Says of itself that it unpacks to ten bytes, and has their checksum."""
    made, shown = archive({"a.txt": content}), content[:10]
    for real, said_ in ((len(content), 10), (zlib.crc32(content), zlib.crc32(shown))):
        made = made.replace(struct.pack("<I", real), struct.pack("<I", said_))
    return made


def _lacking() -> bytes:
    """A directory of the first entry alone: what reads from the start finds the other one, too."""
    made = archive({"a.txt": b"x", "b.exe": PE})
    at, second = made.index(b"PK\1\2"), made.rindex(b"PK\1\2")
    return made[:second] + b"PK\5\6" + struct.pack("<4HIIH", 0, 0, 1, 1, second - at, at, 0)


def _zip(content: bytes) -> bytes:
    return file(content, "a.zip", "application/zip")


def _png(content: bytes, name: str = "a.png") -> bytes:
    return file(content, name, "image/png")


def _doc(content: bytes) -> bytes:
    return file(content, "a.docx", DOCX)


REJECTED, BAD, LARGE = (422, "upload_rejected"), (400, "bad_request"), (413, "too_large")
PE = b"MZ\x90\0\x03\0\0\0" + bytes(60)

HOSTILE: dict[str, tuple[bytes, tuple[int, str]]] = {
    # Names.
    "a program": (said(file(PE, "setup.exe", "application/octet-stream")), REJECTED),
    "a double extension": (said(_png(png(), "invoice.png.exe")), REJECTED),
    "a program's extension inside": (said(_png(png(), "shell.php.png")), REJECTED),
    "a NUL in the name": (said(_png(png(), "a.php\0.png")), BAD),
    "an escaped line end in the name": (said(_png(png(), "a%0D%0AX-Evil: 1.png")), REJECTED),
    "a turn of direction in the name": (said(_png(png(), "a\u202egnp.exe.png")), REJECTED),
    "a name that is only an extension": (said(_png(png(), ".png")), REJECTED),
    "a name without extension": (said(file(b"x", "README")), REJECTED),
    "no name": (said(file(b"x", "")), REJECTED),
    "an alternate stream": (said(_png(png(), "a.png::$DATA")), REJECTED),
    "an escaped quote in the name": (said(_png(png(), 'a\\".exe')), BAD),
    "filename*": (said(part("name=\"files\"; filename*=UTF-8''a.exe", b"x", "Content-Type: text/plain")), BAD),
    "filename and filename*": (
        said(part("name=\"files\"; filename=\"a.txt\"; filename*=UTF-8''a.exe", b"x", "Content-Type: text/plain")),
        BAD,
    ),
    "two filenames": (said(part('name="files"; filename="a.txt"; filename="a.exe"', b"x")), BAD),
    "a name that is no UTF-8": (
        said(file(b"x")).replace(b"notes.txt", b"\xff\xfe.txt"),
        BAD,
    ),
    # Types.
    "a program called a picture": (said(_png(PE)), REJECTED),
    "a page called a picture": (said(_png(b"<html><script>alert(1)</script>")), REJECTED),
    "a page called text": (said(file(b" <!DOCTYPE html><script>alert(1)</script>")), REJECTED),
    "a shell script called text": (said(file(b"#!/bin/sh\nrm -rf /\n")), REJECTED),
    "bytes called text": (said(file(bytes(range(256)))), REJECTED),
    "an SVG with a script": (
        said(file(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "a.svg", "image/svg+xml")),
        REJECTED,
    ),
    "an SVG called a PNG": (said(_png(b"<svg><script>alert(1)</script></svg>")), REJECTED),
    "another type declared": (said(file(png(), "a.png", "text/html")), REJECTED),
    "no type declared": (said(part('name="files"; filename="a.png"', png())), REJECTED),
    "a type that isn't allowed": (said(file(b"OggS\0" + bytes(40), "a.ogg", "audio/ogg")), REJECTED),
    "an empty file": (said(file(b"")), REJECTED),
    # Pictures and documents that are more than they say.
    "a PNG and an archive": (said(_png(png() + archive({"a.txt": b"x"}))), REJECTED),
    "a JPEG and an archive": (
        said(file(jpeg(behind=archive({"a.txt": b"x"})), "a.jpg", "image/jpeg")),
        REJECTED,
    ),
    "a GIF that is JavaScript": (
        said(file(gif(size=b"/*\x01\0", behind=b"*/=1;alert(1)"), "a.gif", "image/gif")),
        REJECTED,
    ),
    "a GIF with something behind it": (said(file(gif(behind=b";alert(1)"), "a.gif", "image/gif")), REJECTED),
    "a JPEG that is JavaScript": (
        said(file(jpeg(forms.segment(0xE0, b"*/=1;alert(1)/*".ljust(0x2F28)), start=b""), "a.jpg", "image/jpeg")),
        REJECTED,
    ),
    "PHP in a PDF": (said(file(pdf(b"<?php system($_GET[0]);"), "a.pdf", "application/pdf")), REJECTED),
    "PHP called text": (said(file(b"<?= system($_GET[0]) ?>")), REJECTED),
    "PHP in a JPEG's comment": (
        said(file(jpeg(forms.segment(0xFE, b"<?php system($_GET[0]);")), "a.jpg", "image/jpeg")),
        REJECTED,
    ),
    "a page in a PNG's text": (said(_png(png(forms.png_chunk(b"tEXt", b"a\0<ScRipt>alert(1)")))), REJECTED),
    "a PNG of 40,000 by 40,000": (said(_png(png(width=40_000, height=40_000))), REJECTED),
    "a PNG cut short": (said(_png(png()[:-20])), REJECTED),
    "a PDF and an archive": (said(file(pdf() + archive({"a": b"x"}), "a.pdf", "application/pdf")), REJECTED),
    "a PDF behind something else": (said(file(b"GIF89a" + pdf(), "a.pdf", "application/pdf")), REJECTED),
    "a PDF with JavaScript": (
        said(file(pdf(b"/OpenAction << /S /JavaScript /JS (app.alert(1)) >>"), "a.pdf", "application/pdf")),
        REJECTED,
    ),
    "a PDF with JavaScript, escaped": (
        said(file(pdf(b"/OpenAction << /S /J#61vaScr#69pt >>"), "a.pdf", "application/pdf")),
        REJECTED,
    ),
    # Archives.
    "a zip bomb": (said(_zip(archive({"a.txt": bytes(30_000_000)}))), REJECTED),
    "a zip bomb that says it is small": (said(_zip(_small(bytes(30_000_000)))), REJECTED),
    "an entry that the directory lacks": (said(_zip(_lacking())), REJECTED),
    "a bomb of many entries": (said(_zip(archive({f"{n}.txt": b"" for n in range(1001)}))), REJECTED),
    "an archive in an archive": (said(_zip(archive({"a.txt": archive({"b.txt": b"x"})}))), REJECTED),
    "a path that climbs out": (said(_zip(archive({"../../etc/cron.d/x": b"x"}))), REJECTED),
    "an absolute path": (said(_zip(archive({"/etc/passwd": b"x"}))), REJECTED),
    "a link": (said(_zip(_link())), REJECTED),
    "a program in an archive": (said(_zip(archive({"a.txt": PE}))), REJECTED),
    "a script in an archive": (said(_zip(archive({"run.js": b"x"}))), REJECTED),
    "an archive with something behind it": (said(_zip(archive({"a.txt": b"x"}) + b"<?php")), REJECTED),
    "an archive with something in front": (said(_zip(b"PK\3\4" + archive({"a.txt": b"x"}))), REJECTED),
    "an archive called a document": (said(_doc(archive({"a.txt": b"x"}))), REJECTED),
    "a document with macros": (said(_doc(forms.docx(**{"word/vbaProject.bin": b"x"}))), REJECTED),
    # The form itself.
    "text in front": (b"hello\r\n" + said(file(b"x")), BAD),
    "text behind": (said(file(b"x")) + b"hello", BAD),
    "no last boundary": (said(file(b"x"))[:-4], BAD),
    "a header of 1 MB": (said(part('name="files"; filename="a.txt"', b"x", "Content-Type: " + "a" * 1_000_000)), BAD),
    "an unknown header": (said(part('name="files"; filename="a.txt"', b"x", "X-Filepath: /etc/passwd")), BAD),
    "a doubled header": (
        said(part('name="files"; filename="a.txt"', b"x", "Content-Type: text/plain", "content-type: text/html")),
        BAD,
    ),
    "a folded header": (said(part('name="files";\r\n filename="a.txt"', b"x")), BAD),
    "a bare line feed in a header": (said(part('name="files"; filename="a.txt"\nX: y', b"x")), BAD),
    "base64": (said(part('name="files"; filename="a.txt"', b"eA==", "Content-Transfer-Encoding: base64")), BAD),
    "a nested form": (
        said(part('name="files"; filename="a.txt"', form(file(b"x")).replace(b"----form", b"----in"),
                  "Content-Type: multipart/mixed; boundary=in")),
        REJECTED,
    ),
    "the same field twice": (form(text("message", "a"), text("message", "b")), BAD),
    "a text called files": (form(text("message", "a"), text("files", '{"filepath": "/etc/passwd"}')), BAD),
    "a file elsewhere": (said(file(b"x", field="message2")), BAD),
    "a hundred thousand parts": (form(*[text(str(n), "") for n in range(100_000)]), BAD),
    "six files": (said(*[file(b"x")] * 6), LARGE),
    "a text of 100 KB": (form(text("message", "a" * 100_000)), LARGE),
    "files over max_bytes": (said(file(b"x" * 10_000_000), file(b"x" * 600_000)), LARGE),
    "no message": (form(file(b"x")), BAD),
    "context that is no JSON": (form(text("message", "a"), text("context", "{")), BAD),
    "context that poses as an upload": (
        form(text("message", "a"), text("context", '{"files": {"a": {"filepath": "/etc/passwd"}}}')),
        BAD,
    ),
    "a message that is no UTF-8": (form(part('name="message"', b"\xff")), BAD),
    "an attack in the message": (
        said(file(b"x"), message="<script>alert(document.cookie)</script>"),
        (422, "content_blocked"),
    ),
}  # fmt: skip
