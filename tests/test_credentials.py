"""What is said of keys that fit no site, sites that fit no keys, and a provider that lets too many in."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.config import Secret
from proxy.credentials import findings
from proxy.guard.customer_token import JwtSettings
from proxy.guard.keys import ApiKeySettings, EmbedKeySettings, KeySettings, hash_of
from proxy.sites import SiteSettings

STRONG = "Zk4vQ9xW2mB7hT1nC8sJ5dL0gR3fYpEa"
PROVIDER = {"jwks_url": "https://idp.example/keys", "issuer": "https://idp.example", "audience": "chat"}


def api(name: str = "bot", site: str = "shop", **more: Any) -> ApiKeySettings:  # Any: as a file has them
    return ApiKeySettings(**{"name": name, "hash": hash_of(name), "site": site} | more)


def site(*auth: Any, embed: tuple[str, ...] = (), **more: Any) -> SiteSettings:  # Any: words of a Literal
    keys = tuple(EmbedKeySettings(hash=hash_of(key), **more) for key in embed)
    return SiteSettings(auth=auth, embed_keys=keys)


def said(sites: dict[str, SiteSettings], *keys: ApiKeySettings, **jwt: Any) -> dict[str, tuple[str, str]]:
    """By place: how bad it is, and the words."""
    written = KeySettings(api=keys, jwt=JwtSettings(**jwt))
    return {".".join(map(str, place)): (kind, text) for kind, place, text in findings(written, sites, sites.keys())}


def test_keys_that_fit_their_sites_are_fine() -> None:
    sites = {"shop": site("api_key", "jwt", "embed_key", embed=("a", "b")), "blog": site("anonymous")}
    assert said(sites, api(), api("two"), **PROVIDER) == {}


SHOP, PAGE, BOTH = site("anonymous", "api_key"), site("anonymous"), site("embed_key", embed=("a",))

CASES: dict[str, tuple[dict[str, tuple[str, str]], str, str, str]] = {
    "no site": (said({"shop": PAGE, "blog": PAGE}, api(site="")), "keys.api.0.site", "refuse", "shop or blog"),
    "an unknown site": (said({"shop": SHOP}, api(), api("b", "shpo")), "keys.api.1.site", "refuse", "mean shop"),
    "a site without API keys": (said({"shop": site("anonymous")}, api()), "keys.api.0.site", "warn", "add api_key"),
    "a page that nobody can use": (
        said({"shop": SiteSettings(auth=("api_key",), page=True)}, api()), "sites.shop.page", "warn", "add anonymous",
    ),
    "an API key that is over": (said({"shop": SHOP}, api(expires="2020-01-01")), "keys.api.0.expires", "warn", "over"),
    "no key for a site": (said({"shop": SHOP}), "sites.shop.auth", "warn", "none for this site"),
    "two of one name": (said({"shop": SHOP}, api(), api(hash=hash_of("x"))), "keys.api", "refuse", "called bot"),
    "one hash twice": (said({"shop": SHOP}, api(), api("b", hash=hash_of("bot"))), "keys.api", "refuse", "there twice"),
    "one hash for two sites": (said({"a": BOTH, "b": BOTH}), "keys.api", "refuse", "there twice"),
    "embed keys without use": (
        said({"shop": site("anonymous", embed=("a",))}), "sites.shop.embed_keys", "warn", "add embed_key",
    ),
    "no embed keys": (said({"shop": site("embed_key")}), "sites.shop.embed_keys", "warn", "missing"),
    "an embed key that is over": (
        said({"shop": site("embed_key", embed=("a",), expires="2020-01-01")}),
        "sites.shop.embed_keys.0.expires", "warn", "over",
    ),
    "no provider": (said({"shop": site("jwt")}), "sites.shop.auth", "refuse", "neither jwks_url nor key"),
    "a provider without use": (said({"shop": site("anonymous")}, **PROVIDER), "keys.jwt", "warn", "add jwt"),
    "no issuer": (said({"shop": site("jwt")}, **PROVIDER | {"issuer": None}), "keys.jwt.issuer", "bad", "missing"),
    "no audience": (said({"a": site("jwt")}, **PROVIDER | {"audience": None}), "keys.jwt.audience", "warn", "missing"),
    "several sites": (
        said({"a": site("jwt"), "b": site("jwt")}, **PROVIDER), "keys.jwt.site_claim", "warn", "each of a, b",
    ),
    "keys over plain HTTP": (
        said({"a": site("jwt")}, **PROVIDER | {"jwks_url": "http://idp/keys"}), "keys.jwt.jwks_url", "bad", "https",
    ),
    "a weak secret": (
        said({"a": site("jwt")}, issuer="i", audience="a", algorithms=["HS256"], key=Secret("change-me-" * 5)),
        "keys.jwt.key", "bad", "never replaced",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("found", "place", "kind", "text"), CASES.values(), ids=CASES.keys())
def test_what_does_not_fit_is_said(found: dict[str, tuple[str, str]], place: str, kind: str, text: str) -> None:
    assert list(found) == [place]
    assert found[place][0] == kind
    assert text in found[place][1]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/keys", "http://[::1]/keys", "http://localhost/keys"])
def test_keys_from_this_very_host_need_no_tls(url: str) -> None:
    assert said({"a": site("jwt")}, **PROVIDER | {"jwks_url": url}) == {}


def test_a_good_secret_is_fine() -> None:
    given = {"issuer": "i", "audience": ["a", "b"], "algorithms": ["HS256"], "key": Secret(STRONG)}
    assert said({"a": site("jwt")}, **given) == {}
