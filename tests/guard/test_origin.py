"""Which hosts and pages pass, and which tricks don't."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest, HostDenied, OriginDenied
from proxy.guard.origin import Host, Origin, normal_origin
from proxy.model import Credential, Site
from tests.clients import SHOP, client

BLOG = Site("blog", frozenset({"https://blog.example", "https://shop.example"}), "support")
DEMO = Site("demo", frozenset(), "support", page=True)

DENIED: dict[str, dict[str, Any]] = {
    "another page": {"origin": "https://evil.example"},
    "null": {"origin": "null"},
    "suffix": {"origin": "https://shop.example.evil.example"},
    "prefix": {"origin": "https://evilshop.example"},
    "subdomain": {"origin": "https://a.shop.example"},
    "another scheme": {"origin": "http://shop.example"},
    "another port": {"origin": "https://shop.example:8443"},
    "upper case, as no browser sends it": {"origin": "https://SHOP.example"},
    "a trailing dot": {"origin": "https://shop.example."},
    "a default port, as no browser sends it": {"origin": "https://shop.example:443"},
    "user name": {"origin": "https://shop.example@evil.example"},
    "two in one header": {"origin": "https://shop.example https://evil.example"},
    "a path": {"origin": "https://shop.example/"},
    "a bad port": {"origin": "https://shop.example:99999"},
    "a wildcard": {"origin": "*"},
    "empty": {"origin": ""},
    "a Referer from elsewhere": {"origin": None, "referer": "https://evil.example/https://shop.example"},
    "a Referer that is none": {"origin": None, "referer": "https://[::1"},
    "cross-site without Origin": {"origin": None, "fetch_site": "cross-site"},
    "same-site without Origin": {"origin": None, "fetch_site": "same-site"},
    "a same-origin request that was sent from elsewhere": {
        "origin": None, "fetch_site": "same-origin", "referer": "https://evil.example/",
    },
    "a cookie without any word of a browser": {"origin": None, "credential": Credential("cookie", "x")},
}  # fmt: skip
ALLOWED: dict[str, dict[str, Any]] = {
    "the page": {},
    "the page, from another site's view": {"fetch_site": "cross-site"},
    "a Referer of the page": {"origin": None, "referer": "https://shop.example/cart?x=1"},
    "a Referer of the page, same-site": {"origin": None, "referer": "https://shop.example/", "fetch_site": "same-site"},
    "same-origin without Origin": {"origin": None, "fetch_site": "same-origin"},
    "same-origin with our own Referer": {
        "origin": None, "fetch_site": "same-origin", "referer": "https://chat.example/frame",
    },
    "typed in": {"origin": None, "fetch_site": "none"},
}  # fmt: skip


@pytest.mark.parametrize("facts", DENIED.values(), ids=DENIED.keys())
@pytest.mark.parametrize("strict", [True, False])
async def test_a_page_that_is_not_the_sites_is_denied(facts: dict[str, Any], strict: bool) -> None:
    with pytest.raises(OriginDenied):
        await Origin({"shop": SHOP}, strict=strict).check(client(**facts))


@pytest.mark.parametrize("facts", ALLOWED.values(), ids=ALLOWED.keys())
async def test_the_sites_own_pages_pass(facts: dict[str, Any]) -> None:
    assert (await Origin({"shop": SHOP}, strict=True).check(client(**facts))).site == SHOP


async def test_a_program_without_origin_passes_in_development_only() -> None:
    assert (await Origin({"shop": SHOP}, strict=False).check(client(origin=None))).sites == (SHOP,)
    with pytest.raises(OriginDenied):
        await Origin({"shop": SHOP}, strict=True).check(client(origin=None))


@pytest.mark.parametrize(
    "facts",
    [
        {"credential": Credential("bearer", "x")}, {"credential": Credential("ticket", "x")},
        {"route": "refresh"},
    ],
)  # fmt: skip
async def test_in_production_who_is_no_browser_has_to_have_an_owner(facts: dict[str, Any]) -> None:
    passed = await Origin({"shop": SHOP}, strict=True).check(client(origin=None, **facts))
    assert (passed.sites, passed.needs_owner) == ((SHOP,), True)
    for browser in (client(**facts), client(origin=None, fetch_site="same-origin", **facts)):
        assert not (await Origin({"shop": SHOP}, strict=True).check(browser)).needs_owner
    assert not (await Origin({"shop": SHOP}, strict=False).check(client(origin=None, **facts))).needs_owner


async def test_a_page_of_two_sites_leaves_both_until_one_is_named() -> None:
    stage = Origin({"shop": SHOP, "blog": BLOG}, strict=True)
    both = await stage.check(client())
    assert both.sites == (SHOP, BLOG)
    assert both.site is None
    assert (await stage.check(client(site_name="blog"))).site == BLOG
    assert (await stage.check(client(origin="https://blog.example"))).site == BLOG
    with pytest.raises(OriginDenied):
        await stage.check(client(origin="https://blog.example", site_name="shop"))
    with pytest.raises(BadRequest):
        await stage.check(client(site_name="nope"))


async def test_the_chat_page_may_talk_to_the_server_it_came_from_and_no_other_page_may() -> None:
    stage = Origin({"demo": DEMO}, strict=True)
    own = client(origin="http://127.0.0.1:8080", scheme="http", host="127.0.0.1:8080")
    assert (await stage.check(own)).site == DEMO
    with pytest.raises(OriginDenied):
        await stage.check(client(origin="http://127.0.0.1:8081", scheme="http", host="127.0.0.1:8080"))


@pytest.mark.parametrize("host", ["chat.example", "CHAT.example:8443", "chat.example."])
async def test_a_host_of_ours_is_served(host: str) -> None:
    await Host(["chat.example", "[::1]:8080"]).check(client(host=host))


@pytest.mark.parametrize("host", ["evil.example", "chat.example.evil.example", "", "127.0.0.1", "[::1"])
async def test_a_foreign_host_is_denied(host: str) -> None:
    with pytest.raises(HostDenied):
        await Host(["chat.example"]).check(client(host=host))


async def test_an_empty_host_list_serves_every_host() -> None:
    await Host([]).check(client(host="anything.example"))


@pytest.mark.parametrize(
    ("given_", "normal"),
    [
        ("HTTPS://Shop.Example/", "https://shop.example"),
        ("http://a:80", "http://a"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_written_as_browsers_do(given_: str, normal: str) -> None:
    assert normal_origin(given_) == normal


@given(st.text(max_size=40))
async def test_no_text_but_the_origin_itself_is_the_origin(text: str) -> None:
    stage = Origin({"shop": SHOP}, strict=True)
    if text != "https://shop.example":
        with pytest.raises(OriginDenied):
            await stage.check(client(origin=text))
