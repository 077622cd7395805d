"""Taking signed tokens apart: one text for one token, and nothing else is one."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.jws import Malformed, parse


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


@settings(deadline=None)
@given(header=st.dictionaries(st.text(), st.text()), payload=st.binary(), signature=st.binary())
def test_what_was_put_together_is_taken_apart(header: dict[str, str], payload: bytes, signature: bytes) -> None:
    head, body = encoded(json.dumps(header).encode()), encoded(payload)
    jws = parse(f"{head}.{body}.{encoded(signature)}")
    assert (jws.header, jws.payload, jws.signature) == (header, payload, signature)
    assert jws.signed == f"{head}.{body}".encode()


@settings(deadline=None)
@given(st.text())
def test_nothing_but_malformed_is_raised(text: str) -> None:
    for token in (text, f"e30.{text}.", f"{text}..", f"e30..{text}"):
        with suppress(Malformed):
            assert parse(token).header == {}


GOOD = "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"


@pytest.mark.parametrize(
    "token",
    [
        "", "e30", "e30.e30", f"{GOOD}.", f"{GOOD}.x.y", "e30.e30.AA==", "e30.e30.A+/A", "e30.e30.AA AA",
        "e30.e30.AA\n", "e30.e30.A", "e30.e30.AB", "e30.e30.ÄÄÄÄ", "e31.e30.AAAA", ".e30.AAAA",
        f"{encoded(b'[]')}.e30.AAAA",
        f"{encoded(b'not json')}.e30.AAAA", f"{encoded(bytes([0xFF, 0xFE]))}.e30.AAAA",
    ],
)  # fmt: skip
def test_what_is_no_token_is_malformed(token: str) -> None:
    with pytest.raises(Malformed):
        parse(token)


def test_the_last_of_two_equal_names_counts() -> None:
    twice = encoded(b'{"alg": "none", "alg": "ES256"}')
    assert parse(f"{twice}..").header == {"alg": "ES256"}


def test_a_repr_shows_nothing_of_what_is_signed() -> None:
    assert "hunter2" not in repr(parse(f"e30.{encoded(b'hunter2')}.{encoded(b'hunter2')}"))
