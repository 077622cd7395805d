"""What the output filters cost and keep back: `scripts/bench filters`.

On the benign texts of the corpora, as a model writes them: tokens of 1 to 6 characters, one by one and 40 in a read.
Beside it what a fixed window keeps back: 1,024 bytes, of which 256 stay as overlap.
"""

from __future__ import annotations

import gc
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from proxy.filters import FilterSettings, PhraseSettings, RedactSettings, chain_maker
from proxy.filters.chain import Chain

CORPORA = Path(os.environ.get("SIDEGATE_CORPORA") or Path(__file__).parents[2] / ".." / "shared" / "corpora")
SETS = (
    "resp_benign_markdown", "benign_support_banking77", "benign_tech_codealpaca", "benign_tech_irc", "benign_tech_so",
    "benign_multilingual", "benign_wildguard", "benign_notinject", "benign_hard_security",
)  # fmt: skip
READ = 40  # tokens in a network read
WINDOW, OVERLAP = 1024, 256  # bytes
ROUNDS = 3  # the fastest counts, since the machine does other things, too
ALL_ON = FilterSettings(
    redact=(RedactSettings(pattern=r"\binternal-[0-9]{1,8}\b"),),
    phrases=PhraseSettings(block=("project heron", "not for the public"), canaries=("heron-7f3a-91bc",)),
)


@dataclass(frozen=True, slots=True)
class Found:
    name: str
    texts: int
    held: list[int]  # characters kept back after each token
    window: list[int]
    token_micros: float  # CPU of the chain for a token that comes alone
    read_micros: float  # for a token of a read of 40

    def line(self) -> str:
        return (
            f"{self.name:<26}{self.texts:>6}  held median {median(self.held):>3.0f}, p99 {_p99(self.held):>4}, "
            f"most {max(self.held):>4}   window {median(self.window):>4.0f}, {_p99(self.window):>5}   "
            f"us a token: alone {self.token_micros:>5.1f}, of {READ} {self.read_micros:>4.2f}"
        )


def _p99(values: Sequence[int]) -> int:
    return sorted(values)[int(len(values) * 0.99)]


def tokens(text: str, chance: random.Random) -> list[str]:
    found, at = [], 0
    while at < len(text):
        size = chance.randint(1, 6)
        found.append(text[at : at + size])
        at += size
    return found


def measured(name: str, texts: Sequence[str], make: Callable[[], Chain]) -> Found:
    chance = random.Random(1)
    answers = [tokens(text, chance) for text in texts]
    count = sum(map(len, answers))
    reads = [["".join(answer[at : at + READ]) for at in range(0, len(answer), READ)] for answer in answers]
    alone = min(_cpu(answers, make) for _ in range(ROUNDS))
    together = min(_cpu(reads, make) for _ in range(ROUNDS))
    window = [size for answer in answers for size in _windowed(answer)]
    held = [size for answer in answers for size in _held(answer, make())]
    return Found(name, len(texts), held, window, alone / count * 1e6, together / count * 1e6)


def _cpu(answers: Sequence[Sequence[str]], make: Callable[[], Chain]) -> float:
    """Seconds to feed them all; making the chains and flushing them apart."""
    chains = [make() for _ in answers]
    gc.collect()
    start = time.process_time()
    for chain, pieces in zip(chains, answers, strict=True):
        for piece in pieces:
            chain.feed(piece)
    return time.process_time() - start


def _held(pieces: Sequence[str], chain: Chain) -> Iterator[int]:
    for piece in pieces:
        chain.feed(piece)
        yield chain.held


def _windowed(pieces: Sequence[str]) -> Iterator[int]:
    kept = 0
    for piece in pieces:
        kept += len(piece.encode())
        if kept >= WINDOW:
            kept = OVERLAP
        yield kept


def first_piece(make: Callable[[], Chain], times: int = 5000) -> float:
    """Microseconds that making a chain and the first token through it take, the median."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        make().feed("Hello, ")
        found.append(time.perf_counter() - start)
    return median(found) * 1e6


def report() -> Iterator[str]:
    """Raises RuntimeError without corpora."""
    if not CORPORA.is_dir():
        raise RuntimeError(f"no corpora in {CORPORA}: put them there, or set SIDEGATE_CORPORA to the folder with them")
    make = chain_maker(ALL_ON)
    everything: list[Found] = []
    texts: list[str] = []
    for name in SETS:
        rows = map(json.loads, (CORPORA / f"{name}.jsonl").read_bytes().splitlines())
        benign = [row["text"] for row in rows if row["label"] == "allow"]
        found = measured(name, benign, make)
        everything.append(found)
        texts += benign
        yield found.line()
    held = [size for found in everything for size in found.held]
    yield f"all: held median {median(held):.0f}, p99 {_p99(held)}; first piece {first_piece(make):.0f} us"
    strict, chance = chain_maker(ALL_ON.model_copy(update={"hold_words": True})), random.Random(1)
    held = [size for text in texts for size in _held(tokens(text, chance), strict())]
    yield f"all, with filters.hold_words: held median {median(held):.0f}, p99 {_p99(held)}"
