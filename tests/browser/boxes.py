"""A font whose letters are boxes, all alike: with it a page looks the same wherever it is drawn, whatever is installed.

One TrueType file (https://learn.microsoft.com/typography/opentype/spec/), made here: each table is one expression.
"""

from __future__ import annotations

import base64
import struct

from playwright.async_api import Page

EM = 1000  # units
ASCENT, DESCENT = 800, -200
ADVANCE = 500
BOX = (60, 0, 440, 500)  # left, bottom, right, top; a space has none
NAME = "Boxes"


# Bold and italic are boxes like any. Precise geometry: no hinting, whatever the machine is set to.
STYLE = (
    f"*, *::before, *::after, *::placeholder {{ font-family: {NAME} !important; font-synthesis: none !important; "
    "letter-spacing: 0 !important; text-rendering: geometricPrecision !important; }"
)
# A face from bytes and a constructed sheet need nothing of a page's policy. Shadow roots that are open get it, too.
DRESS = """async ([name, font, style]) => {
  const face = new FontFace(name, Uint8Array.from(atob(font), (c) => c.charCodeAt(0)).buffer);
  document.fonts.add(await face.load());
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(style);
  const roots = [document, ...[...document.querySelectorAll('*')].map((node) => node.shadowRoot).filter(Boolean)];
  for (const root of roots) root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
}"""


async def dress(page: Page) -> None:
    """Set every text of the page in it, also what comes later."""
    await page.evaluate(DRESS, [NAME, base64.b64encode(file()).decode(), STYLE])


def file() -> bytes:
    tables = {
        b"OS/2": _os2(),
        b"cmap": _cmap(),
        b"glyf": _box(),
        b"head": struct.pack(
            ">IIIIHHqqhhhhHHhhh",
            *(0x00010000, 0x00010000, 0, 0x5F0F3CF5, 0x000B, EM, 0, 0),
            *(*BOX, 0, 8, 2, 0, 0),
        ),
        b"hhea": struct.pack(
            ">IhhhHhhhhhhhhhhhH",
            *(0x00010000, ASCENT, DESCENT, 0, ADVANCE, BOX[0], ADVANCE - BOX[2], BOX[2], 1, *[0] * 7, 3),
        ),
        b"hmtx": struct.pack(">" + "Hh" * 3, *(ADVANCE, BOX[0]), *(ADVANCE, 0), *(ADVANCE, BOX[0])),
        b"loca": struct.pack(">4H", 0, len(_box()) // 2, len(_box()) // 2, len(_box())),
        b"maxp": struct.pack(">I14H", 0x00010000, 3, 4, 1, 0, 0, 1, *[0] * 8),
        b"name": _name(),
        b"post": struct.pack(">IIhhIIIII", 0x00030000, 0, -100, 50, 1, *[0] * 4),
    }
    tables[b"glyf"] *= 2  # glyph 0, what has none, and glyph 2, every letter; glyph 1 is the space
    head, body = struct.pack(">IHHHH", 0x00010000, len(tables), 128, 3, len(tables) * 16 - 128), b""
    at = 12 + 16 * len(tables)
    for tag, table in tables.items():
        padded = table + b"\0" * (-len(table) % 4)
        total = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        head += struct.pack(">4sIII", tag, total, at + len(body), len(table))
        body += padded
    return head + body


def _box() -> bytes:
    """Four points, clockwise, all on the curve; in bytes, an even number of them."""
    left, bottom, right, top = BOX
    head = struct.pack(">hhhhhHH", 1, *BOX, 3, 0)
    points = struct.pack(">4B8h", *[1] * 4, *(left, 0, right - left, 0), *(bottom, top - bottom, 0, bottom - top))
    return head + points


def _cmap() -> bytes:
    """Format 13, made for fonts that have the same glyph for many characters."""
    groups = [(0x20, 0x20, 1), (0x21, 0x9F, 2), (0xA0, 0xA0, 1), (0xA1, 0x10FFFF, 2)]
    table = struct.pack(">HHIII", 13, 0, 16 + 12 * len(groups), 0, len(groups))
    table += b"".join(struct.pack(">III", *group) for group in groups)
    return struct.pack(">HHHHI", 0, 1, 3, 10, 12) + table


def _os2() -> bytes:
    return struct.pack(
        ">HhHHH11h10s4I4sHHHhhhHHIIhhHHH",
        *(4, ADVANCE, 400, 5, 0, *[500] * 10, 0, bytes(10), 1, 0, 0, 0, b"NONE", 0x40, 0x20, 0xFFFF),
        *(ASCENT, DESCENT, 0, ASCENT, -DESCENT, 1, 0, BOX[3], BOX[3], 0, 0x20, 1),
    )


def _name() -> bytes:
    text = NAME.encode("utf-16-be")
    records = b"".join(struct.pack(">6H", 3, 1, 0x409, which, len(text), 0) for which in (1, 2, 4, 6))
    return struct.pack(">HHH", 0, 4, 6 + len(records)) + records + text
