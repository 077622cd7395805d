"""Snippets of real programs and pages as harmless texts: files of Python's standard library and of installed packages.

All under licences that allow it (PSF, MIT, BSD, Apache-2.0), and none can be read back from a model's weights. A third
of the files, by a hash of their names, is left to be measured.
"""

from __future__ import annotations

import hashlib
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".py", ".js", ".html", ".md", ".css", ".json", ".txt", ".toml", ".c", ".h", ".pyx", ".sh")
MAX_BYTES = 200_000
MAX_LINES = 8
LONGEST, SHORTEST = 1200, 15  # characters of a snippet
ASKED = ("", "", "", "why does this not work?\n", "hi, what does this do? ", "```\n", "I get an error here: ")
OWN = ("proxy", "scripts", "tests")


def files(*, is_learnt: bool = True) -> list[tuple[Path, str]]:
    """Files to take snippets from, and the hash by which they were chosen."""
    kept = []
    for root in (Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))):
        for path in root.rglob("*"):
            name = path.relative_to(root).as_posix()
            if path.suffix not in SUFFIXES or "test" in name or "site-packages" in name or name.startswith(OWN):
                continue
            key = hashlib.sha256(name.encode()).hexdigest()
            if (int(key[:8], 16) % 3 != 0) == is_learnt and path.is_file() and path.stat().st_size < MAX_BYTES:
                kept.append((path, key))
    return sorted(kept, key=lambda file: file[1])


def snippets(count: int, seed: int, *, is_learnt: bool = True) -> Iterator[str]:
    """So many stretches of a few lines, half of them from files that aren't Python."""
    chance = random.Random(seed)
    known = [path for path, _ in files(is_learnt=is_learnt)]
    python = [path for path in known if path.suffix == ".py"]
    others = [path for path in known if path.suffix != ".py"] or python
    for number in range(count):
        lines = chance.choice(others if number % 2 else python).read_text("utf-8", "replace").splitlines()
        begin = chance.randrange(max(1, len(lines)))
        text = "\n".join(lines[begin : begin + chance.randint(1, MAX_LINES)]).strip()
        if SHORTEST < len(text) < LONGEST:
            yield chance.choice(ASKED) + text
