"""What the content rules and the search for personal data cost: a plain message, one with numbers, and the worst 2,000
characters that a search for bad ones found.

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
from proxy.content.pii import find

CHARS = 2000
BUDGET_MICROS = 10.0  # for 200 characters
MODEL_MICROS = 100.0  # likewise
BUDGET_MILLIS = 15.0  # for the worst 2,000, all together
PLAIN = (
    "I paid for two pairs of shoes last week and only one of them arrived. Could you please look up where the other "
    "one is, and whether I can send the first pair back if it does not come by Friday? Thank you."
)
NUMBERS = (
    "My order 4471 from 12.03.2026 is late. Call me on +49 171 2345678, or write to ann@mail.example. I paid 59.90 "
    "with the card 4556 7375 8689 9855, and the IBAN for the refund is DE89 3704 0044 0532 0130 00."
)
# Found by the search below, slowest first; then the slowest for personal data alone.
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
    "1.key=key=@",
    "4-",
    "call 12345 ",
)
SEEDS = (
    "&lt;", "%25", "\\u003c", "&#60;", "aGVsbG8gd29ybGQgaGVsbG8g", "68656c6c6f20", "1gn0r3 ", "/*", "*/", "--\n", "#\n",
    "''", "\\a", "${IFS}", "gur ", "eht ", "\u0430", "\uff46", "\u200b", "<a ", "onx=", "'or ", "((", "||", "../", "{{",
    "!a", "$1 ", "A B ", "http://a ", "4-", "key=", "call 12345 ", "account 1234567 ", "4111 1111 1111 1111 ", "1)",
    "@", "a@b.", "DE89 ", "token is a1b2c3d4 ", "password: ", "\u0661", "0 ", "x://a:b@", "123-45-6789 ",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of one judgement."""

    rules_micros: float  # of 200 plain characters, without the model
    model_micros: float
    find_micros: float  # personal data in 200 characters with numbers
    worst_millis: float  # all of it

    def note(self) -> str:
        return (
            f"Content rules: {self.rules_micros:.1f} us for 200 plain characters (budget {BUDGET_MICROS:g}), "
            f"the model {self.model_micros:.1f} us (budget {MODEL_MICROS:g}), "
            f"personal data {self.find_micros:.1f} us where there are numbers; "
            f"together {self.worst_millis:.1f} ms for the worst {CHARS:,} known (budget {BUDGET_MILLIS:g})."
        )


def cost(times: int) -> Cost:
    """Each text is judged so often; the fastest counts, since this machine does other things, too."""
    detector = Detector()
    plain = PLAIN[:200]
    whole = _seconds(lambda: [detector.judge(plain) for _ in range(100)], times) / 100
    model = _seconds(lambda: [injection.find(normalise(plain)) for _ in range(100)], times) / 100
    reading = _seconds(lambda: [normalise(plain) for _ in range(100)], times) / 100
    found = _seconds(lambda: [find(NUMBERS[:200]) for _ in range(100)], times) / 100
    worst = max(_seconds(partial(_judged, detector, _filled(text)), times) for text in WORST)
    model -= reading
    return Cost((whole - model) * 1e6, model * 1e6, found * 1e6, worst * 1e3)


def search(seconds: float, seed: int = 1) -> list[tuple[float, str]]:
    """The slowest texts found in that time: milliseconds, and what was repeated."""
    dice, detector = random.Random(seed), Detector()
    examples = (example for rule in detector.rules for example in (*rule.matches, *rule.passes))
    pieces = sorted({piece for example in examples for piece in (example, *example.split())} | set(SEEDS))

    def tried(parts: Iterable[str]) -> tuple[float, tuple[str, ...]]:
        text = _filled("".join(parts))
        return _seconds(partial(_judged, detector, text), 2) * 1e3, tuple(parts)

    best = sorted((tried((piece,)) for piece in pieces), reverse=True)[:30]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _, parts = dice.choice(best)
        at, piece = dice.randrange(len(parts) + 1), dice.choice(pieces)
        changed = (*parts[:at], piece, *parts[at + dice.randrange(2) :])
        best = sorted({*best, tried(changed[:20])}, reverse=True)[:30]
    return [(millis, "".join(parts)) for millis, parts in best]


def _judged(detector: Detector, text: str) -> None:
    """All that is done to a message's text."""
    detector.judge(text)
    find(text)


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
