"""Made-up attacks and made-up harmless messages that use the same words: templates filled at random, with a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "sentences"
MIXED = "mixed"  # sentences in several languages at once
_SLOT = re.compile(r"\{(\w+)\}")
_SPACES = re.compile(r" {2,}")


@dataclass(frozen=True)
class Language:
    """The templates of one language, and what fills their slots."""

    name: str
    slots: Mapping[str, tuple[str, ...]]
    attacks: tuple[str, ...]
    benign: tuple[str, ...]


def languages() -> list[Language]:
    """Every file of the folder. Raises KeyError for a file without one of its three parts."""
    return [language(file.stem, yaml.safe_load(file.read_text("utf-8"))) for file in sorted(FOLDER.glob("*.yaml"))]


def language(name: str, data: Mapping[str, Mapping[str, list[str]] | list[str]]) -> Language:
    slots, attacks, benign = data["slots"], data["attacks"], data["benign"]
    assert isinstance(slots, Mapping)
    filled = {slot: tuple(choices) for slot, choices in slots.items()}
    return Language(name, filled, tuple(attacks), tuple(benign))


def fill(template: str, language: Language, chance: random.Random, others: list[Language] | None = None) -> str:
    """The template with a choice in each slot; with `others`, half of them in another language."""

    def choose(found: re.Match[str]) -> str:
        slot = found[1]
        speaker = language
        if others and chance.random() < 0.5:
            speaker = chance.choice([other for other in [*others, language] if slot in other.slots])
        return _SLOT.sub(choose, chance.choice(speaker.slots[slot]))

    return _SPACES.sub(" ", _SLOT.sub(choose, template)).strip()


def attacks(count: int, seed: int) -> dict[str, list[str]]:
    """`count` attacks for each template, by language; and those of MIXED."""
    chance = random.Random(seed)
    known = languages()
    made = {
        language.name: [fill(template, language, chance) for template in language.attacks for _ in range(count)]
        for language in known
    }
    made[MIXED] = [
        fill(template, language, chance, known)
        for language in known
        for template in language.attacks
        for _ in range(max(1, count // 4))
        if template.count("{") > 1
    ]
    return made


def benign(count: int, seed: int) -> dict[str, list[str]]:
    """`count` harmless messages for each template, by language."""
    chance = random.Random(seed)
    return {
        language.name: [fill(template, language, chance) for template in language.benign for _ in range(count)]
        for language in languages()
    }
