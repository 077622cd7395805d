"""Letters that are read as other letters. What it doesn't have: every confusable of Unicode, only those that are used
to write Latin words with (a choice from UTS 39's table, and the styled alphabets that NFKC leaves alone).
"""

from __future__ import annotations

from collections.abc import Iterator


def _pairs(letters: str, stand_for: str) -> Iterator[tuple[str, str]]:
    return zip(letters, stand_for, strict=True)


# Read as these wherever they stand.
FORMS: dict[str, str] = {
    **dict(_pairs("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz")),
    **dict(_pairs("ɐǝɟɥıɯɹʇʌʍʎɑɡɩ", "aefhimrtvwyagi")),
    **{chr(0x1F130 + index): chr(0x41 + index) for index in range(26)},  # squared
    **{chr(0x1F150 + index): chr(0x41 + index) for index in range(26)},  # circled, negative
    **{chr(0x1F170 + index): chr(0x41 + index) for index in range(26)},  # squared, negative
    **{chr(0x1F1E6 + index): chr(0x41 + index) for index in range(26)},  # regional indicators
    **dict.fromkeys("‘’‚‛ʹʻʼʽˈ′‵ꞌ", "'"),
    **dict.fromkeys("“”„‟″‶", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("∕⁄⧸╱", "/"),
    **dict.fromkeys("∖⧵", "\\"),
    "∶": ":",
    "‹": "<",
    "›": ">",
}  # fmt: skip

# Read as these inside a word of Latin letters.
HOMOGLYPHS: dict[str, str] = {
    **dict(_pairs("авекмнорстухѕіјһԁԛԝӏѵьгпц", "abekmhopctyxsijhdqwlvbrnu")),
    **dict(_pairs("АВЕКМНОРСТУХЅІЈԌԚԜҺЬ", "ABEKMHOPCTYXSIJGQWHb")),
    **dict(_pairs("αβγεικνορτυχωϲϳ", "abyeikvoptuxwcj")),
    **dict(_pairs("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX")),
    **dict(_pairs("օսհոցքԼՏ", "ouhngpLS")),
}  # fmt: skip
