"""What a browser is made to do with a session's cookie, and tokens in URLs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import BadRequest, OriginDenied
from proxy.guard.csrf import FORMS, Csrf, UrlTokens
from proxy.model import Client, Credential
from tests.clients import SESSION, SHOP, client

CSRF = Csrf(lambda session: f"token of {session.id}")


def by_cookie(**facts: Any) -> Client:  # Any: the fields of Client have many types
    usual: dict[str, Any] = {"method": "POST", "fetch_site": "same-site", "media": "application/json", "site": SHOP}
    return client(credential=Credential("cookie", "c"), session=SESSION, **usual | facts)


ALLOWED = {
    "a fetch from the site's page": {},
    "from this server's own page": {"fetch_site": "same-origin"},
    "no body": {"media": "", "method": "DELETE"},
    "reading": {"method": "GET", "origin": None, "fetch_site": "same-origin"},
    "a form with its token": {"media": "multipart/form-data", "csrf": f"token of {SESSION.id}"},
    "embedded elsewhere": {"fetch_site": "cross-site", "site": replace(SHOP, allow_credentials=True)},
    "a WebSocket": {"method": "GET", "route": "ws"},
    "a WebSocket of a browser that says less": {"method": "GET", "route": "ws", "fetch_site": None},
    "no cookie": {"origin": None, "fetch_site": None, "credential": Credential("bearer", "t")},
    "nothing": {"origin": None, "fetch_site": None, "credential": None},
    "before there is a session": {"origin": None, "fetch_site": None, "session": None},
}
REFUSED = {
    "no Origin": {"origin": None},
    "no Sec-Fetch-Site": {"fetch_site": None},
    "another site's page": {"fetch_site": "cross-site"},
    "an address typed in": {"fetch_site": "none"},
    "something new": {"fetch_site": "same-galaxy"},
    "a WebSocket without Origin": {"method": "GET", "route": "ws", "origin": None},
    "a WebSocket of another site's page": {"method": "GET", "route": "ws", "fetch_site": "cross-site"},
    "another session's token": {"media": "text/plain", "csrf": "token of s2"},
    "a token that is no ASCII": {"media": "text/plain", "csrf": "tökän"},
    "embedded, but no Origin": {"origin": None, "site": replace(SHOP, allow_credentials=True)},
} | {f"a form as {media}": {"media": media} for media in sorted(FORMS)}


@pytest.mark.parametrize("facts", ALLOWED.values(), ids=ALLOWED.keys())
async def test_what_our_pages_do_passes(facts: dict[str, Any]) -> None:
    who = replace(by_cookie(), **facts)
    assert await CSRF.check(who) is who


@pytest.mark.parametrize("facts", REFUSED.values(), ids=REFUSED.keys())
async def test_what_others_have_a_browser_do_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(OriginDenied):
        await CSRF.check(by_cookie(**facts))


async def test_a_token_in_a_url_is_refused_whoever_sends_it() -> None:
    with pytest.raises(BadRequest, match="token in the URL"):
        await UrlTokens().check(client(has_url_token=True))
    who = client()
    assert await UrlTokens().check(who) is who
