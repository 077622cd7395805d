"""What a fingerprint is made of, and what counts as another browser."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.guard.fingerprint import PARTS, changes, fingerprint, is_other_browser, lacks_device, network
from proxy.model import Facts
from tests.clients import client

KEY = b"k" * 32
FACTS = Facts("Chrome 131\0Linux\0?0", "d1", "t13d1516h2", "de", "3320")
OTHER: dict[str, dict[str, Any]] = {
    "browser": {"user_agent": "curl/8"},
    "language": {"language": "fr"},
    "hints": {"facts": Facts("Chrome 132\0Linux\0?0", "d1", "t13d1516h2", "de", "3320")},
    "address": {"ip": "192.0.2.200"},
    "network": {"ip": "198.51.100.1"},
    "country": {"facts": Facts(FACTS.hints, "d1", "t13d1516h2", "fr", "3320")},
    "asn": {"facts": Facts(FACTS.hints, "d1", "t13d1516h2", "de", "1")},
    "tls": {"facts": Facts(FACTS.hints, "d1", "other", "de", "3320")},
    "device": {"facts": Facts(FACTS.hints, "d2", "t13d1516h2", "de", "3320")},
}


def taken(level: Any = "standard", key: bytes = KEY, **facts: Any) -> str:
    return fingerprint(client(**{"facts": FACTS} | facts), key, level)


@pytest.mark.parametrize(("name", "facts"), OTHER.items(), ids=OTHER.keys())
def test_each_fact_changes_its_own_part(name: str, facts: dict[str, Any]) -> None:
    also = {"network": {"address", "network"}, "language": {"browser"}}.get(name, {name})
    assert changes(taken(), taken(**facts)) == also


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("off", set()),
        ("standard", {"browser", "language", "hints"}),
        ("strict", {"browser", "language", "hints", "network"}),
    ],
)
def test_each_level_refuses_what_it_says(level: Any, seen: set[str]) -> None:
    usual = taken(level)
    assert not is_other_browser(usual, usual, level)
    assert {name for name, facts in OTHER.items() if is_other_browser(usual, taken(level, **facts), level)} == seen


def test_what_one_of_both_doesnt_say_is_no_change() -> None:
    assert changes(taken(), taken(facts=Facts())) == changes(taken(facts=Facts()), taken()) == frozenset()


def test_a_value_of_the_pages_that_is_missing_is_seen() -> None:
    with_it, without = taken(), taken(facts=Facts())
    assert lacks_device(with_it, without)
    for before, now in ((without, without), (without, with_it), (with_it, with_it), ("", without)):
        assert not lacks_device(before, now)


@given(st.text(alphabet="ab.", max_size=12))
def test_what_is_no_fingerprint_is_another_browsers(before: str) -> None:
    assert is_other_browser(before, taken(), "standard") or before.count(".") == len(PARTS) - 1


def test_another_quality_of_the_same_language_changes_nothing() -> None:
    assert taken() == taken(language="de-DE;q=1")


def test_another_key_gives_another_fingerprint() -> None:
    assert changes(taken(), taken(key=b"x" * 32)) == frozenset(PARTS)


def test_a_fingerprint_shows_nothing_of_what_it_was_taken_from() -> None:
    for word in ("Mozilla", "192.0.2", "de", "d1", "3320"):
        assert word not in taken().split(".")


def test_header_bytes_that_are_no_text_are_told_apart_too() -> None:
    assert changes(taken(user_agent="\udcff"), taken(user_agent="\udcfe")) == {"browser"}


def test_a_copied_browser_in_the_same_network_changes_its_address_alone() -> None:
    """What it doesn't stop: whoever copies the headers too."""
    assert changes(taken(), taken(ip="192.0.2.66", request_id="r2")) == {"address"}


@pytest.mark.parametrize(
    ("ip", "net"), [("192.0.2.7", "192.0.2.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("unknown", "unknown")]
)
def test_networks(ip: str, net: str) -> None:
    assert network(ip) == net
