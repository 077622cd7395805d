"""Forms and files as browsers, and as attackers, send them: all made here, byte by byte."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP

BOUNDARY = "----form7MA4YWxkTrZu0gW"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    head = "\r\n".join((f"Content-Disposition: form-data; {disposition}", *headers))
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"


def text(name: str, content: str) -> bytes:
    return part(f'name="{name}"', content.encode())


def file(content: bytes, name: str = "notes.txt", media: str = "text/plain", field: str = "files") -> bytes:
    return part(f'name="{field}"; filename="{name}"', content, f"Content-Type: {media}")


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def said(*files: bytes, message: str = "look at this") -> bytes:
    """A whole message with files."""
    return form(text("message", message), *files)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 1, height: int = 1) -> bytes:
    """One grey pixel, whatever it says; further chunks in front of its data."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"\0\x80"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def segment(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data


FRAME = segment(0xC0, b"\x08\0\x01\0\x01\x01\x01\x11\0")
SCAN = segment(0xDA, b"\x01\x01\0\0\x3f\0") + b"\x12\xff\0\x34\xff\xd0\x56"
JFIF = segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
EXIF = segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08 GPS 52.5200 N")


def jpeg(*segments: bytes, start: bytes = JFIF, behind: bytes = b"") -> bytes:
    """In the form of one: nothing decodes it here."""
    return b"\xff\xd8" + start + b"".join(segments) + FRAME + SCAN + b"\xff\xd9" + behind


def gif(*blocks: bytes, size: bytes = b"\x01\0\x01\0", behind: bytes = b"") -> bytes:
    image = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + b"".join(blocks) + image + b"\x3b" + behind


def pdf(inside: bytes = b"") -> bytes:
    return b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog " + inside + b" >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"


def archive(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as made:
        for name, content in entries.items():
            made.writestr(zipfile.ZipInfo(name), content, method)
    return data.getvalue()


def docx(**more: bytes) -> bytes:
    return archive({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w:document/>"} | more)


@dataclass(frozen=True)
class Sent:
    """One part of a form, as an upstream gets it."""

    name: str
    filename: str | None
    media: str
    content: bytes


def read(body: bytes, content_type: str) -> list[Sent]:
    """What the standard library's parser makes of a form."""
    document = b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    whole = BytesParser(policy=HTTP).parsebytes(document)
    parts = []
    for one in whole.iter_parts():
        disposition = one["content-disposition"].params
        content = one.get_payload(decode=True)
        assert isinstance(content, bytes)
        parts.append(Sent(disposition["name"], disposition.get("filename"), one.get_content_type(), content))
    return parts
