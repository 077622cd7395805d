"""What a field's name says of its value: `{"phoneNumber": "5551234"}` is as clear as "phone number: 5551234".

Only names that mean one kind and nothing else count, so `account`, `contact` and `key` don't: behind those, pages keep
the customer's number, a time and the name of a thing.
"""

from __future__ import annotations

import re

_PARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_.\s-]+")
# All of these are words that content/hints.py or content/secrets.py knows.
_SAYS = re.compile(
    r"(?:tele)?phone\b|\b(?:tel|mobile|cell|fax|whats ?app)\b|\b(?:telefon|handy|m[oó]vil|celular)"
    r"|\b(?:bank|iban|konto) ?(?:account|number|nummer|nr|no)\b|\baccount (?:number|no|nr)\b"
    r"|\b(?:policy|insurance|member) (?:policy|number|no|nr)\b|\bssn\b|\bsocial security\b"
    r"|\bpass(?:word|wort|wd|phrase|code)|\bpwd\b|\bkennwort|\bcontrase|\bsenha\b|\bsecret\b|\btoken\b"
    r"|\b(?:api|access|auth|private|secret) ?key\b|\bcredential",
    re.IGNORECASE,
)
# Whatever is behind these is a password, also one that looks like a word.
_PASSWORD = re.compile(
    r"(?:(?:user|account|login|admin|new|old|current) )?"
    r"(?:pass(?:word|wort|wd|phrase|code)|pwd|kennwort|contrase[ñn]a|senha)(?: confirmation)?",
    re.IGNORECASE,
)
MAX_CHARS = 64  # of a name


def is_password(name: str) -> bool:
    return _PASSWORD.fullmatch(_words(name)) is not None


def announcement(name: str) -> str:
    """The words to put in front of the value for content/pii.py to see; "" where the name says nothing."""
    words = _words(name)
    return f"{words}: " if _SAYS.search(words) else ""


def _words(name: str) -> str:
    return _PARTS.sub(" ", name[:MAX_CHARS])
