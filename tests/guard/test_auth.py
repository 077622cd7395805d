"""Credentials other than a session's: whose they are, where they are good, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from proxy.errors import (
    AuthFailed,
    AuthRequired,
    BadRequest,
    CredentialEnded,
    Denied,
    ForbiddenScope,
    OriginDenied,
    SessionInvalid,
)
from proxy.guard.auth import Auth, Standing, presented
from proxy.guard.customer_token import CustomerTokens, JwtSettings
from proxy.guard.jwk import from_jwk
from proxy.guard.jwks import StaticKey
from proxy.guard.keys import ApiKeySettings, EmbedKeySettings, Keys, hash_of, new_key
from proxy.guard.presence import Presence
from proxy.guard.revocation import Revocations
from proxy.guard.session import Sessions, SessionSettings
from proxy.model import Client, Credential, Identity, Session, Site
from proxy.store.memory import MemoryStore
from proxy.store.sessions import MemorySessions
from proxy.telemetry import Metrics
from tests.clients import SHOP, Clock, client
from tests.idp import AUDIENCE, ISSUER, Provider

NOW = 1_790_000_000.0  # 2026-09-21
LATER = "2026-12-31"
KEY, READ_KEY, OLD_KEY, BLOG_KEY = (new_key("api") for _ in range(4))
PUBLIC, OLD_PUBLIC, BLOG_PUBLIC = (new_key("embed") for _ in range(3))
ALL = frozenset({"anonymous", "embed_key", "api_key", "jwt"})
PROVIDER = Provider()

API = [
    ApiKeySettings(name="bot", hash=hash_of(KEY), site="shop"),
    ApiKeySettings(name="screen", hash=hash_of(READ_KEY), site="shop", scopes=("read",), owner="bot"),
    ApiKeySettings(name="old", hash=hash_of(OLD_KEY), site="shop", expires="2026-01-01"),
    ApiKeySettings(name="blogger", hash=hash_of(BLOG_KEY), site="blog", expires=LATER),
]
EMBED = {
    "shop": [
        EmbedKeySettings(hash=hash_of(PUBLIC), name="page", expires=LATER),
        EmbedKeySettings(hash=hash_of(OLD_PUBLIC), expires="2026-01-01"),
    ],
    "blog": [EmbedKeySettings(hash=hash_of(BLOG_PUBLIC))],
}


def site(name: str = "shop", auth: frozenset[str] = ALL) -> Site:
    return Site(name, SHOP.origins, "support", auth=auth)


class World:
    """The stage with every kind of credential, and one clock."""

    def __init__(self, **given: Any) -> None:  # Any: as a configuration file has them
        self.clock = Clock(NOW)
        keys = Keys(API, EMBED)
        (public,) = PROVIDER.key_set()["keys"]
        written = JwtSettings(issuer=ISSUER, audience=AUDIENCE, algorithms=("ES256",), **given)
        self.tokens = CustomerTokens(written, StaticKey(from_jwk(public, ["ES256"])), self.clock)
        self.revocations = Revocations(b"k" * 32, 86_400, clock=self.clock)
        store = MemoryStore(self.clock)
        presence = Presence(MemorySessions(self.clock), self.revocations, b"k" * 32, 100, 20, self.clock)
        self.sessions = Sessions(SessionSettings(), b"k" * 32, store, self.revocations, presence, Metrics(), self.clock)
        self.auth = Auth(keys, self.tokens, self.sessions, self.clock)
        self.standing = Standing(keys, self.clock)

    async def check(self, bearer: str | None = None, *sites: Site, **facts: Any) -> Client:  # Any: fields of Client
        credential = None if bearer is None else Credential("bearer", bearer)
        chosen = sites or (site(),)
        only = chosen[0] if len(chosen) == 1 else None
        return await self.auth.check(client(credential=credential, sites=chosen, site=only, **facts))


def token(**more: Any) -> str:  # Any: JSON
    return PROVIDER.token(**({"iat": int(NOW), "exp": int(NOW) + 600} | more))


async def test_an_api_key_speaks_for_its_owner_without_a_session() -> None:
    world = World()
    passed = await world.check(KEY, site(), site("blog"))
    assert passed.site == site()
    assert passed.identity == Identity("api_key:bot", "key:bot", inf, NOW)
    assert passed.session is not None
    assert (passed.session.owner, passed.session.key) == ("key:bot", "api_key:bot")
    assert passed.session.ends == NOW + 86_400


async def test_a_customers_token_speaks_for_its_subject_as_long_as_it_is_good() -> None:
    passed = await World().check(token())
    assert passed.session is not None
    assert passed.session.owner == "jwt:https://idp.example#ann"
    assert (passed.session.key, passed.session.ends) == ("jwt", NOW + 86_400)  # so long its answers may be
    for route in ("ws", "events", "ticket"):
        lasting = (await World().check(token(), route=route)).session
        assert lasting is not None
        assert (lasting.id, lasting.ends) == (passed.session.id, NOW + 610)


async def test_a_conversation_is_the_same_for_its_owner_and_nobody_elses() -> None:
    world = World()

    async def session(bearer: str, conversation: str = "", *sites: Site) -> str:
        passed = await world.check(bearer, *sites, conversation=conversation, route="answers")
        assert passed.session is not None
        return passed.session.id

    assert await session(KEY, "c1") == await session(KEY, "c1") == await session(READ_KEY, "c1")
    different = [
        await session(KEY), await session(KEY, "c1"), await session(KEY, "c2"), await session(token()),
        await session(token(sub="bob")), await session(token(), "c1"), await session(BLOG_KEY, "c1", site("blog")),
        await session(token(), "c1", site("blog")),
    ]  # fmt: skip
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 129, "a\0b", "\t"])
async def test_a_conversations_name_is_short_and_visible(name: str) -> None:
    with pytest.raises(BadRequest):
        await World().check(KEY, conversation=name)


async def test_an_embed_key_opens_sessions_for_its_site_and_does_nothing_else() -> None:
    world = World()
    passed = await world.check(None, site(), site("blog"), embed_key=PUBLIC, route="session")
    assert (passed.site, passed.identity) == (site(), Identity("embed_key:page"))
    assert passed.session is None
    assert (await world.check(None, embed_key=PUBLIC)).identity == Identity()


async def test_a_session_that_a_key_or_token_opens_is_its_owners() -> None:
    world = World()
    for bearer, owner in ((KEY, "key:bot"), (token(), "jwt:https://idp.example#ann")):
        passed = await world.check(bearer, route="session", embed_key=PUBLIC)
        assert passed.site is not None
        assert (await world.sessions.open(passed, passed.site)).session.owner == owner


async def test_who_was_ended_comes_back_with_a_newer_token_only() -> None:
    world = World()
    old = token(iat=int(NOW) - 5)
    session = (await world.check(old)).session
    assert session is not None
    await world.revocations.end(session)
    with pytest.raises(SessionInvalid):
        await world.check(old)
    world.clock.advance(1)
    assert (await world.check(token(iat=int(NOW) + 1))).session is not None


async def test_anonymous_sessions_are_for_sites_that_have_them() -> None:
    world = World()
    assert (await world.check(route="session")).identity == Identity()
    with pytest.raises(AuthRequired):
        await world.check(None, site(auth=ALL - {"anonymous"}), route="session")
    for bearer in (KEY, token()):
        await world.check(bearer, site(auth=ALL - {"anonymous"}), route="session")


REFUSED: dict[str, tuple[type[Denied], dict[str, Any], tuple[Site, ...]]] = {
    "an unknown API key": (AuthFailed, {"bearer": new_key("api")}, ()),
    "an endless API key": (AuthFailed, {"bearer": "k" * 600}, ()),
    "an embed key as an API key": (AuthFailed, {"bearer": PUBLIC}, ()),
    "the hash instead of the key": (AuthFailed, {"bearer": hash_of(KEY)}, ()),
    "an expired API key": (CredentialEnded, {"bearer": OLD_KEY}, ()),
    "another site's API key": (AuthFailed, {"bearer": BLOG_KEY}, ()),
    "an API key where none is taken": (AuthFailed, {"bearer": KEY}, (site(auth=frozenset({"anonymous"})),)),
    "a token where none is taken": (AuthFailed, {"bearer": token()}, (site(auth=frozenset({"api_key"})),)),
    "a forged token": (AuthFailed, {"bearer": Provider().token()}, ()),
    "an unknown embed key": (AuthFailed, {"embed_key": new_key("embed"), "route": "session"}, ()),
    "an endless embed key": (AuthFailed, {"embed_key": "k" * 600, "route": "session"}, ()),
    "an API key as an embed key": (AuthFailed, {"embed_key": KEY, "route": "session"}, ()),
    "an expired embed key": (CredentialEnded, {"embed_key": OLD_PUBLIC, "route": "session"}, ()),
    "another site's embed key": (AuthFailed, {"embed_key": BLOG_PUBLIC, "route": "session"}, ()),
    "an embed key where none is taken": (
        AuthFailed, {"embed_key": PUBLIC, "route": "session"}, (site(auth=frozenset({"anonymous"})),),
    ),
    "a good token with a bad embed key": (AuthFailed, {"bearer": token(), "embed_key": "x", "route": "session"}, ()),
    "a key that may only read": (ForbiddenScope, {"bearer": READ_KEY}, ()),
    "a key that may only read, stopping": (ForbiddenScope, {"bearer": READ_KEY, "route": "stop"}, ()),
    "a key that may only read, opening": (ForbiddenScope, {"bearer": READ_KEY, "route": "session"}, ()),
    "a token, and it isn't clear for which site": (BadRequest, {"bearer": token()}, (site(), site("blog"))),
    "no browser and nobody": (OriginDenied, {"route": "session", "needs_owner": True}, ()),
    "no browser and an embed key": (
        OriginDenied, {"embed_key": PUBLIC, "route": "session", "needs_owner": True}, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("error", "facts", "sites"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_not_good_here_is_refused(
    error: type[Denied], facts: dict[str, Any], sites: tuple[Site, ...]
) -> None:
    bearer = facts.get("bearer")
    with pytest.raises(error) as caught:
        await World().check(bearer, *sites, **{name: value for name, value in facts.items() if name != "bearer"})
    assert caught.value.is_guess is (error is AuthFailed)
    for secret in (KEY, READ_KEY, PUBLIC, bearer):
        assert secret is None or secret not in caught.value.detail + caught.value.public


async def test_a_key_that_may_read_reads() -> None:
    for route in ("answers", "events"):
        assert (await World().check(READ_KEY, route=route)).session is not None


async def test_without_a_browser_an_owner_is_enough() -> None:
    for bearer in (KEY, token()):
        for route in ("session", "messages"):
            await World().check(bearer, route=route, needs_owner=True)


async def test_a_token_may_name_its_site() -> None:
    world = World(site_claim="tenant")
    assert (await world.check(token(tenant="blog"), site(), site("blog"))).site == site("blog")
    for tenant in ("other", None, ["blog"]):
        with pytest.raises(AuthFailed):
            await world.check(token(tenant=tenant), site(), site("blog"))
    plain = replace(site("plain"), auth=frozenset({"anonymous"}))
    assert (await World().check(token(), plain, site())).site == site()


async def test_without_a_provider_no_token_is_taken() -> None:
    world = World()
    auth = Auth(Keys([], {}), None, world.sessions)
    with pytest.raises(AuthFailed):
        await auth.check(client(credential=Credential("bearer", token()), sites=(site(),)))


async def test_credentials_are_told_by_their_form() -> None:
    world = World()
    ours = (await world.sessions.open(client(), SHOP)).access_token
    anonymous = (SHOP,)
    everything = (site(),)

    def kind(value: str, sites: tuple[Site, ...] = everything, **facts: Any) -> str | None:
        found = presented(client(credential=Credential(facts.pop("kind", "bearer"), value), sites=sites, **facts))
        return None if found is None else found[0]

    assert kind(ours) == "session"
    assert kind(ours, route="session") is None
    assert kind(ours, route="session", embed_key=PUBLIC) == "embed_key"
    assert kind(KEY) == kind(KEY, anonymous) == kind("whatever") == kind("") == "api_key"
    assert kind("whatever", anonymous) == "session"
    assert kind(token()) == kind("a.b.c", anonymous) == kind(token(), route="session", embed_key=PUBLIC) == "jwt"
    assert kind(ours, kind="cookie") == "cookie"
    assert kind(ours, kind="ticket") == "ticket"
    assert kind(KEY, route="refresh") is None
    assert presented(client()) is None
    assert presented(client(embed_key=PUBLIC)) is None


async def test_rfc_8725_3_12_no_kind_of_token_passes_for_another() -> None:
    world = World()
    ours = await world.sessions.open(client(), SHOP)
    for token_of_ours in (ours.access_token, ours.refresh_token, ours.cookie):
        with pytest.raises(AuthFailed):
            await world.tokens.verify(token_of_ours)
    posing = token(header={"typ": "sidegate+jwt"})
    for theirs in (token(), posing):
        kinds: list[Any] = ["bearer", "cookie", "ticket"]  # Any: words of a Literal
        for kind in kinds:
            with pytest.raises(SessionInvalid):
                await world.sessions.verify(client(credential=Credential(kind, theirs)))


def with_session(key: str, auth: frozenset[str] = ALL) -> Client:
    return client(session=Session("s", "shop", "", inf, "", key), site=site(auth=auth))


@pytest.mark.parametrize("key", ["", "jwt", "embed_key:page", "api_key:bot"])
async def test_a_session_stands_as_long_as_what_opened_it_does(key: str) -> None:
    subject = with_session(key)
    assert await World().standing.check(subject) is subject
    assert await World().standing.check(client()) == client()
    kind = key.partition(":")[0] or "anonymous"
    with pytest.raises(SessionInvalid):
        await World().standing.check(with_session(key, ALL - {kind}))


async def test_a_session_ends_with_the_api_key_that_opened_it() -> None:
    world = World()
    for name in ("old", "removed"):
        with pytest.raises(SessionInvalid):
            await world.standing.check(with_session(f"api_key:{name}"))
    with pytest.raises(ForbiddenScope):
        await world.standing.check(with_session("api_key:screen"))
    assert [presented(client())] == [None]
