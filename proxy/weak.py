"""Is a secret one that somebody could guess? Stops short ones, examples that were never replaced, and patterns.

What it doesn't stop: a secret that looks random and is known, or a sentence out of a book.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

MIN_BYTES = 32
MIN_DIFFERENT = 8  # characters; of 32 random hex digits, one in 28 million has fewer

# Words of examples; of two that begin alike, the longer one first.
_EXAMPLE = re.compile(
    r"access|admin|and|app|asdfghjkl|auth|bytes|change|characters|chars|default|demo|development|dummy|encryption|example"
    r"|fake|foobar|for|generated|generate|here|hmac|insecure|jwt|key|least|length|letmein|local|long|master|minimum|must"
    r"|not|only|passphrase|passwd|password|placeholder|please|private|production|prod|qwertyuiop|random|replace|secret"
    r"|secure|session|should|sidegate|signing|sign|site|some|static|string|strong|super|temporary|testing|test|that|the"
    r"|this|todo|token|unsafe|use|value|very|webhook|with|your|zxcvbnm"
)


# What is in the examples that people copy, and forget to replace.
_PLACEHOLDER = re.compile(r"(change|replace)[-_ ]?(me|this|it)|your[-_ ]?(\w+[-_ ])*secret", re.IGNORECASE)


def weakness(secret: str) -> str | None:
    """Why nobody should trust it, or None. Never repeats any of it."""
    if len(secret.encode()) < MIN_BYTES:
        return f"shorter than {MIN_BYTES} bytes"
    if _PLACEHOLDER.search(secret):
        return "an example that was never replaced"
    return None


def suspicion(secret: str) -> str | None:
    """Why it may be guessed although it is long enough, or None. Never repeats any of it."""
    if len(set(secret)) < MIN_DIFFERENT:
        return "made of too few different characters"
    if _is_pattern(secret):
        return "a pattern"
    if _is_example(secret):
        return "made of words as examples are"
    return None


def _is_pattern(secret: str) -> bool:
    """One piece over and over, or mostly the alphabet or digits in their order."""
    if any(secret[size:] == secret[:-size] for size in range(1, len(secret) // 2 + 1)):
        return True
    steps = Counter(ord(after) - ord(before) for before, after in pairwise(secret))
    return max(steps[step] for step in (-1, 0, 1)) * 2 > len(secret)


def _is_example(secret: str) -> bool:
    """Words such as `your-secret-key` make up most of its letters."""
    words = _EXAMPLE.findall(secret.lower())
    return bool(words) and sum(map(len, words)) * 2 > sum(map(str.isalpha, secret))
