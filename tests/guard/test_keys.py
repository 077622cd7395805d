"""API keys and embed keys: made, hashed, found again; nothing of them is told."""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.guard.keys import (
    ApiKeySettings,
    EmbedKeySettings,
    Keys,
    hash_of,
    key_id,
    moment,
    new_key,
    shown,
)
from proxy.weak import suspicion, weakness

KEY, PUBLIC = new_key("api"), new_key("embed")


def keys() -> Keys:
    api = [ApiKeySettings(name="bot", hash=hash_of(KEY), site="shop"), ApiKeySettings(name="b", hash=hash_of("other"))]
    return Keys(api, {"shop": [EmbedKeySettings(hash=hash_of(PUBLIC))], "blog": []})


def test_a_key_is_found_by_its_value_alone() -> None:
    ours = keys()
    found = ours.api(KEY)
    assert found is not None
    assert found.name == "bot"
    assert ours.named("bot") is found
    site, embed = ours.embed(PUBLIC) or ("", None)
    assert (site, embed and embed.label) == ("shop", hash_of(PUBLIC)[7:15])
    for wrong in ("", KEY[:-1], KEY + "x", KEY.upper(), hash_of(KEY), PUBLIC):
        assert ours.api(wrong) is None
    assert ours.embed(KEY) is None
    assert ours.named("x") is None


@settings(deadline=None)
@given(st.text())
def test_whatever_is_presented_is_looked_up(text: str) -> None:
    assert keys().api(text) is None
    assert shown(text)
    assert len(shown(text)) <= 15


def test_bytes_that_are_no_utf8_are_looked_up_as_any_other() -> None:
    assert keys().api(b"\xff\xfe".decode("utf-8", "surrogateescape")) is None


def test_a_new_key_is_strong_and_different_each_time() -> None:
    made = {new_key(kind) for kind in ("api", "embed") for _ in range(100)}
    assert len(made) == 200
    for key in made:
        assert weakness(key) is suspicion(key) is None
        assert key.isascii()
        assert "." not in key


def test_of_a_key_its_id_or_the_start_of_its_hash_is_shown() -> None:
    assert key_id(KEY) == KEY.split("_")[1] == shown(KEY)
    assert key_id("sgk_0123abcd_short") is None
    assert shown("hunter2") == hash_of("hunter2")[:15]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
        ("2027-01-31 12:00", datetime(2027, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_times_are_utc_where_they_say_nothing_else(text: str, expected: datetime) -> None:
    assert moment(text) == expected.timestamp()
    assert ApiKeySettings(name="a", hash=hash_of("a"), expires=text).ends == expected.timestamp()
    assert EmbedKeySettings(hash=hash_of("a"), expires=text, name="x").ends == expected.timestamp()
    assert ApiKeySettings(name="a", hash=hash_of("a")).ends == EmbedKeySettings(hash=hash_of("a")).ends == inf


@pytest.mark.parametrize(
    "given",
    [
        {"hash": KEY}, {"hash": hash_of(KEY).upper()}, {"hash": hash_of(KEY)[7:]}, {"expires": "soon"}, {"name": "A b"},
        {"name": ""}, {"scopes": []}, {"scopes": ["admin"]}, {"owner": ""},
    ],
)  # fmt: skip
def test_what_is_no_entry_is_refused_without_repeating_it(given: dict[str, object]) -> None:
    good: dict[str, object] = {"name": "a", "hash": hash_of("a")}
    with pytest.raises(ValidationError) as caught:
        ApiKeySettings.model_validate(good | given)
    assert KEY not in str(caught.value)
