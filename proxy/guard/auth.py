"""Who is it, where a session of ours doesn't say so: embed key, API key, or a token of the customer's provider.

What it stops: sessions for nobody in particular where a site asks for more, and credentials of another site or another
kind. What it doesn't: see keys.py and customer_token.py for what each credential is worth.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from proxy.errors import (
    AuthFailed,
    AuthRequired,
    BadRequest,
    CredentialEnded,
    ForbiddenScope,
    OriginDenied,
    SessionInvalid,
)
from proxy.guard.customer_token import CustomerTokens
from proxy.guard.keys import MAX_KEY_CHARS, ApiKeySettings, Keys, Scope, key_id
from proxy.guard.origin import BROWSER_FACTS_MISSING
from proxy.guard.session import OPENING, Sessions, is_ours
from proxy.model import Client, Identity, Mode, Site

Kind = Literal["embed_key", "api_key", "jwt", "session", "cookie", "ticket", "refresh"]
# What a route needs of an API key. Those that aren't here need `chat`.
READING: Mapping[str, frozenset[Scope]] = {
    "answers": frozenset({"chat", "read"}),
    "events": frozenset({"chat", "read"}),
}
CHAT: frozenset[Scope] = frozenset({"chat"})
_CONVERSATION = re.compile(r"[\x21-\x7e]{1,128}")


def presented(client: Client) -> tuple[Kind, str] | None:
    """The credential that a request is judged by. It is told by its form, and never tried as something else: what has
    none of the forms is an API key where a site takes those, and a broken session token elsewhere.

    A session of ours is none where a new one is to be opened, and an embed key is one only there.
    """
    credential = client.credential
    if client.route == "refresh":
        return None
    if credential is not None and credential.kind == "bearer" and not is_ours(credential.value):
        if credential.value.count(".") == 2:
            return "jwt", credential.value
        if key_id(credential.value) or any("api_key" in site.auth for site in client.sites):
            return "api_key", credential.value
    if client.route in OPENING:
        return None if client.embed_key is None else ("embed_key", client.embed_key)
    if credential is None:
        return None
    return ("session" if credential.kind == "bearer" else credential.kind), credential.value


class Auth:
    """Leaves the one site it is about, the identity of whoever opens a session, and the session of whoever needs none
    opened: an API key or a customer's token speaks for itself. Sessions of ours are the next stage's business.

    `clock` gives Unix time.
    """

    name = "auth"
    mode: Mode = "enforce"

    def __init__(
        self, keys: Keys, tokens: CustomerTokens | None, sessions: Sessions, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._sessions = sessions
        self._clock = clock

    async def check(self, client: Client) -> Client:
        if client.route in OPENING and client.embed_key is not None:
            client = self._by_embed_key(client, client.embed_key)
        match presented(client):
            case "api_key", value:
                client = self._by_api_key(client, value)
            case "jwt", value:
                client = await self._by_token(client, value)
            case _:
                return self._opening(client) if client.route in OPENING else client
        return self._opening(client) if client.route in OPENING else self._speaking(client)

    def _by_embed_key(self, client: Client, value: str) -> Client:
        found = self._keys.embed(value) if len(value) <= MAX_KEY_CHARS else None
        if found is None:
            raise AuthFailed("embed key: not known")
        name, key = found
        site = _accepting(client, "embed_key", name)
        if self._clock() >= key.ends:
            raise CredentialEnded("embed key: it has expired")
        return replace(client, site=site, sites=(site,), identity=Identity(f"embed_key:{key.label}"))

    def _by_api_key(self, client: Client, value: str) -> Client:
        key = self._keys.api(value) if len(value) <= MAX_KEY_CHARS else None
        if key is None:
            raise AuthFailed("api key: not known")
        site = _accepting(client, "api_key", key.site)
        if self._clock() >= key.ends:
            raise CredentialEnded("api key: it has expired")
        _needs(key, client.route)
        identity = Identity(f"api_key:{key.name}", f"key:{key.owner or key.name}", key.ends, self._clock())
        return replace(client, site=site, sites=(site,), identity=identity)

    async def _by_token(self, client: Client, value: str) -> Client:
        sites = tuple(site for site in client.sites if "jwt" in site.auth)
        if self._tokens is None or not sites:
            raise AuthFailed("jwt: not accepted here")
        holder = await self._tokens.verify(value)
        sites = self._tokens.sites(holder, sites)
        site = sites[0] if len(sites) == 1 else None
        identity = Identity("jwt", holder.owner, holder.ends, holder.born)
        return replace(client, site=site, sites=sites, identity=identity)

    def _opening(self, client: Client) -> Client:
        """A session is to be opened. Which site's, if that isn't clear, the next stage asks for."""
        if client.needs_owner and not client.identity.owner:
            raise OriginDenied(BROWSER_FACTS_MISSING)
        if not client.identity.key and client.site is not None and "anonymous" not in client.site.auth:
            raise AuthRequired("no credential, and the site has no anonymous sessions", public=_WAYS)
        return client

    def _speaking(self, client: Client) -> Client:
        """Without a session of ours: one is derived, and is the same whenever this owner comes back."""
        if client.site is None:
            raise BadRequest("the site is not clear", public="Name the site in the X-Sidegate-Site header.")
        if client.conversation and not _CONVERSATION.fullmatch(client.conversation):
            raise BadRequest(
                "X-Sidegate-Conversation", public="X-Sidegate-Conversation takes 1 to 128 visible ASCII characters."
            )
        return replace(client, session=self._sessions.derive(client, client.site))


class Standing:
    """What the session was opened with is still good: whoever takes an API key away, lets it expire, or takes a kind of
    credential out of the site's `auth`, ends what it opened. An embed key only opens.
    """

    name = "standing"
    mode: Mode = "enforce"

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    async def check(self, client: Client) -> Client:
        if client.session is None or client.site is None:
            return client
        kind, _, name = client.session.key.partition(":")
        if (kind or "anonymous") not in client.site.auth:
            raise SessionInvalid("the site no longer takes what it was opened with")
        if kind == "api_key":
            key = self._keys.named(name)
            if key is None or self._clock() >= key.ends:
                raise SessionInvalid("the key that it was opened with is no longer good")
            _needs(key, client.route)
        return client


_WAYS = "This site needs an embed key, an API key or a token to open a session."


def _accepting(client: Client, kind: str, name: str) -> Site:
    """The key's site, if this request may be about it. Raises AuthFailed."""
    site = next((site for site in client.sites if site.name == name), None)
    if site is None:
        raise AuthFailed(f"{kind.replace('_', ' ')}: of another site, or from a page of another site")
    if kind not in site.auth:
        raise AuthFailed(f"{kind.replace('_', ' ')}: not accepted here")
    return site


def _needs(key: ApiKeySettings, route: str) -> None:
    if not READING.get(route, CHAT).intersection(key.scopes):
        raise ForbiddenScope(f"api key: {route} is not in its scopes")
