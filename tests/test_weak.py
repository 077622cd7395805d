"""Which secrets are weak, and that random ones never are."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Callable

import pytest

from proxy.weak import suspicion, weakness

STRONG = [
    "correct horse battery staple, and then some more",
    "secret_" + "Zk4vQ9xW2mB7hT1nC8sJ5dL0gR3fYpEa",
    "9f8e1c7a40b6d25339f01ce8b7a4d652",
]


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("", "shorter than 32 bytes"),
        ("Zk4vQ9xW2mB7hT1nC8sJ5dL0gR3fYpE", "shorter than 32 bytes"),
        ("change-me-in-production-please-do-it", "an example"),
        ("CHANGEME" * 8, "an example"),
        ("your-super-secret-jwt-key-here-2024-long", "an example"),
        ("your_session_secret_key_min_32_chars!", "an example"),
    ],
)
def test_a_secret_that_nobody_should_trust_is_weak(secret: str, fault: str) -> None:
    found = weakness(secret)
    assert found is not None
    assert fault in found


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("a" * 64, "too few different characters"),
        ("abcabca" * 9, "too few different characters"),
        ("hunter2!" * 4, "a pattern"),
        ("hunter2!" * 4 + "hunt", "a pattern"),
        ("abcdefghijklmnopqrstuvwxyz0123456789", "a pattern"),
        ("12345678901234567890123456789012", "a pattern"),
        ("zyxwvutsrqponmlkjihgfedcba9876543210", "a pattern"),
        ("thisisaverylongsecretkeyfordevelopment", "made of words"),
        ("SuperSecretPassword1234567890!@#$%^", "made of words"),
        ("qwertyuiopasdfghjklzxcvbnm1234567890", "made of words"),
    ],
)
def test_a_secret_that_could_be_guessed_is_suspicious_and_no_more(secret: str, fault: str) -> None:
    assert weakness(secret) is None
    found = suspicion(secret)
    assert found is not None
    assert fault in found


@pytest.mark.parametrize("secret", STRONG)
def test_a_secret_that_could_not_be_guessed_is_not(secret: str) -> None:
    assert weakness(secret) is suspicion(secret) is None


def test_random_secrets_of_every_usual_form_are_strong() -> None:
    makers: list[Callable[[], str]] = [
        lambda: secrets.token_hex(16),
        lambda: secrets.token_hex(32),
        lambda: secrets.token_urlsafe(24),
        lambda: base64.b64encode(secrets.token_bytes(48)).decode(),
        lambda: str(uuid.uuid4()),
        lambda: "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(32)),
    ]
    assert [suspicion(make()) for make in makers for _ in range(300)] == [None] * 1800


def test_bytes_count_not_characters() -> None:
    assert weakness("ключдлинойвшестнадцатьб") is None
