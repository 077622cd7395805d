"""Which addresses are on the list, however they are written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from proxy.filters import FilterSettings, LinkSettings
from proxy.filters.addresses import Addresses

ALLOWED = [
    "https://shop.example",
    "HTTPS://Shop.Example/a?b=c&d=%20e#f",
    "http://shop.example/",
    "https://a.cdn.example/x.png",
    "https://a-b.c.cdn.example",
    "https://api.example:8443/x",
]
REFUSED = [
    "//shop.example",
    "https:/shop.example",
    "https://shop.example.evil.example",
    "https://evil.example/shop.example",
    "https://shop.example@evil.example",
    "https://shop.example:pw@evil.example",
    "https://shop.example%40evil.example",
    "https://shop.example%2eevil.example",
    "https://shop.example\\@evil.example",
    "https://shop.example:8443/",
    "https://api.example/",
    "https://cdn.example/",
    "https://sh\u043ep.example/",
    "https://\u017fhop.example/",
    "https://shop.example\u3002evil.example",
    "https://shop.example./",
    "https://shop.example/a b",
    "https://shop.example/go?u=https://evil.example",
    "https://shop.example/go?u=https%3A%2F%2Fevil.example",
    "https://shop.example/go?u=%2568ttps%253A//evil.example",
    "https://shop.example/go?u=//evil.example",
    "https://shop.example/go?u=&#47;&#47;evil.example",
    "https://shop.example//evil.example",
    "https://shop.example/go?u=%25252525252f",
    "javascript:alert(1)",
    "data:text/html,x",
    "/relative",
    "",
]
LIST = Addresses(["shop.example", "*.cdn.example", "api.example:8443"])


@pytest.mark.parametrize("address", ALLOWED)
def test_a_listed_host_is_allowed(address: str) -> None:
    assert LIST.allows(address)


@pytest.mark.parametrize("address", REFUSED)
def test_anything_that_some_reader_could_take_for_another_host_is_not(address: str) -> None:
    assert not LIST.allows(address)


def test_a_star_allows_any_host_and_nothing_else() -> None:
    every = Addresses(["*"])
    assert every.allows("https://any.example:8080/x")
    assert not every.allows("https://a@b.example/")
    assert not every.allows("javascript:alert(1)")


def test_an_empty_list_allows_nothing() -> None:
    assert not Addresses([]).allows("https://shop.example/")


@pytest.mark.parametrize(
    "entry", ["https://shop.example", "shop.example/", "*.*.example", "b\xfccher.example", "", "a b"]
)
def test_what_is_no_host_is_refused_with_a_word_on_what_to_write(entry: str) -> None:
    with pytest.raises(ValidationError, match=r"shop\.example|xn--"):
        LinkSettings(allow=(entry,))


def test_off_is_off_also_as_yaml_reads_it() -> None:
    assert FilterSettings.model_validate({"markup": False}).markup == "off"
