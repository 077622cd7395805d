"""What a fingerprint depends on."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.guard.fingerprint import Level, fingerprint, network
from tests.clients import client

KEY = b"k" * 32
OTHER: dict[str, dict[str, Any]] = {
    "browser": {"user_agent": "curl/8"},
    "language": {"language": "fr"},
    "network": {"ip": "198.51.100.1"},
}


@pytest.mark.parametrize(
    ("level", "seen"),
    [("off", set()), ("standard", {"browser", "language"}), ("strict", {"browser", "language", "network"})],
)
def test_each_level_sees_what_it_says(level: Level, seen: set[str]) -> None:
    usual = fingerprint(client(), KEY, level)
    assert {name for name, facts in OTHER.items() if fingerprint(client(**facts), KEY, level) != usual} == seen


def test_a_neighbouring_address_and_another_quality_of_the_same_language_change_nothing() -> None:
    assert fingerprint(client(), KEY, "strict") == fingerprint(
        client(ip="192.0.2.200", language="de-DE;q=1"), KEY, "strict"
    )


def test_another_key_gives_another_fingerprint() -> None:
    assert fingerprint(client(), KEY, "standard") != fingerprint(client(), b"x" * 32, "standard")


def test_a_copied_browser_has_the_same_fingerprint() -> None:
    """What it doesn't stop: whoever copies the headers too."""
    thief = client(ip="198.51.100.1", request_id="r2")
    assert fingerprint(thief, KEY, "standard") == fingerprint(client(), KEY, "standard")


@pytest.mark.parametrize(
    ("ip", "net"), [("192.0.2.7", "192.0.2.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("unknown", "unknown")]
)
def test_networks(ip: str, net: str) -> None:
    assert network(ip) == net
