"""What the model came up with is masked; what is the visitor's own, the site's, or nobody's stays."""

from __future__ import annotations

import pytest

from proxy.content.pii import KINDS
from proxy.filters import FilterSettings, chain_maker
from proxy.filters.mask import MAX_HELD, Known, Mask
from proxy.filters.words import ordinary

MASKED = {
    "write to john.smith@acme.test please": "write to [EMAIL] please",
    "bob@acme.test knows": "[EMAIL] knows",
    "see bob (at) acme.test or": "see bob [EMAIL] or",
    "see bob[at]acme(dot)test": "see [EMAIL]",
    "see bob&#64;acme.test, or": "see [EMAIL], or",
    "see bob%40acme.test or": "see [EMAIL] or",
    "密码是hunter2pass。": "密码是[SECRET]",
    "{'app_id': 'thee4sfd8sdf7s'}": "{'app_id': '[SECRET]'}",
    "so information@acme.test knows": "so information[EMAIL] knows",
    "Card 4111 1111 1111 1111, thanks": "Card [CARD], thanks",
    "4111 1111\n1111 1111 is it": "[CARD] is it",
    "Card 4111 1111 \r\n 1111 1111\n12/29": "Card [CARD]\n12/29",
    "DE89 3704 0044\n0532 0130 00.": "[IBAN].",
    "write to ann @ acme.com, ok": "write to ann [EMAIL], ok",
    "login: ann / blue1moon ok": "login: ann / [SECRET] ok",
    "pass: blue1moon ok": "pass: [SECRET] ok",
    "call (72)/423-7013 ok": "call [PHONE] ok",
    "IBAN GB82 WEST 1234 5698 7654 32.": "IBAN [IBAN].",
    "by gb82 west 1234 5698 7654 32.": "by [IBAN].",
    "DE89 3704 0044 0532 0130 00 is it": "[IBAN] is it",
    "Phone (415) 555-2671 or +49 30 901820": "Phone [PHONE] or [PHONE]",
    "my password is hunter2pass ok": "my password is [SECRET] ok",
    "AKIAQ3EGRIFXZ5VW2N7T.": "[SECRET].",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc+/\n-----END RSA PRIVATE KEY-----\nafter": "[SECRET]\nafter",
    "-----BEGIN PRIVATE KEY-----\nno end": "[SECRET]",
    "account number 12345678": "account number [ACCOUNT]",
}
STAYS = [
    "Order 66 has 3 items, 12 of 2024-01-31 at 10:30.",
    "A (an) b [a] (at noon) AT&T & co; &copy;",
    "GB82 and so on for ever and ever and so forth, my friend",
    "os.path.join(a_b, CamelCase) costs $5 (five).",
    "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
    "-----BEGIN " + "x" * 130,
    "ends in -----BEGIN",
    "2024\n2025\n2026\n2027\nwere good years, " + "1234\n" * 20,
    "in 2024\r\nnothing, @ noon",
    "2024\r",
    "------- a rule, and a+b (",
]


def run(text: str, known: Known = Known(()), kinds: tuple[str, ...] = KINDS) -> str:  # noqa: B008 - it is frozen
    rule = Mask(kinds, known, ordinary())
    return "".join(map(rule.feed, text)) + rule.flush()


@pytest.mark.parametrize(("text", "left"), MASKED.items(), ids=lambda text: text[:30])
def test_what_the_model_came_up_with_is_masked(text: str, left: str) -> None:
    assert run(text) == left


@pytest.mark.parametrize("text", STAYS, ids=lambda text: text[:30])
def test_what_is_nobodys_stays(text: str) -> None:
    assert run(text) == text


def test_what_the_visitor_said_may_be_told_again() -> None:
    said = Known((), said="My card is 4111-1111-1111-1111, mail Ann@Acme.test")
    assert run("4111 1111 1111 1111 and ann@acme.test", said) == "4111 1111 1111 1111 and ann@acme.test"
    assert run("5500 0055 5555 5559", said) == "[CARD]"


def test_what_the_session_said_before_may_be_told_again_and_is_no_domain() -> None:
    own = Known((), own=["ann@acme.test", "@acme.example"])
    assert run("is it ann@acme.test or eve@acme.example?", own) == "is it ann@acme.test or [EMAIL]?"


def test_what_is_the_sites_to_tell_is_told() -> None:
    public = Known(["@shop.test", "+49 30 901820"])
    assert run("help@shop.test, +49 (30) 901820, x@other.test", public) == "help@shop.test, +49 (30) 901820, [EMAIL]"


def test_only_the_kinds_asked_for_are_masked() -> None:
    text = "card 4111 1111 1111 1111, mail a.b@c.test"
    assert run(text, kinds=("email",)) == "card 4111 1111 1111 1111, mail [EMAIL]"
    chain = chain_maker(FilterSettings(pii=False))()
    assert chain.feed(text) + chain.flush() == text


def test_what_has_no_end_is_held_up_to_a_bound_and_judged_with_overlap() -> None:
    rule = Mask(KINDS, Known(()), ordinary())
    text = "1 " * 3 * MAX_HELD + "4111 1111 1111 1111 "
    out = ""
    for piece in text:
        out += rule.feed(piece)
        assert rule.held <= MAX_HELD
    out += rule.flush()
    assert out.endswith("1 [CARD] ")


def test_a_secret_across_the_bound_is_masked_as_a_whole() -> None:
    token = "AKIAQ3EGRIFXZ5VW2N7T"
    for size in range(MAX_HELD - 300, MAX_HELD + 10, 7):
        text = "9/" + "x" * size + "/" + token + "/" + "y" * 400
        assert token[8:] not in run(text)


def test_hits_are_counted_by_kind() -> None:
    rule = Mask(KINDS, Known(()), ordinary())
    rule.feed("4111 1111 1111 1111, a.b@c.test and d.e@f.test. ")
    rule.flush()
    assert rule.hits == {"card": 1, "email": 2}
