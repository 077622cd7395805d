"""A signed token taken apart: JWS compact serialisation (RFC 7515 section 7.1). Whether the signature is good, and what
the header may ask for, is judged elsewhere.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


class Malformed(ValueError):
    """It is no such token. Says what is wrong, and never what was in it."""


@dataclass(frozen=True, slots=True)
class Jws:
    """The parts. `signed` is what the signature is over."""

    header: Mapping[str, object]
    payload: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse(token: str) -> Jws:
    """Take it apart. Raises Malformed. Of a name that is twice in the header, the last one counts (section 4)."""
    parts = token.split(".", 3)
    if len(parts) != 3:
        raise Malformed("not three parts")
    header, payload, signature = map(_decoded, parts)
    try:
        fields = orjson.loads(header)
    except orjson.JSONDecodeError:
        raise Malformed("the header is not JSON") from None
    if not isinstance(fields, dict):
        raise Malformed("the header is no object")
    return Jws(fields, payload, f"{parts[0]}.{parts[1]}".encode(), signature)


def _decoded(part: str) -> bytes:
    """Exactly one text stands for each value: no padding, no other characters, no stray bits at the end."""
    if not _BASE64URL.fullmatch(part) or len(part) % 4 == 1:
        raise Malformed("not base64url")
    value = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(value).rstrip(b"=").decode() != part:
        raise Malformed("not the canonical base64url")
    return value
