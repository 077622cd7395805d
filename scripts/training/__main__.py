"""Trains the prompt-injection model: `python -m scripts.training` writes proxy/content/injection.bin.

Run by scripts/train-injection. What it learns from, and what it doesn't: corpus.py and docs/detection.md.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from proxy.content import linear
from scripts.training import corpus, fit, sentences

WEIGHTS = Path(linear.__file__).with_name("injection.bin")
COUNT = 24  # sentences made of each template
BENIGN = 8.0  # how much a harmless text counts beside an attack: being left alone matters more
LENIENT = 0.7  # log-odds given to every text: BENIGN makes an attack seem less likely by more than that
LEAST = 250  # harmless sentences of a language count as if there were so many
MOST_TIMES = 6.0


def rows() -> Iterator[tuple[str, bool, float]]:
    """What is learnt from: text, whether it is an attack, how much it counts."""
    for row in corpus.learnt():
        is_attack = row.label == "block"
        yield row.text, is_attack, 1.0 if is_attack else BENIGN
    for language, texts in sentences.attacks(COUNT, seed=1).items():
        for text in dict.fromkeys(texts):
            yield text, True, 0.7 if language == sentences.MIXED else 1.0
    for texts in sentences.benign(COUNT, seed=2).values():
        different = dict.fromkeys(texts)
        for text in different:
            yield text, False, BENIGN * max(1.0, min(MOST_TIMES, LEAST / len(different)))


def quantised(learnt: fit.Fit) -> linear.Model:
    """The weights in one byte each."""
    unit = float(np.abs(learnt.weights).max()) / 127
    return linear.Model(np.round(learnt.weights / unit).astype(np.int8), unit, fit.TOLL, learnt.start + LENIENT)


def main() -> int:
    try:
        known = list(rows())
    except FileNotFoundError as error:
        print(f"train-injection: {error.filename} isn't there; set SIDEGATE_CORPORA to the folder of the labelled sets")
        return 1
    counts = Counter(is_attack for _, is_attack, _ in known)
    print(f"{counts[True]} attacks, {counts[False]} harmless texts")
    model = quantised(fit.train(fit.texts(known)))
    WEIGHTS.write_bytes(linear.dump(model))
    print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size} bytes, {np.count_nonzero(model.weights)} weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
