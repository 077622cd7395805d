"""Where personal data is in a text, of which kind, and what isn't any."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content.checksums import luhn
from proxy.content.pii import KINDS, find

CARD, AMEX, DINERS, LONG_VISA = "4556737586899855", "371449635398431", "30569309025904", "4929720186344325198"
IBAN, BRITISH = "DE89370400440532013000", "GB82WEST12345698765432"


def found(text: str, **more: list[str]) -> list[tuple[str, str]]:
    return [(text[span.start : span.end], span.kind) for span in find(text, **more)]


def only(text: str, value: str, kind: str) -> None:
    assert found(text) == [(value, kind)]


def nothing(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "card",
    [
        CARD, AMEX, DINERS, LONG_VISA, "5019717010103742", "4222222222222", "6304000000000000",
        "4556 7375 8689 9855", "4556-7375-8689-9855", "4556.7375.8689.9855", "4556\u00a07375\u00a08689\u00a09855",
        "3714 496353 98431", "4929 7201 8634 4325 198", "45567375 86899855", "4 5 5 6 7 3 7 5 8 6 8 9 9 8 5 5",
        "４５５６７３７５８６８９９８５５",
        "٤٥٥٦٧٣٧٥٨٦٨٩٩٨٥٥", "4556\u200b7375\u200b8689\u200b9855", "4556–7375–8689–9855",
        "4556_7375_8689_9855", "4556  7375  8689  9855", "4556 - 7375 - 8689 - 9855", "4556·7375·8689·9855",
        "4556\n7375\n8689\n9855", "4556 7375\n8689 9855", "4556 7375 \r\n 8689 9855", "4556 7375  8689 9855",
        "3714\n496353 98431", "4929 7201 8634\n4325 198",
        "3714_496353_98431", "4929,7201,8634,4325,198",
    ],
)  # fmt: skip
def test_a_card_is_found_however_it_is_grouped_and_in_any_digits(card: str) -> None:
    only(f"please charge {card}, thanks", card, "card")


@settings(deadline=None)
@given(
    st.sampled_from([("4", 16), ("4", 13), ("4", 19), ("51", 16), ("2720", 16), ("37", 15), ("36", 14), ("5018", 12)]),
    st.text("0123456789", min_size=18, max_size=18),
    st.sampled_from(["", " ", "-", ".", "\u00a0", "_", " - ", "\n", "·"]),
)
def test_any_card_of_a_brand_is_found(brand: tuple[str, int], digits: str, apart: str) -> None:
    beginning, length = brand
    number = (beginning + digits)[: length - 1]
    number += next(digit for digit in "0123456789" if luhn(number + digit))
    sizes = [4, 6, 5] if length in (14, 15) else [4] * 5
    at = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
    card = apart.join(number[start:end] for start, end in pairwise(at) if number[start:end])
    only(f"the card {card}, please", card, "card")


def test_a_card_that_is_broken_over_lines_ends_where_it_ends() -> None:
    only("4556 7375\n8689 9855 12/27", "4556 7375\n8689 9855", "card")
    only("4556 7375\n8689 9855 123", "4556 7375\n8689 9855", "card")
    nothing("2019 2020\n2021 2022 and 4556 7375\n8689 9856")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (CARD, "card"),
        ("4556 7375 8689 9855", "card"),
        ("536-90-4399", "ssn"),
        ("+49 170 1234567", "phone"),
        (IBAN, "iban"),
    ],
)
@pytest.mark.parametrize(
    "around", ["_{}_", "__{}__", "scan_{}_front.png", "我的{}的", "その{}です", "내 {}로", "هنا{}شكرا"]
)
def test_a_number_is_found_between_underscores_and_where_a_script_has_no_blanks(
    value: str, kind: str, around: str
) -> None:
    only(f"see {around.format(value)}", value, kind)


@pytest.mark.parametrize(
    ("before", "card"),
    [
        ("my card is ", "45567375\n86899855"), ("Kartennummer ", "455673 7586 8998 55"),
        ("tarjeta: ", "4556 737586 8998-55"),
        ("моя карта ", "455 673 758 689 985 5"), ("カード番号は", "4556737\n586899855"),
        ("credit card ", "4556 7375\n86899855 12"),
    ],
)  # fmt: skip
def test_behind_its_word_a_card_is_grouped_in_any_way(before: str, card: str) -> None:
    found_there = found(f"{before}{card}, thanks")
    assert found_there == [(card.removesuffix(" 12"), "card")]


def test_a_number_behind_the_word_that_is_no_card_is_left() -> None:
    for text in ("my card is 45567375\n86899856", "card 123456 7890 1234", "card 455673758689985512345"):
        assert "card" not in [kind for _, kind in found(text)]


def test_cards_in_a_row_are_told_apart() -> None:
    text = "4556737586899855 4556-7375-8689-9855 4556 7375 8689 9855"
    assert [kind for _, kind in found(text)] == ["card"] * 3
    assert found("4556 7375 8689 9855 3714 496353 98431") == [
        ("4556 7375 8689 9855", "card"),
        ("3714 496353 98431", "card"),
    ]


def test_a_card_right_behind_a_word_is_found() -> None:
    only("Visa4556737586899855", CARD, "card")
    only("卡号4556737586899855谢谢", CARD, "card")


def test_a_card_with_its_expiry_date_is_found() -> None:
    assert found("4556 7375 8689 9855 12/29")[0] == ("4556 7375 8689 9855", "card")


@pytest.mark.parametrize(
    "text",
    [
        "order 4556737586899856",  # a wrong check digit
        "article 1234567812345670",  # no issuer
        "4556, 7375, 8689, 9855",
        "4556:7375:8689:9855",
        "455673 7586 8998 5 5",  # groups of no card
        "AB4556737586899855",
        "4556737586899855kg",
        "order 585-9188213-1709861",  # 3-7-7, as shops have
        "7\n8209\n8210\n8239\n8240",
        "id_4556737586899855",
        "45567375868998551234",
        "378282246310005378282246310005",
    ],
)
def test_a_number_that_is_no_card_is_left(text: str) -> None:
    assert "card" not in [kind for _, kind in found(text)]


def test_a_number_of_a_thing_is_left_though_its_check_digit_is_right() -> None:
    nothing("article number 5252876078879647 is out of stock")
    nothing("the timestamp in the log is 4555577582637")
    only(f"order with card {CARD}", CARD, "card")
    only("the article, and 4556 7375 8689 9855", "4556 7375 8689 9855", "card")


@pytest.mark.parametrize(
    "iban",
    [
        IBAN, BRITISH, "de89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82-WEST-1234-5698-7654-32",
        "NO9386011117947", "DE89 3704\n0044 0532 0130 00", "DE89  3704 0044  0532 0130 00",
        "DE89 3704 0044 0532\r\n0130 00",
        "DE89.3704.0044.0532.0130.00", "DE89/3704/0044/0532/0130/00",
        "DE 89 3704 0044 0532 0130 00", "DE8 9370 400 44053 20130 00", "DE 8 9 370400440532013000",
        "MT84MALT011000012345MTLCAST001S", "FR14 2004 1010 0505 0001 3M02 606",
    ],
)  # fmt: skip
def test_an_iban_is_found(iban: str) -> None:
    only(f"pay to {iban} today", iban, "iban")
    only(f"IBAN:{iban}", iban, "iban")


@pytest.mark.parametrize(
    "text",
    [
        "part DE89370400440532013001", "part DE8937040044053201300", "part DE893704004405320130001",
        "part ZZ89370400440532013000",
        "part DE89 3704, 0044 0532 0130 00", "part DE89370400440532013000X", "part DE89_370400440532013000",
        "part DE89-", "NO 93 people saw 11 1179 and 7", "de 89 3704 0044 0532 0130 00",
        "DE 89-3704 0044 0532 0130 00",
        "GB 82 west one two three four five six seven",
    ],
)  # fmt: skip
def test_what_only_looks_like_an_iban_is_left(text: str) -> None:
    assert "iban" not in [kind for _, kind in found(text)]


@pytest.mark.parametrize(
    "email",
    [
        "ann@shop.example", "Ann.B+x@sub.shop.co.uk", "o'neil@shop.org", "_x@shop.org", "jürgen@müller.de",
        "иван@почта.рф",
        "ann.bee @ shop.org", "ann @shop.org", "ann@ shop.co.uk", "ann at shop dot org", "ann (at) shop dot org",
        "ann AT shop DOT org", "ann{at}shop.org", "ann@shop,org", "ann @ gmail . com", "ann arroba shop punto com",
        "ann arobase shop.fr", "ann at gmail.com",
        "ann.bee[at]shop.co [dot] uk", "ann [at] shop.org",
        "user@xn--80ak6aa92e.com", "ann (at) shop (dot) org", "ann[at]shop[dot]org", "ann＠shop.org",
    ],
)  # fmt: skip
def test_an_email_address_is_found(email: str) -> None:
    only(f"write to {email}, please", email, "email")
    only(f"<{email}>", email, "email")


def test_an_email_address_between_chinese_words_is_found() -> None:
    only("邮箱ann@shop.org谢谢", "ann@shop.org", "email")


@pytest.mark.parametrize(
    "email",
    [
        "ion@firma.md", "juan@empresa.com.py", "ann%40shop.org", "ann&#64;shop.org", "ann&commat;shop.org",
        "e\u0301va@cafe\u0301.fr", "ann@shop。org", "bounces+ann=shop.org@list.example", "ann&bob@shop.org",
    ],
)  # fmt: skip
def test_an_email_address_of_any_country_or_spelling_is_found(email: str) -> None:
    only(f"write to {email}, please", email, "email")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("-", ""), ("...", ""), ("%", ""), ("+", ""), ("", "-thanks"), ("", "-"), ("", ".png"), ("", ".pdf"),
        ("mail=", ""), ("https://shop.example/u?a=1&mail=", "&b=2"), ("https://shop.example/users/", "/edit"),
        ("mailto:", "?subject=x"), ("\\", "\\"), ("**", "**"), ("_", "_"),
    ],
)  # fmt: skip
def test_an_email_address_is_found_whatever_is_around_it(before: str, after: str) -> None:
    email = "ann.bee@shop.org"
    assert found(f"see {before}{email}{after} now") == [(email if before != "_" else f"_{email}", "email")]


@pytest.mark.parametrize(
    "text",
    [
        "ann@localhost",
        "info@shop.",
        "@ann",
        "git@github.com:ann/x.git",
        "logo@2x.png",
        "icon@3x.min.png",
        "video.example/@ann.bee",
        "https://www.video.example/watch/@ann.bee",
        "notes@work.txt",
        "a @ b.c",
        "npm i x@1.2.3",
        "look @ shop.com",
        "I look at gmail.com",
        "the account at gmail.com",
        "ann at shop.com",
        "3 @ shop.com",
        "meet me at shop dot com",
        "she points at the dot in it",
        "ann at shop.dot.x",
        "5 (at most)",
    ],
)
def test_what_has_an_at_sign_and_is_no_address_is_left(text: str) -> None:
    nothing(text)


def test_a_social_security_number_is_found() -> None:
    for number in ("536-90-4399", "536 90 4399"):
        only(f"it is {number}.", number, "ssn")
    only("my SSN is 536904399", "536904399", "ssn")
    assert found("SSN 536-90-4399 415-555-2671") == [("536-90-4399", "ssn")]


@pytest.mark.parametrize(
    "number",
    [
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "536-00-4399",
        "536-90-0000",
        "078-05-1120",
        "536-90 4399",
        "536.90.4399",
    ],
)
def test_a_social_security_number_that_was_never_given_out_is_left(number: str) -> None:
    assert "ssn" not in [kind for _, kind in found(f"it is {number}.")]


def test_a_phone_that_is_grouped_like_one_is_a_phone() -> None:
    only("call 536 90 4399", "536 90 4399", "phone")


def test_nine_digits_are_no_social_security_number_without_a_word() -> None:
    nothing("it is 536904399")
    nothing("my ssn is 666904399")


@pytest.mark.parametrize(
    ("before", "number"),
    [
        ("My account number is ", "80860263"), ("acct no. ", "65809932"), ("Kontonummer: ", "28173169"),
        ("Número de cuenta ", "76615573796"), ("номер счёта ", "40817810099910004312"), ("账号：", "6222020200112233"),
        ("meine Kto-Nr. ", "28173169"), ("numer konta ", "28173169"), ("hesap numaram ", "28173169"),
        ("minha conta é ", "853720167821538455119"), ("account #", "39078576"),
        ("my account at the bank is ", "12-345-678"),
    ],
)  # fmt: skip
def test_an_account_is_found_behind_its_word(before: str, number: str) -> None:
    only(f"{before}{number}, thanks", number, "account")


@pytest.mark.parametrize(
    "text",
    [
        "account 12345", "my account since 2024-01-31", "account AB12345678", "12345678",
        "I opened an account with you, and then I have got the order 12345678",
        "an account, which nobody could tell me anything about: 12345678", "account, order 12345678",
        "routing number 021000021", "account charged 15.868.764,00 €", "account charged $15868764",
        "account from 20240131",
        "account opened 17.07.12", "account 1234567 kr",
        "account balance is 123456.78", "the account has 1234567 points", "account balance 1234567",
        "account: 123456.78",
    ],
)  # fmt: skip
def test_a_number_that_no_account_word_announces_is_left(text: str) -> None:
    nothing(text)


@pytest.mark.parametrize(
    ("before", "number"),
    [
        ("claim for policy number: ", "YGE926050948"), ("policy #", "HO-9151-072815"), ("Policy no. ", "98-418-5517-6"),
        ("Versicherungsnummer lautet ", "M37 639 710"), ("número de póliza ", "17-038-9618-4"), ("Member ID ",
        "A18762863"),
        ("numer polisy ", "SAH-325927"), ("poliçe numaram ", "YG926050"), ("보험 증권 번호 ", "YG926050"),
        ("policy ", "12345678AB"), ("insurance id ", "1EG4-TE5-MK73"),
    ],
)  # fmt: skip
def test_a_policy_is_found_behind_its_word(before: str, number: str) -> None:
    only(f"{before}{number}, thanks", number, "policy")


def test_health_insurance_numbers_are_known_by_their_form() -> None:
    only("The MBI is 1EG4TE5MK73", "1EG4TE5MK73", "policy")
    only("take 1EG4-TE5-MK73 please", "1EG4-TE5-MK73", "policy")
    only("M123456785", "M123456785", "policy")
    only("eGK-Nummer M123456785 bitte", "M123456785", "policy")
    nothing("M123456786")
    nothing("part M123456785 please")


@pytest.mark.parametrize(
    "phone",
    [
        "+49 30 1234567", "+14155552671", "+44 (20) 7123 4567", "+55 11 98456 5666", "(415) 555-2671", "(415)555-2671",
        "415-555-2671", "415.555.2671", "1-415-555-2671", "001-415-555-2671x123", "(071) 4233-6306", "0171 2345678",
        "0171/2345678",
        "00491701234567", "0033123456789",
        "01.84.17.61.18", "09391234567", "0 (532) 1234567", "0049 30 1234567", "415-555-2671 ext. 12",
    ],
)  # fmt: skip
def test_a_phone_is_found_by_its_form(phone: str) -> None:
    only(f"it is {phone}.", phone, "phone")


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("call me on 668 5702", "668 5702"), ("Telefon: 40612345", "40612345"),
        ("тел.: 8 (959) 277-96-38", "8 (959) 277-96-38"),
        ("mitt nummer är 453 20 002", "453 20 002"), ("mój numer to 574 204 690", "574 204 690"),
        ("โทร 81 234 567", "81 234 567"), ("电话13812345678", "13812345678"),
        ("Phone:\n780 6326\n", "780 6326"), ("455 6186 office", "455 6186"), ("my number is 40612345", "40612345"),
        ("reach me at 21 12 34", "21 12 34"),
        ("número fijo 91 123 45 6", "91 123 45 6"), ("my number was 555-0134", "555-0134"),
        ("mob - 987654321", "987654321"),
        ("my no. is 987654321", "987654321"), ("ph: 98765 4321", "98765 4321"), ("8(912)345-67-89", "8(912)345-67-89"),
        ("40612345 is my number", "40612345"), ("40612345 ist meine Handynummer", "40612345"),
        ("4061 2345 es mi móvil", "4061 2345"),
        ("bana 46 5018-7522 numarasından yaz", "46 5018-7522"), ("40612345までお電話ください", "40612345"),
        ("40612345로 연락 주세요", "40612345"), ("打40612345联系我", "40612345"),
        ("제 번호는 40612345이에요", "40612345"),
        ("رقمي 40612345", "40612345"), ("واتساب 40612345", "40612345"), ("मेरा नंबर 40612345 है", "40612345"),
        ("bereikbaar op 51/458-6946", "51/458-6946"), ("rappelez-moi au 40612345", "40612345"),
        ("phone 8658.7394", "8658.7394"),
        ("+1-316-591-6694x463이에요", "+1-316-591-6694x463"), ("(72)/423-7013", "(72)/423-7013"),
    ],
)  # fmt: skip
def test_a_phone_is_found_by_the_word_beside_it(text: str, phone: str) -> None:
    only(text, phone, "phone")


@pytest.mark.parametrize(
    "text",
    [
        "40612345", "call 211234",
        "I registered 1234567 users", "reach 5000000 people", "text = '1234567'",
        "in 2019 or 2020", "call on 2024-01-31", "call on 31.01.2024 15", "call 10.30-11.30",
        "call 192.168.10.11", "call 3.14159265", "order (415) 555-2671", "x0171 2345678", "#0171 2345678",
        "0171 2345678%",
        "item/0171 2345678", "part-0171 2345678", "+0123456789", "+1234567890123456", "-26.482066, 36.432141",
        "do you deliver to 06818-9228?",
        "(12345678)", "(1) 2345678", "(1234567 890)", "115-555-2671", "415/555/2671", "0000 1234 5678", "0 123456789",
        "01 23 45 67 89 01 2", "012345678", "call 12345678901234", "1,234,567.89", "00:15:24", "v 10.0.18556.2781",
        "call 123456789012345678",
        "is 0-257-11336-3 here", "phone repaired by 21.07.09", "phone since 13-07-94", "phone since 20120823",
        "my phone cost 1234567 kr", "call returned 314151669", "phone 1.234.567,00 €", "phone: $1234567",
        "the total number is 1234567", "contact lens -2.25 / -1.75 180", "phone -1234567",
        "0049000028911", "0012345678901", "00012345678901", "004912345678", "0049170123456789",
    ],
)  # fmt: skip
def test_a_number_that_is_no_phone_is_left(text: str) -> None:
    assert "phone" not in [kind for _, kind in found(text)]


def test_a_text_without_any_is_left() -> None:
    nothing("")
    nothing("Where is the parcel that I have been waiting for?")
    nothing("I bought 3 of them in 2024 and paid $192,289.11")


def test_only_the_kinds_that_are_asked_for_are_found() -> None:
    text = f"{CARD} and ann@shop.org and 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"
    assert [kind for _, kind in found(text)] == ["card", "email", "secret"]
    for kind in ("card", "email", "secret"):
        assert [one for _, one in found(text, kinds=[kind])] == [kind]
    assert found(text, kinds=[]) == []


def test_test_cards_and_example_addresses_are_left_where_that_is_wanted() -> None:
    for number in ("4242 4242 4242 4242", "5555-5555-5555-4444"):
        only(f"pay with {number}", number, "card")
        assert found(f"pay with {number}", exclude=["test_cards"]) == []
    for address in ("me@example.com", "me@mail.test", "me@shop.example"):
        only(f"write to {address}", address, "email")
        assert found(f"write to {address}", exclude=["example_domains"]) == []
    assert len(found(f"{CARD} me@shop.org", exclude=["test_cards", "example_domains"])) == 2


def test_where_two_overlap_the_more_telling_kind_is_told() -> None:
    text = "https://ann:s3cret@shop.org/x"
    assert found(text) == [("s3cret", "secret")]


def test_a_lone_surrogate_is_no_reason_to_fail() -> None:
    only(f"\ud800 {CARD}", CARD, "card")


PARTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                CARD,
                IBAN,
                "ann@shop.org",
                "+49 30 1234567",
                "account ",
                "policy ",
                "token=",
                "\u200b",
                "٤",
                "(",
                "@",
                "1-",
                "0",
            ]
        ),
        st.text(max_size=8),
        st.characters(categories=["Nd", "Zs", "Pd", "Cf"]),
    ),
    max_size=30,
).map("".join)


@settings(deadline=None)
@given(PARTS)
def test_spans_lie_in_the_text_in_order_and_apart(text: str) -> None:
    at = 0
    for span in find(text):
        assert at <= span.start < span.end <= len(text)
        assert span.kind in KINDS
        at = span.end


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="@_([（［＠＿﹍﹎﹏﹫⑴⑵")))
def test_a_text_without_a_digit_an_at_sign_or_a_bracket_has_none(text: str) -> None:
    assert not [span for span in find(text) if span.kind != "secret"] or any(
        char.isdigit() or not char.isascii() for char in text
    )
