"""Made-up web attacks, and what people write about databases and pages: grammars filled at random, with a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from scripts.training.sentences import Language, fill, language

FOLDER = Path(__file__).parent / "grammars"
ALIKE = ("q", "q2", "sp", "gap")  # slots that have the same filling all over a text, mostly: who quotes, quotes alike
MIXED = 0.15  # of the texts are written by somebody who doesn't


def grammar(name: str) -> Language:
    """The grammar in grammars/NAME.yaml."""
    return language(name, yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8")))


def made(name: str, count: int, seed: int) -> Iterator[tuple[str, bool]]:
    """`count` texts of each template, and whether it is an attack."""
    chance = random.Random(seed)
    known = grammar(name)
    for templates, is_attack in ((known.attacks, True), (known.benign, False)):
        for template in templates:
            for _ in range(count):
                text = fill(template, _settled(known, chance), chance)
                yield text.replace("{{", "{").replace("}}", "}"), is_attack


def _settled(known: Language, chance: random.Random) -> Language:
    if chance.random() < MIXED:
        return known
    alike = {slot: (chance.choice(known.slots[slot]),) for slot in ALIKE if slot in known.slots}
    return replace(known, slots={**known.slots, **alike})
