"""An answer ends where a forbidden phrase or a canary begins, and not one character later."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from proxy.errors import OutputBlocked
from proxy.filters import FilterSettings, PhraseSettings, chain_maker

PHRASES = PhraseSettings(block=("Project Heron", "c++", "(sic)"), canaries=("heron-7f3a-91bc",))
BLOCKED = {
    "It is project\n  HERON, yes": "It is ",
    "we use C++.": "we use ",
    "see (SIC)": "see ",
    "the mark HERON 7F3A_91bc!": "the mark ",
    "h-e-r-o-n 7 f 3 a 9 1 b c": "",
}
PASSED = ["project herons", "a project, heron", "abc+ +", "sic", "heron 7f3a 91b"]


def run(text: str) -> tuple[str, bool]:
    chain = chain_maker(FilterSettings(phrases=PHRASES, pii=False, secrets=False))()
    out = ""
    try:
        for char in text:
            out += chain.feed(char)
        return out + chain.flush(), False
    except OutputBlocked as blocked:
        return out + blocked.allowed, True


@pytest.mark.parametrize(("text", "allowed"), BLOCKED.items())
def test_an_answer_ends_in_front_of_what_is_forbidden(text: str, allowed: str) -> None:
    assert run(text) == (allowed, True)


@pytest.mark.parametrize("text", PASSED)
def test_what_only_begins_like_it_passes(text: str) -> None:
    assert run(text) == (text, False)


@pytest.mark.parametrize(
    ("field", "value", "told"), [("canaries", "abc-def", "at least 8"), ("block", " \t", "a word")]
)
def test_what_would_block_by_chance_is_refused(field: str, value: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        PhraseSettings.model_validate({field: [value]})
