"""Logistic regression in which only the stretch of a text that looks most like an attack is learnt from.

That is multiple-instance learning with the run time's own score: of a long attack the part that gives it away gains
weight, of a harmless text the part that comes nearest to an attack loses it. Half of the features are left out at
random in every round (dropout), so that none of them relies on another. Adam over all texts at once, with a seed: the
same rows give the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.content import linear

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

ROUNDS = 800
RATE = 0.1  # at the beginning; falls to nothing along a cosine
DECAY = 5e-6  # of the weights, in each round
TOLL = 0.45  # what each word costs: what has to be outweighed by a sign in every few words
DROPPED = 0.5
TIMES = 4


@dataclass(frozen=True)
class Texts:
    """Texts as features: those of all words in a row, and where each text's words begin."""

    found: NDArray[np.int32]
    begins: Places
    labels: Floats  # 1 for an attack, 0 for none
    weights: Floats


@dataclass(frozen=True)
class Fit:
    """What was learnt: the weights, and what every text begins with, in log-odds."""

    weights: Floats
    start: float


def texts(rows: Iterable[tuple[str, bool, float]]) -> Texts:
    """From rows of text, whether it is an attack, and how much it counts. Texts without a word are left out."""
    kept = [(found, is_attack, weight) for text, is_attack, weight in rows if len(found := _features(text))]
    lengths = np.array([len(found) for found, _, _ in kept])
    return Texts(
        np.concatenate([found for found, _, _ in kept]),
        np.concatenate(([0], np.cumsum(lengths)[:-1])),
        np.array([float(is_attack) for _, is_attack, _ in kept]),
        np.array([weight for _, _, weight in kept]),
    )


def _features(text: str) -> NDArray[np.int32]:
    return linear.features(text[: linear.BLOCK]).astype(np.int32)


def train(data: Texts, rounds: int = ROUNDS, times: int = TIMES) -> Fit:
    """Learn several times and take the mean, which errs less by chance. Two minutes for 20,000 texts."""
    fits = [_train(data, rounds, seed) for seed in range(times)]
    return Fit(np.mean([fit.weights for fit in fits], axis=0), float(np.mean([fit.start for fit in fits])))


def _train(data: Texts, rounds: int, seed: int) -> Fit:
    chance = np.random.default_rng(seed)
    size = 1 << linear.BITS
    learnt = np.zeros(size + 1)  # the weights, and the start behind them
    learnt[-1] = -2.0
    mean, square = np.zeros(size + 1), np.zeros(size + 1)
    features = data.found.ravel()
    for step in range(1, rounds + 1):
        kept = (chance.random(data.found.shape, dtype=np.float32) >= DROPPED) / (1 - DROPPED)
        each = (learnt[data.found] * kept).sum(axis=1) - TOLL
        sums, firsts, lasts = best_stretches(each, data.begins) if step > 1 else _whole(each, data.begins)
        error = data.weights * (_odds(learnt[-1] + np.maximum(sums, 0.0)) - data.labels) / data.weights.sum()
        share = _spread(error, firsts, lasts, len(each))
        gradient = np.bincount(features, (share[:, None] * kept).ravel(), size + 1) + DECAY * learnt
        gradient[-1] = error.sum()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        rate = RATE * (0.5 + 0.5 * np.cos(np.pi * step / rounds))
        learnt -= rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-7)
        learnt[linear.NOTHING] = 0.0
    return Fit(learnt[:-1], float(learnt[-1]))


def _odds(margin: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-margin)))


def _whole(each: Floats, begins: Places) -> tuple[Floats, Places, Places]:
    """The first round knows nothing yet: every word of every text counts."""
    return np.zeros(len(begins)), begins, np.append(begins[1:], len(each)) - 1


def _spread(error: Floats, firsts: Places, lasts: Places, count: int) -> Floats:
    """The error of each text, at each word of its stretch."""
    steps = np.zeros(count + 1)
    np.add.at(steps, firsts, error)
    np.add.at(steps, lasts + 1, -error)
    return np.asarray(np.cumsum(steps)[:-1])


def best_stretches(each: Floats, begins: Places) -> tuple[Floats, Places, Places]:
    """For each text the greatest sum over a run of its words (at least one), and that run's first and last word."""
    count = len(each)
    text_of = np.zeros(count, np.int64)
    text_of[begins[1:]] = 1
    text_of = np.cumsum(text_of)
    sums = np.cumsum(each)
    before = sums - each
    lowered = before - text_of * (4 * np.abs(each).sum() + 4)  # every text begins below all that came before it
    lowest = np.minimum.accumulate(lowered)
    first = np.maximum.accumulate(np.where(lowered == lowest, np.arange(count), 0))
    gains = sums - before[first]
    tops = np.maximum.reduceat(gains, begins)
    last = np.full(len(begins), count - 1)
    is_top = np.flatnonzero(gains == tops[text_of])
    np.minimum.at(last, text_of[is_top], is_top)
    return tops, first[last], last
