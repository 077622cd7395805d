"""Trains the prompt-injection model: `python -m scripts.training` writes proxy/content/injection.bin.

Run by scripts/train-injection. What it learns from, and what it doesn't: corpus.py and docs/detection.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proxy.content import linear
from scripts.training import code, corpus, fit, sentences, validate

WEIGHTS = Path(linear.__file__).with_name("injection.bin")
BITS = 20  # 2 ** BITS weights: with a quarter of them, everyday texts share too many with attacks by chance
COUNT = 24  # sentences made of each template
BENIGN = 8.0  # how much a harmless text counts beside an attack: being left alone matters more
ODD = 3.0  # and that much more if it was collected because it reads like an attack
LENIENT = 0.7  # log-odds given to every text: what is taken for an attack is mostly long, so short ones get more
WHOLE_LENIENT = 0.4  # than whole texts do; both by what is taken for an attack in cross-validation
LEAST = 500  # harmless sentences of a language count as if there were so many
MOST_TIMES = 6.0
SNIPPETS = 4_000  # stretches of programs and their documentation


@dataclass(frozen=True, slots=True)
class Known:
    """A text that is learnt from: whether it is an attack, how much it counts, and its place (None: in no set)."""

    text: str
    is_attack: bool
    weight: float
    place: int | None = None


def known() -> Iterator[Known]:
    """What is learnt from."""
    for row in corpus.learnt():
        is_attack = row.label == "block"
        weight = 1.0 if is_attack else BENIGN * (ODD if row.set in corpus.ODD else 1.0)
        yield Known(row.text, is_attack, weight, row.place)
    for language, texts in sentences.attacks(COUNT, seed=1).items():
        for text in dict.fromkeys(texts):
            yield Known(text, True, 0.7 if language == sentences.MIXED else 1.0)
    for texts in sentences.benign(COUNT, seed=2).values():
        different = dict.fromkeys(texts)
        for text in different:
            yield Known(text, False, BENIGN * max(1.0, min(MOST_TIMES, LEAST / len(different))))
    for text in code.snippets(SNIPPETS, seed=3):
        yield Known(text, False, BENIGN)


def trained(without: int | None = None, folds: int = validate.FOLDS) -> linear.Model:
    """The model, or one that knows nothing of a fold."""
    rows = [row for row in known() if without is None or row.place is None or row.place % folds != without]
    texts = fit.texts(((row.text, row.is_attack, row.weight) for row in rows), BITS)
    return made(fit.train(texts), fit.train_whole(texts))


def made(stretches: fit.Fit, wholes: fit.Fit) -> linear.Model:
    """The model of what was learnt, in one byte a weight."""
    weights, unit = quantised(stretches.weights)
    whole, whole_unit = quantised(wholes.weights)
    return linear.Model(
        weights, unit, fit.TOLL, stretches.start + LENIENT, whole, whole_unit, wholes.start + WHOLE_LENIENT
    )


def quantised(weights: fit.Floats) -> tuple[NDArray[np.int8], float]:
    """In one byte each, and the unit that they are in."""
    unit = float(np.abs(weights).max()) / 127
    return np.round(weights / unit).astype(np.int8), unit


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/train-injection", description=__doc__)
    parser.add_argument("--cross-validate", action="store_true", help="measure on unseen rows; writes no weights")
    arguments = parser.parse_args()
    try:
        counts = Counter(row.is_attack for row in known())
    except FileNotFoundError as error:
        print(f"train-injection: {error.filename} isn't there; set SIDEGATE_CORPORA to the folder of the labelled sets")
        return 1
    print(f"{counts[True]} attacks, {counts[False]} harmless texts")
    if arguments.cross_validate:
        print(*validate.table(validate.outcomes(trained)), sep="\n")
        return 0
    model = trained()
    WEIGHTS.write_bytes(linear.dump(model))
    print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size} bytes, {np.count_nonzero(model.weights)} weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
