"""What is held back until it can be judged, and how little that is."""

from __future__ import annotations

import pytest

from proxy.filters.candidates import begins, ends
from proxy.filters.words import ordinary

BEGINS = {
    "plain words, nothing else. Done!": "",
    "order 12": "12",
    "ask john.smith": "john.smith",
    "ask the.boss": "boss",
    "mail john": "john",
    "password is hunter": "is hunter",
    "x = zvalue": "zvalue",
    'say "hello': "",
    "the API": "API",
    "myName": "Name",
    "kowName": "kowName",
    "table_case": "_case",
    "sk-live": "sk-live",
    "gh": "gh",
    "please +4": "+4",
    "please -": "-",
    "to by@c": "@c",
    "to bob@c": "bob@c",
}
ENDS = {
    ("12 a", False): 2,
    ("12 ", False): None,
    ("12 3", False): None,
    ("12 3", True): 4,
    ("(415) 555-2671, x", False): 14,
    ("12) x", False): 2,
    ("(+49 30) x", False): 7,
    ("DE89 3704 abcde", False): 9,
    ("DE89 37", False): None,
    ("DE89 ", True): 4,
    ("a.b@c.test next", False): 10,
}


@pytest.mark.parametrize(("text", "held"), BEGINS.items())
def test_only_what_may_be_a_beginning_is_held(text: str, held: str) -> None:
    assert text[begins(text, 0, ordinary()) :] == held


@pytest.mark.parametrize(("case", "end"), ENDS.items(), ids=str)
def test_what_began_is_over_where_nothing_can_follow(case: tuple[str, bool], end: int | None) -> None:
    text, final = case
    assert ends(text, 0, final=final)[0] == end
