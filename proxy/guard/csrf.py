"""What a foreign page could have a browser do with our cookie, and tokens where others can read them.

What it stops: requests that change something and that no page of ours sent (cross-site request forgery), also by a
plain form; tokens in URLs, which end in logs, histories and Referer headers. What it doesn't: a page of ours that was
taken over (cross-site scripting) is one of ours. No browser adds `Authorization` by itself, so that needs no proof.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from proxy.errors import BadRequest, OriginDenied
from proxy.model import Client, Mode, Session

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1
# What a page can send anywhere without asking: https://fetch.spec.whatwg.org/#cors-safelisted-request-header
FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})


class UrlTokens:
    """A token in a URL is refused, so that nobody begins to send them there. A ticket is made for it: it works once."""

    name = "url"
    mode: Mode = "enforce"

    async def check(self, client: Client) -> Client:
        if client.has_url_token:
            raise BadRequest(
                "a token in the URL",
                public="Tokens don't belong in URLs. Send it as Authorization: Bearer, or use a ticket.",
            )
        return client


class Csrf:
    """For sessions by cookie: what changes something, and every WebSocket, comes with an Origin of ours and says so in
    Sec-Fetch-Site; a form's body comes with the session's token, too. `token` gives the one of a session.
    """

    name = "csrf"
    mode: Mode = "enforce"

    def __init__(self, token: Callable[[Session], str]) -> None:
        self._token = token

    async def check(self, client: Client) -> Client:
        if client.credential is None or client.credential.kind != "cookie" or client.session is None:
            return client
        if client.method in SAFE and client.route != "ws":
            return client
        if client.origin is None:  # where there is one, it is one of the site's: see origin.py
            raise OriginDenied("a cookie, and no Origin")
        # Not every browser says it in a WebSocket's handshake, where Origin can't be left out.
        if client.fetch_site not in self._fetch_sites(client) and (client.route != "ws" or client.fetch_site):
            raise OriginDenied(f"a cookie, and Sec-Fetch-Site: {client.fetch_site}")
        expected = self._token(client.session)
        if client.media in FORMS and not hmac.compare_digest(client.csrf.encode(), expected.encode()):
            raise OriginDenied("a form with a cookie, and no X-CSRF-Token of its session")
        return client

    def _fetch_sites(self, client: Client) -> tuple[str, ...]:
        is_embedded = client.site is not None and client.site.allow_credentials
        return ("same-origin", "same-site", "cross-site") if is_embedded else ("same-origin", "same-site")
