"""Logistic regression in which only the stretch of a text that looks most like an attack is learnt from.

That is multiple-instance learning with the run time's own score: of a long attack the part that gives it away gains
weight, of a harmless text the part that comes nearest to an attack loses it. Half of the features are left out at
random in every round (dropout), so that none of them relies on another. Adam over all texts at once, with a seed: the
same rows give the same weights. What whole texts are like is learnt apart from that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.content import linear

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

ROUNDS = 400
RATE = 0.1  # at the beginning; falls to nothing along a cosine
DECAY = 5e-6  # of the weights, in each round
WHOLE_ROUNDS = 300
WHOLE_DECAY = 3e-7
TOLL = 0.37  # what each word costs: what has to be outweighed by a sign in every few words
WARM = 40  # rounds in which all texts are looked at
EVERY = 8  # after that they are once in so many rounds, and in between those that aren't learnt yet
LEARNT = 0.01  # wrong by that at most
TIMES = 3


@dataclass(frozen=True)
class Texts:
    """Texts as features: those of all words in a row, and where each text's words begin."""

    found: NDArray[np.int32]
    begins: Places
    labels: Floats  # 1 for an attack, 0 for none
    weights: Floats
    bits: int = linear.BITS  # of 2 ** bits places


@dataclass(frozen=True)
class Fit:
    """What was learnt: the weights, and what every text begins with, in log-odds."""

    weights: Floats
    start: float


def texts(rows: Iterable[tuple[str, bool, float]], bits: int = linear.BITS) -> Texts:
    """From rows of text, whether it is an attack, and how much it counts. Texts without a word are left out."""
    kept = [(found, is_attack, weight) for text, is_attack, weight in rows if len(found := _features(text, bits))]
    lengths = np.array([len(found) for found, _, _ in kept])
    return Texts(
        np.concatenate([found for found, _, _ in kept]),
        np.concatenate(([0], np.cumsum(lengths)[:-1])),
        np.array([float(is_attack) for _, is_attack, _ in kept]),
        np.array([weight for _, _, weight in kept]),
        bits,
    )


def _features(text: str, bits: int) -> NDArray[np.int32]:
    return linear.features(text[: linear.BLOCK], bits).astype(np.int32)


class Adam:
    """Kingma and Ba, 2015, with a rate that falls to nothing along a cosine."""

    def __init__(self, size: int) -> None:
        self._mean, self._square, self._step = np.zeros(size), np.zeros(size), 0

    def move(self, learnt: Floats, gradient: Floats, done: float) -> None:
        """One step, in place. `done`: 0 to 1."""
        self._step += 1
        self._mean = 0.9 * self._mean + 0.1 * gradient
        self._square = 0.99 * self._square + 0.01 * gradient**2
        mean, square = self._mean / (1 - 0.9**self._step), self._square / (1 - 0.99**self._step)
        learnt -= RATE * (0.5 + 0.5 * np.cos(np.pi * done)) * mean / (np.sqrt(square) + 1e-7)


def train(data: Texts, rounds: int = ROUNDS, times: int = TIMES, toll: float = TOLL) -> Fit:
    """Learn several times and take the mean, which errs less by chance. Half a minute for 25,000 texts."""
    fits = [_train(data, rounds, seed, toll) for seed in range(times)]
    return Fit(np.mean([fit.weights for fit in fits], axis=0), float(np.mean([fit.start for fit in fits])))


def _train(data: Texts, rounds: int, seed: int, toll: float) -> Fit:
    chance = np.random.default_rng(seed)
    size = 1 << data.bits
    learnt = np.zeros(size + 1)  # the weights, and the start behind them
    learnt[-1] = -2.0
    state = Adam(size + 1)
    total, looked_at = data.weights.sum(), data
    for step in range(1, rounds + 1):
        if step % EVERY == 1:
            looked_at = data
        kept = _kept(chance, looked_at.found.shape)
        each = 2 * (learnt.astype(np.float32)[looked_at.found] * kept).sum(axis=1) - toll
        sums, firsts, lasts = best_stretches(each, looked_at.begins) if step > 1 else _whole(each, looked_at.begins)
        wrong = _odds(learnt[-1] + np.maximum(sums, 0.0)) - looked_at.labels
        error = looked_at.weights * wrong / total
        share = _spread(error, firsts, lasts, len(each))
        speaking = np.flatnonzero(share)  # most words are in no stretch
        pulls = 2 * share[speaking, None] * kept[speaking]
        gradient = np.bincount(looked_at.found[speaking].ravel(), pulls.ravel(), size + 1) + DECAY * learnt
        gradient[-1] = error.sum()
        state.move(learnt, gradient, step / rounds)
        learnt[linear.NOTHING] = 0.0
        if looked_at is data and step > WARM:
            looked_at = _some(data, np.abs(wrong) > LEARNT)
    return Fit(learnt[:-1], float(learnt[-1]))


def _some(data: Texts, wanted: NDArray[np.bool_]) -> Texts:
    """Those texts alone."""
    lengths = np.diff(np.append(data.begins, len(data.found)))
    begins = np.concatenate(([0], np.cumsum(lengths[wanted])[:-1]))
    found = data.found[np.repeat(wanted, lengths)]
    return Texts(found, begins, data.labels[wanted], data.weights[wanted], data.bits)


def _kept(chance: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Half of the features, at random: one bit for each of a word's eight."""
    bits = np.frombuffer(chance.bytes(shape[0]), np.uint8)
    return np.unpackbits(bits).reshape(shape).astype(np.bool_)


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


def train_whole(data: Texts, rounds: int = WHOLE_ROUNDS) -> Fit:
    """Plain logistic regression on whole texts, in which each n-gram counts once."""
    firsts, lasts = data.begins, np.append(data.begins[1:], len(data.found))
    grams = [
        linear.distinct(data.found[first:last].astype(np.int64)) for first, last in zip(firsts, lasts, strict=True)
    ]
    counts = np.array([len(found) for found in grams])
    found, text_of = np.concatenate(grams), np.repeat(np.arange(len(grams)), counts)
    begins = np.concatenate(([0], np.cumsum(counts)[:-1]))
    shares = np.array([linear.share(count) for count in counts])
    size = 1 << linear.WHOLE_BITS
    learnt, state = np.zeros(size + 1), Adam(size + 1)
    for step in range(1, rounds + 1):
        margins = learnt[-1] + np.add.reduceat(learnt[found], begins) * shares
        error = data.weights * (_odds(margins) - data.labels) / data.weights.sum()
        gradient = np.bincount(found, (error * shares)[text_of], size + 1) + WHOLE_DECAY * learnt
        gradient[-1] = error.sum()
        state.move(learnt, gradient, step / rounds)
    return Fit(learnt[:-1], float(learnt[-1]))
