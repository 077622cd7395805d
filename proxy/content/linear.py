"""A small linear model over hashed word and stem n-grams, and the stretch of a text that speaks most for it.

A text's score is the greatest sum of weights over any run of its words, so an attack inside an ordinary message counts
for what it is by itself. What the whole text is like (a long order to play somebody, or a story that is asked for)
moves that within bounds, so that what stands around an attack can't water it down for good. What it doesn't see:
meaning, what words that weren't in training stand for, and anything in punctuation. Time and space are linear in the
text's length.
"""

from __future__ import annotations

import struct
import unicodedata
import zlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.uint64]
Indices: TypeAlias = NDArray[np.int64]

BITS = 18  # 2 ** BITS weights of one byte each, where a model says nothing else
MOST_BITS = 20  # that a model may have
FEATURES = 8  # of each word
BLOCK = 4096  # characters looked at in one go
OVERLAP = 512  # and what two blocks share, so that what a cut would split is whole in one of them
TIMES = 5  # that an n-gram speaks for an attack
STEM = 4  # characters: enough of a word to be the same word in another form, in most languages

WHOLE_BITS = 16  # 2 ** WHOLE_BITS weights for whole texts
WHOLE = (0, 2, 4, 6)  # of the features: words, pairs, threes, and pairs of stems with one between
SHORT = 30.0  # different n-grams: a text with fewer says little
FEW = 20.0  # words: likewise
LEAST, MOST = -2.0, 4.0  # log-odds that the whole of a text adds at most

NOTHING = 0  # the weight that n-grams have which would begin before the text: a phrase is worth the same anywhere
BACK = 3  # words that a feature looks back at most
# Of the first words of a text: which columns of `_grams` look back behind its beginning.
_REACHES_BACK = np.array([[False, False, *[True] * 6], [False] * 4 + [True] * 4, [False] * 7 + [True]])

# Polynomial hashes: the hash of text[s:e] is a difference of running sums, brought back to position 0.
_FACTOR = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2 ** 64
_MODULUS = 1 << 64
_MIX = tuple(map(np.uint64, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)))
_HALF = np.uint64(32)  # bits
_HEAD, _WHOLE_HEAD = "<3d", "<2d"
_SPACE, _LETTER, _SIGN = 0, 1, 2  # a sign is a word by itself: scripts that are written without spaces


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of a text that scored best, `text[start:end]`, and its log-odds."""

    score: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Model:
    """Weights of one byte, in units of `unit`; `toll` is what each word costs, `start` what every text begins with.

    `whole`, in units of `whole_unit`, and `whole_start` are the same for whole texts; a model may be without. There are
    2 ** n weights, and n is its own: n-grams that share a weight by chance are fewer in a larger model.
    """

    weights: NDArray[np.int8]
    unit: float
    toll: float
    start: float
    whole: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    whole_unit: float = 0.0
    whole_start: float = 0.0

    @property
    def bits(self) -> int:
        return len(self.weights).bit_length() - 1

    def best(self, text: str) -> Stretch:
        """The stretch of the text that is most likely what the model was trained to find."""
        if len(text) <= BLOCK:
            return self._best(text, 0)
        blocks = range(0, len(text) - OVERLAP, BLOCK - OVERLAP)
        return max((self._best(text[at : at + BLOCK], at) for at in blocks), key=lambda stretch: stretch.score)

    def _best(self, text: str, offset: int) -> Stretch:
        words = _words(text)
        if not len(words.starts):
            return Stretch(self.start, offset, offset)
        found = _grams(words, self.bits)
        weights = self.weights.take(found)
        _forget_repeated(found, weights)
        sums = (weights.sum(axis=1, dtype=np.int64) * self.unit - self.toll).cumsum()
        before = np.zeros_like(sums)
        before[1:] = sums[:-1]
        last = int((sums - np.minimum.accumulate(before)).argmax())
        first = int(before[: last + 1].argmin())
        gain = max(0.0, float(sums[last] - before[first]))
        score = self.start + gain + self._of_whole(found)
        return Stretch(score, offset + int(words.starts[first]), offset + int(words.ends[last]))

    def _of_whole(self, found: Indices) -> float:
        """What the text as a whole adds."""
        if not len(self.whole):
            return 0.0
        grams = distinct(found)
        total = self.whole_start + float(self.whole[grams].sum(dtype=np.int64)) * self.whole_unit * share(len(grams))
        return min(MOST, max(LEAST, total)) * len(found) / (len(found) + FEW)


def dump(model: Model) -> bytes:
    """What `load` reads: three little-endian doubles and the weights; two more and those of whole texts, where there
    are any; deflated.
    """
    plain = struct.pack(_HEAD, model.unit, model.toll, model.start) + model.weights.tobytes()
    if len(model.whole):
        plain += struct.pack(_WHOLE_HEAD, model.whole_unit, model.whole_start) + model.whole.tobytes()
    return zlib.compress(plain, 9)


def load(data: bytes) -> Model:
    """The model that `dump` wrote. Raises zlib.error or ValueError for other bytes."""
    plain = zlib.decompress(data)
    size, more = struct.calcsize(_HEAD), struct.calcsize(_WHOLE_HEAD) + (1 << WHOLE_BITS)
    ends = [size + (1 << bits) for bits in range(BITS, MOST_BITS + 1)]
    end = next((end for end in ends if len(plain) in (end, end + more)), None)
    if end is None:
        raise ValueError(
            f"a model has 2 ** {BITS} to 2 ** {MOST_BITS} weights, not {len(plain) - size}, and none or"
            f" {1 << WHOLE_BITS} more"
        )
    model = Model(np.frombuffer(plain[size:end], np.int8), *struct.unpack_from(_HEAD, plain))
    if len(plain) == end:
        return model
    unit, start = struct.unpack_from(_WHOLE_HEAD, plain, end)
    whole = np.frombuffer(plain, np.int8, offset=end + struct.calcsize(_WHOLE_HEAD))
    return replace(model, whole=whole, whole_unit=unit, whole_start=start)


def distinct(found: Indices) -> Indices:
    """The n-grams of a whole text, each once, as places among the weights for whole texts."""
    said = (found[:, WHOLE] & (1 << WHOLE_BITS) - 1).ravel()
    said.sort()
    is_first = np.ones(len(said), np.bool_)
    np.not_equal(said[1:], said[:-1], out=is_first[1:])
    return said[is_first]


def share(count: int) -> float:
    """How much each of so many n-grams counts: a long text has more of them, and isn't worse for it."""
    return float(1 / np.sqrt(count + SHORT))


def features(text: str, bits: int = BITS) -> Indices:
    """Which of 2 ** bits weights each word of a text (at most BLOCK characters) has: shape (words, FEATURES)."""
    return _grams(_words(text), bits)


@dataclass(frozen=True, slots=True)
class _Words:
    """Where the words of a text are, and the hashes of each and of its stem."""

    starts: Indices
    ends: Indices
    hashes: Codes
    stems: Codes


def _forget_repeated(found: Indices, weights: NDArray[np.int8]) -> None:
    """What speaks for an attack counts TIMES times in a text at most: a list of a hundred items is none."""
    speaking = (weights.ravel() > 0).nonzero()[0]
    if len(speaking) <= TIMES:
        return
    said = found.take(speaking)
    order = said.argsort(kind="stable")
    ordered = said[order]
    weights.put(speaking[order[TIMES:][ordered[TIMES:] == ordered[:-TIMES]]], 0)


def _words(text: str) -> _Words:
    tables = _tables()
    codes = np.minimum(np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32), 0xFFFF)
    kinds = tables.kinds[codes]
    is_word = kinds != _SPACE
    is_border = (kinds[1:] != kinds[:-1]) | (kinds[1:] == _SIGN)
    begins, closes = is_word.copy(), is_word.copy()
    begins[1:] &= is_border
    closes[:-1] &= is_border
    starts, ends = begins.nonzero()[0], closes.nonzero()[0] + 1
    running = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(tables.folded[codes] * tables.powers[: len(codes)], out=running[1:])
    inverses = tables.inverses[starts]
    hashes = (running[ends] - running[starts]) * inverses
    stems = (running[np.minimum(ends, starts + STEM)] - running[starts]) * inverses
    return _Words(starts, ends, hashes, stems)


def _grams(words: _Words, bits: int) -> Indices:
    """The features of each word: itself, its stem, and both with the words before it."""
    one, two, three, four = _MIX
    count = len(words.starts)
    wholes, stems = _behind_nothing(words.hashes * one), _behind_nothing(words.stems * two)
    whole, whole_1, whole_2, whole_3 = (wholes[BACK - back : BACK - back + count] for back in range(BACK + 1))
    stem, stem_1, stem_2 = (stems[BACK - back : BACK - back + count] for back in range(BACK))
    found = np.empty((count, FEATURES), np.uint64)
    found[:, 0] = whole
    found[:, 1] = stem
    found[:, 2] = pair = whole + whole_1 * three
    found[:, 3] = stem_pair = stem + stem_1 * three
    found[:, 4] = triple = pair + whole_2 * four
    found[:, 5] = stem_pair + stem_2 * four
    found[:, 6] = stem + stem_2 * one
    found[:, 7] = triple + whole_3 * two
    found *= two
    found ^= found >> _HALF
    found *= one
    found >>= np.uint64(64 - bits)
    places = found.view(np.int64)  # far below the sign
    beginning = places[:BACK]
    beginning[_REACHES_BACK[: len(beginning)]] = NOTHING
    return places


def _behind_nothing(codes: Codes) -> Codes:
    """Stirred, behind as many words that there are not as a feature reaches back."""
    found = np.ones(BACK + len(codes), np.uint64)
    np.bitwise_xor(codes, codes >> _HALF, out=found[BACK:])
    return found


@dataclass(frozen=True, slots=True)
class _Tables:
    kinds: NDArray[np.uint8]
    folded: Codes
    powers: Codes
    inverses: Codes


@lru_cache(1)
def _tables() -> _Tables:
    kinds = np.array([_kind(code) for code in range(0x10000)], np.uint8)
    folded = np.array([_folded(code) for code in range(0x10000)], np.uint64)
    inverse = pow(_FACTOR, -1, _MODULUS)
    powers = np.array([pow(_FACTOR, place, _MODULUS) for place in range(BLOCK)], np.uint64)
    inverses = np.array([pow(inverse, place, _MODULUS) for place in range(BLOCK)], np.uint64)
    return _Tables(kinds, folded, powers, inverses)


def _kind(code: int) -> int:
    if 0x0E00 <= code < 0x0F00 or 0x3040 <= code < 0x3100 or 0x3400 <= code < 0xA000:  # Thai, Lao, kana, ideographs
        return _SIGN
    return _LETTER if unicodedata.category(chr(code))[0] in "LMN" else _SPACE


def _folded(code: int) -> int:
    """A letter without case and accent; katakana as hiragana. Never 0, which would hide a letter from the hash."""
    if 0x30A1 <= code <= 0x30F6:
        return code - 0x60
    letter = unicodedata.normalize("NFD", chr(code).lower())[:1] if code < 0x2000 else chr(code)
    return ord(letter) or 1
