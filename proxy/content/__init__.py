"""What text is: normal forms, rules, scores, personal data, markup. Pure: no IO, no clock, no logging.

Whether a message may pass is the guard's to say (guard/content.py), what may leave the filters'. Positions are in
Python characters of the text as it came.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of a text, `text[start:end]`, and its kind: card, iban, account, phone, email, ssn, policy, secret."""

    start: int
    end: int
    kind: str
