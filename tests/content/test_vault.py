"""Placeholders: what they stand for, in one session only, and what can't be put back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content.pii import KINDS
from proxy.content.vault import MAX_CHARS, MAX_VALUES, Broken, Masker, Safe, Vault, restored

CARD = "4556737586899855"


def masker(vault: Vault | None = None) -> Masker:
    return Masker(KINDS, (), vault)


def test_the_same_value_has_the_same_placeholder_and_the_next_one_the_next_number() -> None:
    vault = Vault()
    assert masker(vault).text(f"ann@shop.org, bob@shop.org, {CARD}") == "[EMAIL_1], [EMAIL_2], [CARD_1]"
    assert masker(vault).text(f"bob@shop.org Ann@Shop.org {CARD[:4]} {CARD[4:8]} {CARD[8:12]} {CARD[12:]}") == (
        "[EMAIL_2] [EMAIL_1] [CARD_1]"
    )
    assert vault.values() == {"[EMAIL_1]": "ann@shop.org", "[EMAIL_2]": "bob@shop.org", "[CARD_1]": CARD}


def test_secrets_that_differ_in_capitals_are_two() -> None:
    vault = Vault()
    assert masker(vault).text("password: hunter2x password: Hunter2x") == "password: [SECRET_1] password: [SECRET_2]"


def test_what_looks_like_a_placeholder_comes_back_as_it_was_typed() -> None:
    vault = Vault()
    text = r"is [EMAIL_1] or \[CARD\_2\] mine? ann@shop.org [FAQ_1] [note]"
    masked = masker(vault).text(text)
    assert masked == "is [LITERAL_1] or [LITERAL_2] mine? [EMAIL_1] [FAQ_1] [note]"
    assert restored(masked, vault.values()) == text


def test_what_looks_like_a_placeholder_once_invisible_characters_are_gone_is_one_too() -> None:
    vault = Vault()
    text = "[EMAIL_1] and [EMA\u200bIL_1]\u00ad and ［EMAIL_1］, ann@shop.org"
    masked = masker(vault).text(text)
    assert masked == "[LITERAL_1] and [LITERAL_2]\u00ad and [LITERAL_3], [EMAIL_1]"
    assert restored(masked, vault.values()) == text


def test_what_a_visitor_types_like_a_placeholder_in_other_capitals_is_none_either() -> None:
    vault = Vault()
    text = r"[email_1] [Email_1\] \[CARD_1] ann@shop.org"
    masked = masker(vault).text(text)
    assert masked == r"[LITERAL_1] [LITERAL_2] \[LITERAL_3] [EMAIL_1]"
    assert restored(masked, vault.values()) == text


def test_kinds_are_counted_and_look_alikes_are_none() -> None:
    one = masker(Vault())
    one.text("ann@shop.org ann@shop.org [EMAIL_1]")
    one.value({"a": "bob@shop.org"})
    assert one.counts == {"email": 3, "literal": 0}


def test_without_a_vault_there_is_no_way_back() -> None:
    assert masker().text(f"{CARD} ann@shop.org [EMAIL_1]") == "[CARD] [EMAIL] [EMAIL_1]"


def test_a_full_vault_masks_one_way() -> None:
    vault = Vault([("email", f"a{number}@shop.org") for number in range(MAX_VALUES)])
    assert not vault.is_changed
    assert masker(vault).text("a0@shop.org new@shop.org [CARD_9]") == "[EMAIL_1] [EMAIL] [CARD_9]"
    vault = Vault([("secret", "x" * (MAX_CHARS - 5))])
    assert masker(vault).text("ann@shop.org") == "[EMAIL]"


def test_context_is_masked_through_and_through() -> None:
    vault = Vault()
    value = {"ann@shop.org": [int(CARD), True, None, 7, 1.5, {"x": "to bob@shop.org"}], "page": "/cart"}
    assert masker(vault).value(value) == {
        "[EMAIL_1]": ["[CARD_1]", True, None, 7, 1.5, {"x": "to [EMAIL_2]"}],
        "page": "/cart",
    }


def test_a_fields_name_announces_what_is_in_it() -> None:
    fields = {
        "phoneNumber": 5551234, "contact": {"mobile": ["555 1234"]}, "bank_account": "12345678", "ssn": 536904399,
        "secret": "hunter2x and more", "api-key": "x8Fj29dkWq0", "policy number": "AB-123456",
    }  # fmt: skip
    assert masker(Vault()).fields(fields) == {
        "phoneNumber": "[PHONE_1]", "contact": {"mobile": ["[PHONE_1]"]}, "bank_account": "[ACCOUNT_1]",
        "ssn": "[SSN_1]", "secret": "[SECRET_1] and more", "api-key": "[SECRET_2]",
        "policy number": "[POLICY_1]",
    }  # fmt: skip


def test_all_of_a_password_field_is_a_secret() -> None:
    fields = {"password": "correct horse", "passcode": 1234, "pwd": " ", "newPassword": None, "old_password": ["a", ""]}
    assert masker(Vault()).fields(fields) == {
        "password": "[SECRET_1]", "passcode": "[SECRET_2]", "pwd": " ", "newPassword": None,
        "old_password": ["[SECRET_3]", ""],
    }  # fmt: skip
    assert Masker(["email"], (), None).fields({"password": "correct horse"}) == {"password": "correct horse"}


@pytest.mark.parametrize("vault", [None, Vault()])
def test_no_field_is_lost_when_two_names_become_one(vault: Vault | None) -> None:
    fields = {"ann@shop.org": 1, "Ann@shop.org": 2, "page": 3, "ANN@shop.org": 4}
    masked = masker(vault).fields(fields)
    assert list(masked.values()) == [1, 2, 3, 4]
    assert "shop.org" not in str(masked)


def test_a_fields_name_hides_nothing_that_is_found_without_it() -> None:
    fields = {"token": "ann@shop.org", "phone": f"0170 1234567, {CARD}, ann@shop.org, [EMAIL_1]", "order": CARD}
    assert masker(Vault()).fields(fields) == {
        "token": "[EMAIL_1]",
        "phone": "[PHONE_1], [CARD_1], [EMAIL_1], [LITERAL_1]",
        "order": "[CARD_1]",
    }


@pytest.mark.parametrize(
    "name", ["account", "account_id", "contact", "registeredAt", "key", "productKey", "id", "code"]
)
def test_a_name_that_may_mean_a_thing_announces_nothing(name: str) -> None:
    for value in ("4711234", 1700000000, "blue-shirt-42xl", "a81f-22c0-77de"):
        assert masker(Vault()).fields({name: value}) == {name: value}


def test_a_sealed_vault_opens_for_its_own_session_and_key_alone() -> None:
    safe, vault = Safe(b"k" * 32), Vault([("email", "ann@shop.org"), ("card", CARD)])
    sealed = safe.seal("shop", "s1", vault)
    assert b"ann" not in sealed
    assert safe.open("shop", "s1", sealed).values() == vault.values()
    for site, session, data in (
        ("shop", "s2", sealed),
        ("blog", "s1", sealed),
        ("sho", "ps1", sealed),
        ("shop", "s1", sealed[:-1]),
        ("shop", "s1", b""),
        ("shop", "s1", bytes([sealed[0] ^ 1]) + sealed[1:]),
    ):
        with pytest.raises(Broken):
            safe.open(site, session, data)
    with pytest.raises(Broken):
        Safe(b"l" * 32).open("shop", "s1", sealed)


def test_a_vaults_name_tells_sessions_apart_and_nothing_of_them() -> None:
    safe = Safe(b"k" * 32)
    names = {safe.name("shop", "s1"), safe.name("shop", "s2"), safe.name("blog", "s1"), safe.name("sho", "ps1")}
    assert len(names) == 4
    assert all(len(name) == 40 for name in names)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [CARD, "ann@shop.org", "[EMAIL_1]", "[", "EMAIL", "_1]", r"\[CARD_1\]", "pw: a1b2c3d4", "[CARD_", "\\"]
            ),
            st.text(max_size=6),
        ),
        max_size=12,
    ).map("".join)
)
def test_a_masked_text_restored_is_the_text_that_was_typed(text: str) -> None:
    vault = Vault()
    assert restored(masker(vault).text(text), vault.values()).casefold() == text.casefold()
