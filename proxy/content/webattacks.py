"""Web attacks by trained models: how much a stretch of a message looks like SQL injection, markup that runs, a command.

They find what no rule names: a new order of quotes, conditions, elements, handlers, separators and programs, also in a
sentence. What they don't: an attack whose syntax is that of an ordinary query, page, program or shell session.
docs/detection.md says how they are trained and how often they err.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from math import exp
from typing import Literal

import re2

from proxy.content import linear, shellsyntax, syntax
from proxy.content.linear import Model
from proxy.content.normalise import Normal
from proxy.content.syntax import Spelling

Kind = Literal["sql_injection", "xss", "command_injection"]
WEIGHTS: dict[Kind, str] = {"sql_injection": "sql.bin", "xss": "markup.bin", "command_injection": "shell.bin"}
SPELL: dict[Kind, Callable[[str], Spelling]] = {
    "sql_injection": syntax.spell, "xss": syntax.spell, "command_injection": shellsyntax.spell,
}  # fmt: skip
THRESHOLD = 1.0
LEAST = 0.5  # a score below says nothing: any mail address has one
READ_CHARS = 2500  # of a message's readings, the folded text first: the rules read the others as well

# A text that has none of these has no syntax worth a look. The first is a single class of characters, the fastest there
# is for a plain message; RE2 tells the kinds apart.
_SIGNS = re.compile("[\"'`\xb4\u2019<=({;*@|&#:-]")
WORTH_A_LOOK = {
    "sql_injection": re2.compile(r"""['"`\x{b4}\x{2019}][^\w]|['"`][a-z]*['"`]|--|#|/\*|[=<>;*(@|&]"""),
    "xss": re2.compile(r"(?i)[<=({`;]|script|data:"),
    "command_injection": re2.compile(shellsyntax.TRIGGER),
}


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How suspicious a message is (0 to 2; 1.0 or more is a detection), and which stretch of it, as it came."""

    kind: Kind
    score: float
    start: int
    end: int


@lru_cache(1)
def models() -> dict[Kind, Model]:
    """The shipped weights."""
    folder = files("proxy.content")
    return {kind: linear.load((folder / name).read_bytes()) for kind, name in WEIGHTS.items()}


def find(normal: Normal) -> tuple[Suspicion, ...]:
    """The most suspicious stretch of each kind. Further readings are looked at where the message as it reads isn't a
    detection, and stand for the whole of it.
    """
    if not normal.views and not _SIGNS.search(normal.text):
        return ()
    found: dict[Kind, Suspicion] = {}
    for reading in _readings(normal):
        spelled: dict[Callable[[str], Spelling], Spelling] = {}
        for kind, spell in SPELL.items():
            before = found[kind].score if kind in found else LEAST
            if before < THRESHOLD and WORTH_A_LOOK[kind].search(reading):
                spelling = spelled.setdefault(spell, spelled.get(spell) or spell(reading))
                stretch = models()[kind].best(spelling.words)
                score = round(2 / (1 + exp(-stretch.score)), 3)  # 1.0 where an attack is as likely as not
                if score > before:
                    place = spelling.place(stretch.start, stretch.end)
                    start, end = normal.original(*place) if reading is normal.text else (0, len(normal.source))
                    found[kind] = Suspicion(kind, score, start, end)
    return tuple(found.values())


def _readings(normal: Normal) -> Iterator[str]:
    """The folded text, and of the further readings as many as there is time for: the rules read all of them."""
    yield normal.text
    left = READ_CHARS
    for view in normal.views:
        left -= len(view)
        if left >= 0:
            yield view
