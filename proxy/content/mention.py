"""Whether a stretch of a message is only told of: quoted behind a word such as `explain`, `phrase` or `detect`, or said
by somebody in a story.

People ask what an attack means, paste their filter's tests and write novels about machines. What is told of counts for
half, so a plain phrase passes, and one that several signs speak against doesn't. Whoever knows this can use it.
"""

from __future__ import annotations

import re

LONGEST = 300  # characters of a quotation
BEFORE = 80  # and between it and the word

_TOLD_OF = (
    re.compile(
        r"\b(?:what (?:does|do|is)|explain|means?|meaning|phrases?|strings?|words?|detect\w*|attacks?|injections?"
        r"|jailbreaks?|regex|patterns?|filters?|match\w*|block(?:s|ed|list)?|examples?|assert|return|const|def"
        r"|translate|wrote|said)\b"
        rf"[^\"\u201c\u201d\u2018\u2019`\n]{{0,{BEFORE}}}[\"\u201c\u2018`'/](?=\S)"
        rf"(?P<said>[^\"\u201c\u201d`\n]{{4,{LONGEST}}})[\"\u201d\u2019`'/]",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?:novel|story|character|scene|film|book|chapter)\b[^\n:]{{0,{BEFORE}}}"
        r"\b(?:tells?|told|says?|said|asks?|types?|typed|writes?|shouts?)\b[^:\n]{0,40}:\s*"
        rf"(?P<said>[^\n.!?]{{4,{LONGEST}}})",
        re.IGNORECASE,
    ),
)


def is_mentioned(text: str, start: int, end: int) -> bool:
    """Whether the greater part of `text[start:end]` is told of."""
    around = max(0, start - LONGEST - 2 * BEFORE), min(len(text), end + LONGEST)
    for pattern in _TOLD_OF:
        for found in pattern.finditer(text, *around):
            first, last = found.span("said")
            if 2 * (min(end, last) - max(start, first)) >= end - start:
                return True
    return False
