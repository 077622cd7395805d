"""What the content rules cost: a plain message, and the worst 2,000 characters that a search for bad ones found.

`python -m scripts.benchmarks.rules [SECONDS]` searches for worse ones: pieces of the rules' examples and of what the
reading of texts looks for, put together, repeated, changed and kept while they get slower.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from proxy.content import injection
from proxy.content.detect import Detector
from proxy.content.normalise import normalise

CHARS = 2000
BUDGET_MICROS = 10.0  # for 200 characters
MODEL_MICROS = 100.0  # likewise
BUDGET_MILLIS = 15.0  # for the worst 2,000
PLAIN = (
    "I paid for two pairs of shoes last week and only one of them arrived. Could you please look up where the other "
    "one is, and whether I can send the first pair back if it does not come by Friday? Thank you."
)
# Found by the search below, slowest first.
WORST = (
    '((select\'{"a":1}\'\', $or: [ {}\u200bsee https://a.example//b"foo" AND "bar"src=//evil.example>before;'
    "exec('sleep 5')x UNION SELECT NULL,NULL--areln -s ../lib/a.so b.soJSON%acat${IFS}/etc/hosts' or 'a'='a(select x",
    "1 UNION select@0o0oO/**/$ fRom(SeLEct@0o0oO frOM`information_schema`.`triggers`)0o0oO WHere !FAlSE||tRue&&FalSe",
    "@v",
    "e\u0301",
    "..%c0%afx",
    "-a",
    "/*a",
    "#a",
    "a b ",
)
SEEDS = (
    "&lt;", "%25", "\\u003c", "&#60;", "aGVsbG8gd29ybGQgaGVsbG8g", "68656c6c6f20", "1gn0r3 ", "/*", "*/", "--\n", "#\n",
    "''", "\\a", "${IFS}", "gur ", "eht ", "\u0430", "\uff46", "\u200b", "<a ", "onx=", "'or ", "((", "||", "../", "{{",
    "!a", "$1 ", "A B ", "http://a ",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of one judgement."""

    rules_micros: float  # of 200 plain characters, without the model
    model_micros: float
    worst_millis: float  # all of it

    def note(self) -> str:
        return (
            f"Content rules: {self.rules_micros:.1f} us for 200 plain characters (budget {BUDGET_MICROS:g}), "
            f"the model {self.model_micros:.1f} us (budget {MODEL_MICROS:g}); "
            f"together {self.worst_millis:.1f} ms for the worst {CHARS:,} known (budget {BUDGET_MILLIS:g})."
        )


def cost(times: int) -> Cost:
    """Each text is judged so often; the fastest counts, since this machine does other things, too."""
    detector = Detector()
    plain = PLAIN[:200]
    whole = _seconds(lambda: [detector.judge(plain) for _ in range(100)], times) / 100
    model = _seconds(lambda: [injection.find(normalise(plain)) for _ in range(100)], times) / 100
    reading = _seconds(lambda: [normalise(plain) for _ in range(100)], times) / 100
    worst = max(_seconds(partial(detector.judge, _filled(text)), times) for text in WORST)
    model -= reading
    return Cost((whole - model) * 1e6, model * 1e6, worst * 1e3)


def search(seconds: float, seed: int = 1) -> list[tuple[float, str]]:
    """The slowest texts found in that time: milliseconds, and what was repeated."""
    dice, detector = random.Random(seed), Detector()
    examples = (example for rule in detector.rules for example in (*rule.matches, *rule.passes))
    pieces = sorted({piece for example in examples for piece in (example, *example.split())} | set(SEEDS))

    def tried(parts: Iterable[str]) -> tuple[float, tuple[str, ...]]:
        text = _filled("".join(parts))
        return _seconds(lambda: detector.judge(text), 2) * 1e3, tuple(parts)

    best = sorted((tried((piece,)) for piece in pieces), reverse=True)[:30]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _, parts = dice.choice(best)
        at, piece = dice.randrange(len(parts) + 1), dice.choice(pieces)
        changed = (*parts[:at], piece, *parts[at + dice.randrange(2) :])
        best = sorted({*best, tried(changed[:20])}, reverse=True)[:30]
    return [(millis, "".join(parts)) for millis, parts in best]


def _filled(text: str) -> str:
    return (text * (CHARS // len(text) + 1))[:CHARS]


def _seconds(work: Callable[[], object], times: int) -> float:
    fastest = float("inf")
    for _ in range(times):
        start = time.process_time()
        work()
        fastest = min(fastest, time.process_time() - start)
    return fastest


if __name__ == "__main__":
    for millis, text in search(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)[:5]:
        print(f"{millis:6.2f} ms  {text!r}")
    print(cost(5).note())
