"""What is masked of labelled texts, and what is left: a rate that falls by more than a point fails here.

Rates are in per cent of spans (personal data), of rows with a hit (secrets) and of rows with a false one.
"""

from __future__ import annotations

import pytest

from proxy.content.pii import find
from tests.corpora import labelled

KINDS = {
    "CREDIT_CARD": "card",
    "IBAN": "iban",
    "EMAIL": "email",
    "SSN": "ssn",
    "PHONE": "phone",
    "BANK_ACCOUNT": "account",
    "INSURANCE_ID": "policy",
}
SETS = (
    "pii_cards", "pii_iban", "pii_email_ssn", "pii_phones", "pii_bank_insurance",
    "pii_presidio_large", "pii_presidio_synth", "pii_presidio_tests",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "least"),
    [("card", 100), ("iban", 100), ("email", 100), ("ssn", 100), ("phone", 99), ("account", 100), ("policy", 97)],
)
def test_so_many_spans_are_masked(kind: str, least: float) -> None:
    total = masked = 0
    for name in SETS:
        for row in labelled(name, "mask"):
            found = [span for span in find(row.text) if span.kind == kind]
            for start, end, type_ in row.spans:
                if KINDS.get(type_) == kind:
                    total += 1
                    masked += any(span.start <= start and end <= span.end for span in found)
    assert total > 20
    assert 100 * masked / total >= least - 1


@pytest.mark.parametrize(("is_core", "least"), [(True, 100), (False, 97)])
def test_so_many_secrets_are_found(is_core: bool, least: float) -> None:
    texts = [row.text for row in labelled("secrets_gitleaks", "mask") if row.is_core == is_core]
    found = sum(bool(find(text, kinds=["secret"])) for text in texts)
    assert 100 * found / len(texts) >= least - 1


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("pii_fp_numbers", 1.0),
        ("benign_support_banking77", 0),
        ("benign_multilingual", 0),
        ("spam_sms_ham", 0),
        ("benign_tech_irc", 0),
        ("benign_tech_so", 0),
        ("benign_hard_security", 0),
        ("benign_notinject", 0),
        ("benign_wildguard", 0),
        ("pii_presidio_large", 0),
        ("pii_presidio_synth", 0),
        ("pii_presidio_tests", 1.1),
        ("secrets_gitleaks_fp", 1.8),
    ],
)
def test_so_few_texts_without_any_are_masked(name: str, most: float) -> None:
    texts = [row.text for row in labelled(name, "allow")]
    assert 100 * sum(bool(find(text)) for text in texts) / len(texts) <= most
