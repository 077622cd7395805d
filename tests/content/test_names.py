"""Which names of fields announce their values."""

from __future__ import annotations

import pytest

from proxy.content.names import announcement, is_password


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


@pytest.mark.parametrize("name", ["password", "newPassword", "user_passwd", "PWD", "Passwort", "password_confirmation"])
def test_a_field_of_a_password_is_one(name: str) -> None:
    assert is_password(name)


@pytest.mark.parametrize("name", ["", "passwordHint", "forgotPassword", "hasPassword", "passport", "pass"])
def test_a_field_about_a_password_is_none(name: str) -> None:
    assert not is_password(name)
