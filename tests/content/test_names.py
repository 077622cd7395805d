"""Which names of fields announce their values."""

from __future__ import annotations

import pytest

from proxy.content.names import announcement


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("phone", "phone: "), ("customerPhone", "customer Phone: "), ("bank_account", "bank account: "),
        ("accountNumber", "account Number: "), ("api-key", "api key: "), ("user.password", "user password: "),
        ("SSN", "SSN: "), ("Telefonnummer", "Telefonnummer: "),
    ],
)  # fmt: skip
def test_a_name_in_any_spelling_becomes_words(name: str, said: str) -> None:
    assert announcement(name) == said


@pytest.mark.parametrize("name", ["", "account", "key", "contact", "orderId", "microphones", "x" * 80 + " phone"])
def test_a_name_that_says_nothing_announces_nothing(name: str) -> None:
    assert announcement(name) == ""
