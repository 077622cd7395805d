"""How often words begin in a way, and people's names: counted in packages that scripts/make-words installs.

Words: pyspellchecker 0.9.1 (MIT; subtitles in several languages), symspellpy 6.10.1 (MIT; English books) and the
docstrings of Python's standard library (PSF-2.0). Names: Faker 40.54.0 (MIT), of every locale in Latin letters.
"""

from __future__ import annotations

import ast
import gzip
import json
import random
import re
import sysconfig
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path

LONGEST = 15
LANGUAGES = {"en": 0.6, "de": 0.1, "fr": 0.1, "es": 0.1, "pt": 0.1}  # how much a letter held in one of them costs
ENGLISH = {"subtitles": 0.3, "books": 0.5, "docstrings": 0.2}
RAREST = 2e-7  # of a language's words
# How people's addresses are made of a first and a last name, in percent; what follows a dot is another word.
FORMS = {"{f}": 40, "{f}{l}": 14, "{f[0]}{l}": 16, "{f}{l[0]}": 5, "{l}": 12, "{l}{f}": 3, "{l}{f[0]}": 4, "{f[0]}": 6}
# How often names of a locale are taken; of all others, once.
LOCALES = {
    "en_US": 12, "en_GB": 4, "de_DE": 3, "fr_FR": 3, "es_ES": 3, "pt_BR": 3, "en_IN": 3, "it_IT": 2, "pl_PL": 2,
    "nl_NL": 2, "es_MX": 2,
}  # fmt: skip
_NAMES = re.compile(r"(first|last)_names?(?!.*kana)(_|$)")
_UNFOLDED = str.maketrans({"ß": "ss", "ø": "o", "ł": "l", "æ": "ae", "đ": "d", "\u0131": "i"})


def prose() -> Mapping[str, float]:
    """The share of the letters of prose in front of which a word began so; the languages' weights included."""
    found = defaultdict[str, float](float)
    for language, weight in LANGUAGES.items():
        of_one = defaultdict[str, float](float)
        for word, share in _words(language).items():
            for run in re.findall(r"[a-z\u00e0-\u024f]+", word.lower()):
                for size in range(1, min(len(run), LONGEST) + 1):
                    of_one[run[:size]] += share
        total = sum(of_one.values())
        for beginning, share in of_one.items():
            found[beginning] += weight * share / total
    return found


def addresses(count: int, seed: int) -> list[str]:
    """Of people's addresses, made up: the letters up to the first other character."""
    chance = random.Random(seed)
    known = dict(_people())
    each = count / sum(LOCALES.get(locale, 1) for locale in known)
    found: list[str] = []
    for locale, (first, last) in known.items():
        found += made(first, last, int(each * LOCALES.get(locale, 1)) + 1, chance)
    return found


def other_addresses(count: int, seed: int) -> list[str]:
    """The same of names that have no part in the table: names 0.3.0 (MIT; the census of the United States, 1990)."""
    first = {**_census("dist.male.first"), **_census("dist.female.first")}
    return list(made(first, _census("dist.all.last"), count, random.Random(seed)))


def _census(name: str) -> dict[str, float]:
    lines = (files("names") / name).read_text().splitlines()
    return {line.split()[0].lower(): float(line.split()[1]) for line in lines}


def made(first: Mapping[str, float], last: Mapping[str, float], count: int, chance: random.Random) -> Iterator[str]:
    """Addresses of people whose names these are, each as often as it is borne."""
    firsts = chance.choices(list(first), list(first.values()), k=count)
    lasts = chance.choices(list(last), list(last.values()), k=count)
    forms = chance.choices(list(FORMS), list(FORMS.values()), k=count)
    for one, other, form in zip(firsts, lasts, forms, strict=True):
        yield form.format(f=one, l=other)


def _words(language: str) -> Mapping[str, float]:
    packed = (files("spellchecker") / "resources" / f"{language}.json.gz").read_bytes()
    subtitles = _shares(json.loads(gzip.decompress(packed)))
    subtitles = {word: share for word, share in subtitles.items() if share > RAREST}
    if language != "en":
        return subtitles
    found = defaultdict[str, float](float)
    for name, shares in (("subtitles", subtitles), ("books", _books()), ("docstrings", _docstrings())):
        for word, share in shares.items():
            found[word] += ENGLISH[name] * share
    return found


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {word: count / total for word, count in counts.items()}


def _books() -> dict[str, float]:
    lines = (files("symspellpy") / "frequency_dictionary_en_82_765.txt").read_text("utf-8-sig").splitlines()
    return _shares({word: int(count) for word, count in map(str.split, lines)})


def _docstrings() -> dict[str, float]:
    counts = Counter[str]()
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if {"site-packages", "dist-packages", "test", "tests", "lib2to3", "idlelib"} & {*path.parts}:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                counts.update(re.findall("[a-z]+", (ast.get_docstring(node) or "").lower()))
    return _shares(counts)


@lru_cache(1)
def _people() -> Sequence[tuple[str, tuple[Mapping[str, float], Mapping[str, float]]]]:
    """First and last names by locale, with how often each is borne where Faker knows that."""
    found = []
    for locale in sorted(import_module("faker.config").AVAILABLE_LOCALES):
        try:
            provider = import_module(f"faker.providers.person.{locale}").Provider
        except ModuleNotFoundError:
            continue
        kinds: dict[str, dict[str, float]] = {"first": {}, "last": {}}
        for name in dir(provider):
            kind = _NAMES.match(name)
            listed = getattr(provider, name)
            if kind is None or not isinstance(listed, dict | list | tuple):
                continue
            for borne, weight in listed.items() if isinstance(listed, dict) else ((each, 1) for each in listed):
                plain = _plain(borne) if isinstance(borne, str) else ""
                if plain:
                    kinds[kind[1]][plain] = max(kinds[kind[1]].get(plain, 0), weight)
        if all(kinds.values()):
            found.append((locale, (kinds["first"], kinds["last"])))
    return found


def _plain(name: str) -> str:
    """Its first word as addresses spell it; nothing if that has other letters, or is one letter only."""
    word = (name.split() or [""])[0]
    plain = re.sub("[^a-z]", "", unicodedata.normalize("NFKD", word.lower().translate(_UNFOLDED)))
    return plain if len(plain) > 1 and len(plain) >= 0.7 * len(word) else ""
