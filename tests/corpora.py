"""Labelled texts from outside the project: read where they lie, never copied."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("SIDEGATE_CORPORA") or Path(__file__).parents[1] / ".." / "shared" / "corpora")


@dataclass(frozen=True)
class Row:
    """`spans`: start, end and type of what is to be masked."""

    text: str
    label: str
    is_core: bool
    spans: tuple[tuple[int, int, str], ...]


def packed(name: str) -> list[dict[str, Any]]:  # Any: JSON
    """The rows of a set that is kept in base64, so that scanners for secrets pass it over."""
    lines = (FOLDER / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(base64.b64decode(json.loads(line)["b64"])) for line in lines]


def labelled(name: str, label: str) -> list[Row]:
    """The rows of a set that have this label. Where the set isn't there, the test fails and says so."""
    path = FOLDER / f"{name}.jsonl"
    if not path.exists():
        pytest.fail(
            f"No {name} in {FOLDER}: put the sets there, or set SIDEGATE_CORPORA to the folder that holds them."
        )
    if name.startswith(("secrets_", "jwt_")):
        rows = packed(name)
    else:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [
        Row(
            row["text"],
            label,
            row.get("core", True),
            tuple((start, end, kind) for start, end, kind in row.get("spans", ())),
        )
        for row in rows
        if row["label"] == label
    ]
