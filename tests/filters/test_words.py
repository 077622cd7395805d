"""Which letters leave of an address or a token that nothing announces, however the answer is cut."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.content.pii import KINDS, find
from proxy.filters.candidates import begins
from proxy.filters.mask import Known, Mask
from proxy.filters.words import LONGEST, WordStart, beginnings, every, ordinary

TABLE = beginnings((files("proxy.filters") / "words.txt").read_text())
BEFORE = st.sampled_from(["", "see ", "It is ", "(", "**", "\n- ", "so: ", "x = ", "Ärger, ", "語", '"', "a/b c-d "])
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,12}(?:[._+-][A-Za-z0-9]{1,8}){0,2}", fullmatch=True)
ODD_NAMES = st.from_regex(r"[a-zäжא]{1,9}(?:['/&=~%.][a-zäжא0-9]{1,6}){0,3}", fullmatch=True)
HOSTS = st.sampled_from(["acme.test", "mail.acme.co.uk", "xn--mller-kva.test", "a-b.test"])
ORDINARY = ordinary()
CUTS = st.lists(st.integers(0, 70), max_size=12)
TOKENS = (
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "sk-proj-Abcdefghijklmnop1234567890Abcdefghijklmnop",
    "AKIAQ3EGRIFXZ5VW2N7T",
    "npm_aB3dE6fG9hJ2kL5mN8pQ1rS4tU7vW0xY3zA6",
)


def run(text: str, cuts: list[int], words: WordStart) -> str:
    rule = Mask(KINDS, Known(()), words)
    at = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    return "".join(rule.feed(text[start:end]) for start, end in pairwise(at)) + rule.flush()


def letter_by_letter(text: str, words: WordStart) -> str:
    return run(text, list(range(len(text))), words)


def leaves(name: str) -> str:
    """What may leave of an address: the longest beginning of its first word that the table has."""
    found = re.match("[A-Z]?[a-z]*", name)
    word = found[0] if found else ""
    return next((word[:size] for size in range(min(len(word), LONGEST), 0, -1) if word[:size].lower() in TABLE), "")


@given(before=BEFORE, name=NAMES | ODD_NAMES, host=HOSTS, cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_no_letter_of_an_address_leaves_where_every_word_is_held(
    before: str, name: str, host: str, cuts: list[int]
) -> None:
    text = f"{before}{name}@{host}"
    masked = find(text, ["email"])
    if not masked or find(text) != masked or masked[0].start != len(before) or masked[0].end != len(text):
        return
    assert run(f"{text} it is", cuts, every) == f"{before}[EMAIL] it is"
    assert letter_by_letter(f"{text} it is", every) == f"{before}[EMAIL] it is"


@given(before=BEFORE, name=NAMES, host=HOSTS, cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_of_an_address_only_the_beginning_of_an_ordinary_word_leaves(
    before: str, name: str, host: str, cuts: list[int]
) -> None:
    text = f"{before}{name}@{host}"
    masked = find(text, ["email"])
    if not masked or find(text) != masked or masked[0].start != len(before) or masked[0].end != len(text):
        return
    out = run(f"{text} it is", cuts, ORDINARY)
    assert out.startswith(before)
    assert out.endswith("[EMAIL] it is")
    assert leaves(name).startswith(out[len(before) : -len("[EMAIL] it is")].rstrip("._+-"))
    assert letter_by_letter(f"{text} it is", ORDINARY) == out


@pytest.mark.parametrize("name", ["bob", "jane.doe", "xk42z", "kowalski77", "Mueller", "jsmith", "o.neil", "Bob"])
def test_names_of_people_wait_for_their_end(name: str) -> None:
    assert letter_by_letter(f"Well, {name}@acme.test knows it.", ORDINARY) == "Well, [EMAIL] knows it."


@pytest.mark.parametrize("address", ["bob (at) acme.test", "bob [at] acme [dot] test", "bob&commat;acme.test"])
def test_of_an_address_that_is_spelled_no_letter_leaves_where_every_word_is_held(address: str) -> None:
    assert letter_by_letter(f"see {address} or", every) == "see [EMAIL] or"


@pytest.mark.parametrize("word", ["the", "information", "because", "your", "question", "should", "Function"])
def test_ordinary_words_leave_before_they_end(word: str) -> None:
    assert begins(f"is {word}", 0, ORDINARY) == len(f"is {word}")
    assert begins(f"is {word}", 0, every) == len("is ")


def test_an_address_that_begins_as_an_ordinary_word_loses_its_first_letters() -> None:
    assert letter_by_letter("ask information@acme.test or", ORDINARY) == "ask information[EMAIL] or"
    assert letter_by_letter("ask the.boss@acme.test or", ORDINARY) == "ask the.[EMAIL] or"


def test_with_other_letters_than_a_to_z_a_word_passes_unless_every_word_is_held() -> None:
    assert all(begins(word, 0, ORDINARY) == len(word) for word in ("fü", "из", "क्या"))
    assert begins("из", 0, every) == begins("क्या", 0, every) == 0
    assert letter_by_letter("müller@acme.test", ORDINARY) == "müller[EMAIL]"
    assert letter_by_letter("müller@acme.test", every) == "[EMAIL]"


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("words", [ORDINARY, every])
def test_of_a_providers_token_no_letter_leaves(token: str, words: WordStart) -> None:
    assert letter_by_letter(f"It is {token} here", words) == "It is [SECRET] here"


@pytest.mark.parametrize("words", [ORDINARY, every])
@pytest.mark.parametrize("word", ["abc//o'neilpassword", "kowalskikowalskikowpassword", "kowalskikowalskikowalski-"])
def test_a_long_word_that_ends_in_front_of_a_sign_ends_there_for_any_cutting(word: str, words: WordStart) -> None:
    text = f"{word}::1\u200dsh\\doeabc`"
    assert letter_by_letter(text, words) == run(text, [], words)


def test_scripts_without_spaces_dont_wait_for_their_sentences() -> None:
    text = "これはテスト文です"
    assert begins(text, 0, every) == begins(text, 0, ORDINARY) == len(text)


def test_the_table_says_beginnings_in_short() -> None:
    assert beginnings("# a remark\ninf.orm .to\nx.y") == {"info", "infor", "inform", "t", "to", "xy"}


def test_no_beginning_is_longer_than_the_filter_remembers() -> None:
    assert max(map(len, TABLE)) <= LONGEST
    assert all(word.isascii() and word.isalpha() and word.islower() for word in TABLE)
