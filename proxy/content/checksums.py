"""Check digits and valid ranges: what makes a number a card, an IBAN, a US social security or an insurance number."""

from __future__ import annotations

from functools import lru_cache

# Issuer ranges by their first six digits, and the lengths that the brand has. Source: ISO/IEC 7812 ranges as the brands
# publish them (Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay, Maestro, Mir, RuPay, Verve, Troy).
_ISSUERS: tuple[tuple[int, int, frozenset[int]], ...] = tuple(
    (low, high, frozenset(lengths))
    for low, high, lengths in (
        (400000, 499999, (13, 16, 19)),
        (510000, 559999, (16,)),
        (222100, 272099, (16,)),
        (220000, 220499, (16, 17, 18, 19)),
        (340000, 349999, (15,)),
        (370000, 379999, (15,)),
        (300000, 305999, (14, 16)),
        (309000, 309999, (14, 16)),
        (360000, 369999, (14, 16, 19)),
        (380000, 399999, (14, 16)),
        (
            350000,
            359999,  # JCB has 3528 to 3589; generators use the rest
            (16, 17, 18, 19),
        ),
        (213100, 213199, (15,)),
        (180000, 180099, (15,)),
        (601100, 601199, (16, 19)),
        (622126, 622925, (16, 17, 18, 19)),
        (644000, 659999, (16, 17, 18, 19)),
        (620000, 629999, (16, 17, 18, 19)),
        (810000, 829999, (16, 17, 18, 19)),
        (500000, 509999, (12, 13, 14, 15, 16, 17, 18, 19)),
        (560000, 589999, (12, 13, 14, 15, 16, 17, 18, 19)),
        (600000, 619999, (16,)),
        (630400, 630499, (12, 13, 14, 15, 16, 17, 18, 19)),
        (639000, 639099, (12, 13, 14, 15, 16, 17, 18, 19)),
        (670000, 679999, (12, 13, 14, 15, 16, 17, 18, 19)),
        (60400, 60499, (12, 13, 14, 15, 16, 17, 18, 19)),
        (979200, 979289, (16,)),
    )
)
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")  # the digits of the double, added up

# Length by country: SWIFT, IBAN registry, release 99; and of countries that use IBANs without being in it.
_IBAN_LENGTHS = {
    length: countries.split()
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FO FI GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ XK LT LU MN",
        21: "HR LV LI CH", 22: "BH BG CR DE GE IE ME RS GB VA", 23: "GI IQ IL OM TL AE SO",
        24: "AD CZ DJ MD PK RO SA SK ES SE TN VG", 25: "PT ST LY", 26: "IS TR", 27: "FR GR IT MR MC SM BI DJ",
        28: "AL AZ BY CY DO GT HN HU LB PL SV NI", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 33: "RU LC",
    }.items()
}  # fmt: skip
_LENGTHS = {country: length for length, countries in _IBAN_LENGTHS.items() for country in countries}
_LENGTHS["LC"] = 32
_OTHERS = {25: "AO CV GW MZ", 26: "DZ IR", 27: "CF CG CM GA GQ KM MG TD", 28: "BF BJ CI MA ML NE SN TG"}
_LENGTHS |= {country: length for length, countries in _OTHERS.items() for country in countries.split()}


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    numbers = digits.encode()
    return (sum(numbers[::-2]) + sum(numbers[-2::-2].translate(_DOUBLED)) - ord("0") * len(numbers)) % 10 == 0


@lru_cache(4096)
def card_lengths(beginning: str) -> frozenset[int]:
    """How long a card's number may be that begins with these six digits; empty where none does."""
    issuer = int(beginning)
    return frozenset().union(*(lengths for low, high, lengths in _ISSUERS if low <= issuer <= high))


def iban_length(country: str) -> int:
    """How long an IBAN of that country (two capitals) is; 0 where there are none."""
    return _LENGTHS.get(country, 0)


def is_iban(iban: str) -> bool:
    """ISO 13616: 97 divides it with one left over. In capitals and digits, without separators."""
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def is_social(digits: str) -> bool:
    """A US social security number that may have been given out: nine digits. Source: SSA, "SSN randomization"."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    is_given_out = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    return is_given_out and digits not in ("078051120", "219099999")  # printed in advertisements


def is_insured(number: str) -> bool:
    """A German health insurance number: a letter and nine digits. Source: section 290 SGB V, GKV-Spitzenverband."""
    digits = f"{ord(number[0].upper()) - 64:02}{number[1:9]}"
    return sum(sum(divmod(int(digit) * (1 + at % 2), 10)) for at, digit in enumerate(digits)) % 10 == int(number[9])
