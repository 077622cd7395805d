"""The labelled rows that the prompt-injection model may learn from, and how they are cut into parts to measure it.

Learnt from are sets whose licence allows it with attribution (docs/detection.md names them). Sets that forbid
commercial use, ask for the same licence, say nothing, or are derived from such a set are only measured.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEARNT_ATTACKS = (
    "pi_inthewild", "pi_pyrit", "pi_pyrit_wild", "pi_garak", "pi_llmguard", "pi_deepset", "pi_patt", "pi_indirect",
    "pi_pint_sample", "pi_hackaprompt",
)  # fmt: skip
LEARNT_BENIGN = (
    "benign_notinject", "benign_wildguard", "benign_support_banking77", "benign_tech_irc", "spam_sms_ham",
    "benign_multilingual", "crs_negatives", "bipia_text_as_chat", "pi_llmguard", "pi_pint_sample",
)  # fmt: skip
ODD = ("benign_notinject", "benign_wildguard")  # harmless texts that were collected because they read like attacks
SHARE_ALIKE = "xquad"  # one source within benign_multilingual


@dataclass(frozen=True)
class Row:
    """A labelled text. `is_held_out` rows are never learnt from by the models of web attacks."""

    id: str
    set: str
    text: str
    label: str
    category: str
    subset: str
    source: str
    is_held_out: bool
    place: int  # a hash that puts it into a fold; a row that is made of another has that one's

    def fold(self, folds: int) -> int:
        return self.place % folds


def folder() -> Path:
    """Where the sets are: SIDEGATE_CORPORA, or beside the project."""
    return Path(os.environ.get("SIDEGATE_CORPORA", ROOT.parent / "shared" / "corpora"))


def rows(name: str) -> Iterator[Row]:
    """The rows of a set. Raises FileNotFoundError where the set is absent."""
    for line in (folder() / f"{name}.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        category = str(row.get("category", ""))
        yield Row(
            row["id"],
            name,
            row["text"],
            row["label"],
            category,
            str(row.get("subset") or row.get("variant") or ""),
            str(row.get("source", "")),
            is_held_out(str(row["base"]) if category == "injection_obfuscated" else str(row["id"])),
            _place(str(row.get("base") or row["text"])),
        )


def is_held_out(key: str) -> bool:
    """A sixth of all rows, by a hash that stays."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 6 == 0


def _place(text: str) -> int:
    """The same for the same words, in whichever set and however written."""
    return int(hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()[:8], 16)


def learnt() -> Iterator[Row]:
    """The rows to learn from: `block` and `allow` only."""
    for label, names in (("block", LEARNT_ATTACKS), ("allow", LEARNT_BENIGN)):
        for name in names:
            for row in rows(name):
                if row.label == label and SHARE_ALIKE not in row.source:
                    yield row
