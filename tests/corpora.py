"""Labelled texts from outside the project: read where they lie, never copied."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("SIDEGATE_CORPORA") or Path(__file__).parents[1] / ".." / "shared" / "corpora")


def packed(name: str) -> list[dict[str, Any]]:  # Any: JSON
    """The rows of a set that is kept in base64, so that scanners for secrets pass it over."""
    lines = (FOLDER / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(base64.b64decode(json.loads(line)["b64"])) for line in lines]
