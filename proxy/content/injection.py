"""Prompt injection by a trained model: how much a message looks like an order to a model to drop its orders.

It finds attacks that no rule names, also inside an ordinary message, behind encodings that `normalise` undoes, and in
some twenty languages. What it doesn't: attacks in words that never occurred in training, orders that are harmless in
themselves, and instructions hidden in files. docs/detection.md says how it is trained and how often it errs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from math import exp

from proxy.content import linear
from proxy.content.linear import Model
from proxy.content.normalise import Normal

LEAST = 0.1  # a score below says nothing


@dataclass(frozen=True, slots=True)
class Suspicion:
    """How suspicious a message is (0 to 2; 1.0 or more is a detection), and which stretch of it, as it came."""

    score: float
    start: int
    end: int


@lru_cache(1)
def model() -> Model:
    """The shipped weights."""
    return linear.load((files("proxy.content") / "injection.bin").read_bytes())


def find(normal: Normal, weights: Model | None = None) -> Suspicion | None:
    """The most suspicious stretch; None where nothing is. Further readings are looked at where the message as it
    reads isn't a detection, and stand for the whole of it. `weights`: others than the shipped ones.
    """
    weights = weights or model()
    best = weights.best(normal.text)
    start, end = normal.original(best.start, best.end)
    for view in normal.views if best.score < 0 else ():
        if (stretch := weights.best(view)).score > best.score:
            best, start, end = stretch, 0, len(normal.source)
    score = round(2 / (1 + exp(-best.score)), 3)  # 1.0 where an attack is as likely as not
    return Suspicion(score, start, end) if score >= LEAST else None


def score(normal: Normal) -> float:
    """The score alone; 0 for a message that isn't suspicious."""
    suspicion = find(normal)
    return suspicion.score if suspicion else 0.0
