"""multipart/form-data (RFC 7578) as browsers and HTTP libraries write it, read piece by piece and held whole nowhere.

What it stops: forms that two parsers could read in two ways. Nothing in front of the first part or behind the last, no
folded, doubled or unknown header in a part, no `filename*`, no escaped quote, no transfer encoding that changes bytes.
What it doesn't judge: what the parts hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.errors import BadRequest

MAX_HEAD = 4096  # bytes of a part's headers
_CONTENT_TYPE = re.compile(r"multipart/form-data[ \t]*;[ \t]*boundary=(?:\"([^\"]*)\"|([^\s;\"]*))", re.IGNORECASE)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=?]{1,70}", re.ASCII)  # RFC 2046 section 5.1.1, without the space
_FIELD = re.compile(r"([A-Za-z-]+):[ \t]*(.*)", re.ASCII)
_DISPOSITION = re.compile(r'form-data; ?name="([^"\\]*)"(?:; ?filename="([^"\\]*)")?', re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KNOWN = frozenset(("content-disposition", "content-type", "content-length", "content-transfer-encoding"))
_UNCHANGED = frozenset(("", "7bit", "8bit", "binary"))
# What the HTML standard has browsers escape in names, and nothing else.
_ESCAPES = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))


@dataclass(frozen=True, slots=True)
class Part:
    """The head of one. `filename` is None for a plain field; `media` is in small letters, without parameters."""

    name: str
    filename: str | None
    media: str


def boundary_of(content_type: str) -> bytes:
    """From a request's Content-Type. Raises BadRequest."""
    match = _CONTENT_TYPE.fullmatch(content_type.strip())
    boundary = (match[1] or match[2] or "") if match else ""
    if _BOUNDARY.fullmatch(boundary) is None:
        raise _broken("no boundary that is one")
    return boundary.encode()


class FormReader:
    """feed() gives what came: a Part, then its bytes in any number of pieces, then the next Part. finish() at the end.

    Both raise BadRequest.
    """

    def __init__(self, boundary: bytes, max_parts: int) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # the first delimiter has no line in front of it
        self._left = max_parts
        self._step = self._start
        self._is_over = False

    def feed(self, data: bytes) -> Sequence[Part | bytes]:
        self._buffer += data
        found: list[Part | bytes] = []
        while self._step(found):
            pass
        return found

    def finish(self) -> None:
        if not self._is_over:
            raise _broken("it ends before its last boundary")

    def _start(self, found: list[Part | bytes]) -> bool:
        have = self._buffer[: len(self._delimiter)]
        if not self._delimiter.startswith(have):
            raise _broken("something in front of the first boundary")
        if len(have) < len(self._delimiter):
            return False
        del self._buffer[: len(have)]
        self._step = self._between
        return True

    def _between(self, found: list[Part | bytes]) -> bool:
        if len(self._buffer) < 2:
            return False
        end = bytes(self._buffer[:2])
        del self._buffer[:2]
        if end == b"\r\n":
            self._step = self._head
        elif end == b"--":
            self._is_over = True
            self._step = self._behind
        else:
            raise _broken("a boundary that goes on")
        return True

    def _head(self, found: list[Part | bytes]) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD + 4:
                raise _broken(f"a part's headers are over {MAX_HEAD} bytes")
            return False
        if not self._left:
            raise _broken("too many parts")
        self._left -= 1
        found.append(_part(bytes(self._buffer[:end])))
        del self._buffer[: end + 4]
        self._step = self._body
        return True

    def _body(self, found: list[Part | bytes]) -> bool:
        at = self._buffer.find(self._delimiter)
        if at >= 0:
            self._give(found, at)
            del self._buffer[: len(self._delimiter)]
            self._step = self._between
            return True
        # What may be the beginning of a delimiter waits for more; that is less than a delimiter.
        self._give(found, max(0, len(self._buffer) - len(self._delimiter) + 1))
        return False

    def _behind(self, found: list[Part | bytes]) -> bool:
        if not b"\r\n".startswith(self._buffer):
            raise _broken("something behind the last boundary")
        return False

    def _give(self, found: list[Part | bytes], size: int) -> None:
        if size:
            found.append(bytes(self._buffer[:size]))
            del self._buffer[:size]


def _part(head: bytes) -> Part:
    try:
        lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        raise _broken("a part's headers are no UTF-8") from None
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None or _CONTROL.search(line):
            raise _broken("a line of a part's headers is not `name: value`")
        name = match[1].lower()
        if name in fields or name not in _KNOWN:
            raise _broken("a header of a part that is doubled or doesn't belong there")
        fields[name] = match[2].strip()
    if fields.get("content-transfer-encoding", "").lower() not in _UNCHANGED:
        raise _broken("a part in a transfer encoding (RFC 7578 section 4.7)")
    match = _DISPOSITION.fullmatch(fields.get("content-disposition", ""))
    if match is None:
        raise _broken('a part without Content-Disposition: form-data; name="…", or with more in it than a filename')
    media = fields.get("content-type", "").partition(";")[0].strip().lower()
    return Part(_unescaped(match[1]), None if match[2] is None else _unescaped(match[2]), media)


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text


def _broken(detail: str) -> BadRequest:
    return BadRequest(f"multipart: {detail}", public="The form could not be read.")
