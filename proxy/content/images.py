"""How pictures are put together, piece by piece: where each piece stands, and which of them are no part of the picture.

Pure: `look(at, size)` gives bytes of the file. What it stops: files that only begin like a picture, and what is hung
behind one. What it doesn't: it decodes nothing, so a decoder may still refuse, or choke on, what passes here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Look = Callable[[int, int], bytes]

MAX_PIECES = 20_000
MAX_BLOCKS = 200_000  # of at most 255 bytes, in a GIF
MAX_PIXELS = 200_000_000  # as large as phones make them; a decoder needs up to four bytes for each
BLOCK = 65_536
# PNG (W3C, third edition): what decides how it looks. The rest is text, time, EXIF, or nobody knows what.
_PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP cICP sBIT bKGD hIST pHYs sPLT acTL fcTL fdAT".split()
)
# JPEG (ITU-T T.81 annex B): after these a length follows; APP0 is JFIF, APP14 Adobe's colours.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_JPEG_FRAMES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
_ICC = b"ICC_PROFILE\0"


class Malformed(ValueError):
    """It isn't put together like that. The text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes from `start` up to `end`."""

    start: int
    end: int
    is_picture: bool = True  # without it, the picture would look different


def png(look: Look, size: int) -> list[Piece]:
    """All of it, the signature first. Raises Malformed."""
    pieces, at = [Piece(0, 8)], 8
    while at < size:
        head = look(at, 8)
        end = at + 12 + int.from_bytes(head[:4], "big")
        kind = head[4:8]
        if len(head) < 8 or not kind.isalpha() or end > size or len(pieces) > MAX_PIECES:
            raise Malformed("a PNG chunk that isn't one")
        if (kind == b"IHDR") != (at == 8):
            raise Malformed("a PNG that doesn't begin with its one header")
        if kind == b"IHDR":
            size_of = look(at + 8, 8)
            _bounded(int.from_bytes(size_of[:4], "big"), int.from_bytes(size_of[4:], "big"))
        pieces.append(Piece(at, end, kind in _PNG_KEPT))
        at = end
        if kind == b"IEND":
            break
    else:
        raise Malformed("a PNG without an end")
    if at != size:
        raise Malformed("something behind the end of a PNG")
    return pieces


def jpeg(look: Look, size: int) -> list[Piece]:
    """All of it; what stands behind its end (phones hang previews and depth maps there) is the last piece."""
    pieces, at, has_frame = [Piece(0, 2)], 2, False
    while True:
        marker = look(at, 4)
        if len(marker) < 2 or marker[0] != 0xFF or len(pieces) > MAX_PIECES:
            raise Malformed("a JPEG segment that isn't one")
        kind = marker[1]
        if kind == 0xFF:  # fill
            pieces.append(Piece(at, at + 1, is_picture=False))
            at += 1
            continue
        if kind == 0xD9:
            break
        end = at + 2 + int.from_bytes(marker[2:4], "big")
        if kind in (0x00, 0x01, 0xD8) or 0xD0 <= kind <= 0xD7 or end < at + 4 or end > size:
            raise Malformed("a JPEG segment that isn't one")
        if kind in _JPEG_FRAMES:
            size_of, has_frame = look(at + 5, 4), True
            _bounded(int.from_bytes(size_of[2:], "big"), int.from_bytes(size_of[:2], "big"))
        if kind == 0xDA:
            if not has_frame:
                raise Malformed("a JPEG scan without a frame")
            end = _end_of_scan(look, end, size)
        is_picture = not (0xE1 <= kind <= 0xEF or kind == 0xFE) or kind == 0xEE
        pieces.append(Piece(at, end, is_picture or (kind == 0xE2 and look(at + 4, len(_ICC)) == _ICC)))
        at = end
    if not has_frame:
        raise Malformed("a JPEG without a frame")
    pieces.append(Piece(at, at + 2))
    return [*pieces, Piece(at + 2, size, is_picture=False)] if at + 2 < size else pieces


def _end_of_scan(look: Look, at: int, size: int) -> int:
    while at < size:
        block = look(at, BLOCK)
        if (match := _JPEG_MARKER.search(block)) is not None:
            return at + match.start()
        at += max(1, len(block) - 1)  # its last byte may be the first of a marker
    raise Malformed("a JPEG without an end")


def gif(look: Look, size: int) -> list[Piece]:
    """All of it. Comments and what applications add are no picture, but for how often it is repeated."""
    head = look(0, 13)
    if len(head) < 13 or head[6:8] == b"/*":  # a width that opens a comment in JavaScript
        raise Malformed("a GIF header that isn't one")
    _bounded(int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))
    at, left = 13 + _colours(head[10]), MAX_BLOCKS
    pieces = [Piece(0, at)]
    while True:
        block = look(at, 19)
        if not block or len(pieces) > MAX_PIECES:
            raise Malformed("a GIF without an end")
        if block[0] == 0x3B:
            break
        start, is_picture = at, True
        if block[0] == 0x2C and len(block) > 9:
            at += 11 + _colours(block[9])  # descriptor, colours, and the code size in front of the data
        elif block[0] == 0x21 and len(block) > 1:
            is_picture = block[1] == 0xF9 or (block[1] == 0xFF and block[3:14] == b"NETSCAPE2.0")
            at += 2
        else:
            raise Malformed("a GIF block that isn't one")
        at, left = _end_of_blocks(look, at, left)
        pieces.append(Piece(start, at, is_picture))
    if at + 1 != size:
        raise Malformed("something behind the end of a GIF")
    return [*pieces, Piece(at, size)]


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_blocks(look: Look, at: int, left: int) -> tuple[int, int]:
    while left and (length := look(at, 1)):
        at, left = at + 1 + length[0], left - 1
        if not length[0]:
            return at, left
    raise Malformed("a GIF without an end, or of too many blocks")


def webp(look: Look, size: int) -> list[Piece]:
    """All of it as one: a RIFF file that ends where it says."""
    if int.from_bytes(look(4, 4), "little") + 8 != size:
        raise Malformed("a WebP that is shorter or longer than it says")
    return [Piece(0, size)]


def _bounded(width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise Malformed(f"a picture of no size, or of more than {MAX_PIXELS} pixels")


WALKERS: dict[str, Callable[[Look, int], list[Piece]]] = {
    "image/png": png,
    "image/jpeg": jpeg,
    "image/gif": gif,
    "image/webp": webp,
}
