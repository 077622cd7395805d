"""Addresses of stores, right and wrong ones."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.config import Secret
from proxy.store.url import StoreSettings, StoreUrl, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory:", StoreUrl("memory")),
        ("redis://cache", StoreUrl("redis", (("cache", 6379),))),
        ("REDIS://cache:7000/", StoreUrl("redis", (("cache", 7000),))),
        ("redis://cache/3", StoreUrl("redis", (("cache", 6379),), db=3)),
        ("redis://[::1]", StoreUrl("redis", (("::1", 6379),))),
        ("redis://[::1]:7000/1", StoreUrl("redis", (("::1", 7000),), db=1)),
        ("rediss://cache:6380", StoreUrl("redis", (("cache", 6380),), tls=True)),
        ("unix:///run/redis.sock", StoreUrl("unix", path="/run/redis.sock")),
        ("unix:///run/redis.sock?db=2", StoreUrl("unix", path="/run/redis.sock", db=2)),
        (
            "redis+sentinel://h1:26379,h2/mymaster/0",
            StoreUrl("sentinel", (("h1", 26379), ("h2", 26379)), master="mymaster"),
        ),
        ("redis+sentinel://h1/mymaster", StoreUrl("sentinel", (("h1", 26379),), master="mymaster")),
        ("redis+cluster://h1:7000,h2", StoreUrl("cluster", (("h1", 7000), ("h2", 6379)))),
    ],
)
def test_every_form_is_taken_apart(url: str, expected: StoreUrl) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("redis://:s3cret@cache", None, "s3cret"),
        ("redis://bot:s3cret@cache", "bot", "s3cret"),
        ("redis://bot%40x:p%40s%2Fs%3A%23@cache", "bot@x", "p@s/s:#"),
        ("redis://bot:a:b@cache", "bot", "a:b"),
        ("unix://bot:s3cret@/run/redis.sock", "bot", "s3cret"),
        ("redis+cluster://bot:s3cret@h1,h2", "bot", "s3cret"),
    ],
)
def test_a_login_is_decoded_and_the_password_never_shows(url: str, username: str | None, password: str) -> None:
    parsed = parse_url(url)
    assert parsed.username == username
    assert parsed.password is not None
    assert parsed.password.reveal() == password
    assert password not in repr(parsed)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("", "as one of: memory:  redis://"),
        ("memory", "as one of"),
        ("cache:6379", "as one of"),
        ("valkey://cache", "as one of"),
        ("memory://", "nothing after the colon"),
        ("redis:cache", "with // after the colon"),
        ("redis://", "each host as host:port"),
        ("redis://:6379", "each host as host:port"),
        ("redis://::1/0", "IPv6 address in brackets"),
        ("redis://[::1/0", "IPv6 address in brackets"),
        ("redis://[::1]x/0", "IPv6 address in brackets"),
        ("redis://cache:", "a port between 1 and 65535"),
        ("redis://cache:port", "a port between 1 and 65535"),
        ("redis://cache:0", "a port between 1 and 65535"),
        ("redis://cache:65536", "a port between 1 and 65535"),
        ("redis://cache:6379000000", "a port between 1 and 65535"),
        ("redis://cache:٦٣٧٩", "a port between 1 and 65535"),
        ("redis://cache/zero", "the database as a number"),
        ("redis://cache/-1", "the database as a number"),
        ("redis://cache/0/1", "nothing after the database number"),
        ("redis://cache?db=1", r"leave out \? and #"),
        ("redis://cache#1", r"leave out \? and #"),
        ("redis://a,b", "one host after redis://"),
        ("redis://bot@cache", "the password after a colon"),
        ("redis://bot:@cache", "the password after a colon"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix:///run/redis.sock?timeout=1", r"only \?db=0"),
        ("unix:///run/redis.sock?db=0&db=1", r"only \?db=0"),
        ("unix:///run/redis.sock?db=", "the database as a number"),
        ("redis+sentinel://h1,h2", "name the primary"),
        ("redis+sentinel://h1,h2/", "name the primary"),
        ("redis+sentinel://h1,/mymaster", "each host as host:port"),
        ("redis+cluster://h1,h2/0", "a cluster has only one"),
    ],
)
def test_a_wrong_one_is_told_what_to_write_instead(url: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        parse_url(url)


PASSWORD = "kT9qWz"


@given(
    odd=st.text(alphabet="/@:?#[]%,. \u00e9\uff0f\n", max_size=4),
    form=st.sampled_from(
        ["redis://:{}@cache", "redis://{}@cache", "{}://cache", "{}", "redis://h1/{}", "redis+sentinel://h1/m/{}"]
    ),
)
def test_a_message_repeats_no_part_of_a_wrong_address(odd: str, form: str) -> None:
    try:
        parse_url(form.format(PASSWORD + odd + PASSWORD))
    except ValueError as error:
        shown = "".join(traceback.format_exception(error))
    else:
        shown = ""
    assert PASSWORD not in shown


def test_a_setting_is_plain_text_or_a_secret_and_shows_neither() -> None:
    for url in ("redis://:s3cret@cache", Secret("redis://:s3cret@cache")):
        settings = StoreSettings.model_validate({"url": url})
        assert settings.url.reveal() == "redis://:s3cret@cache"
        assert "s3cret" not in repr(settings)
        assert "s3cret" not in settings.model_dump_json()


def test_without_a_setting_the_store_is_memory() -> None:
    assert StoreSettings().url.reveal() == "memory:"


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("redis://:s3cret@cache:port", "a port between"),
        ("redis+sentinel://:s3cret@h1", "name the primary"),
        ("redis+cluster://:s3cret@h1/3", "leave out the database"),
        (6379, "Secret"),
    ],
)
def test_a_wrong_setting_is_refused_with_advice_and_without_the_password(url: object, advice: str) -> None:
    with pytest.raises(ValidationError, match=advice) as caught:
        StoreSettings.model_validate({"url": url})
    assert "s3cret" not in str(caught.value)
