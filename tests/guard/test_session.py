"""Sessions and their tokens: what is accepted, and every forgery that isn't."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from typing import Any

import jwt
import pytest

from proxy.errors import AuthRequired, BadRequest, OriginDenied, SessionInvalid
from proxy.guard.presence import ACTIVE_SECONDS, Presence
from proxy.guard.revocation import Revocations
from proxy.guard.session import MAX_TOKEN_CHARS, Issued, Sessions, SessionSettings, SessionStage, is_ours
from proxy.model import Client, Credential, Identity, Site
from proxy.store.memory import MemoryStore
from proxy.store.sessions import MemorySessions
from proxy.telemetry import Metrics
from tests.clients import SHOP, Clock, client

CLIENT = client(sites=(SHOP,))

KEY = b"a session key of thirty-two bytes"


class World:
    """Sessions over a memory store, with one clock for both."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.settings = SessionSettings(**settings)
        self.revocations = Revocations(KEY, self.settings.longest, clock=self.clock)
        self.presence = Presence(MemorySessions(self.clock), self.revocations, KEY, 1000, 20, self.clock)
        self.sessions = Sessions(self.settings, KEY, self.store, self.revocations, self.presence, Metrics(), self.clock)
        self.stage = SessionStage(self.sessions, self.presence)

    async def open(self, **facts: Any) -> Issued:
        return await self.sessions.open(client(**facts), SHOP)

    async def use(self, token: str, kind: Any = "bearer", **facts: Any) -> Client:
        return await self.stage.check(client(credential=Credential(kind, token), sites=(SHOP,), **facts))


async def test_an_issued_token_is_accepted_until_it_expires() -> None:
    world = World()
    issued = await world.open()
    assert issued.expires_in == 900
    world.clock.advance(899)
    checked = await world.use(issued.access_token)
    assert checked.session == issued.session
    assert checked.site == SHOP
    world.clock.advance(1)
    with pytest.raises(SessionInvalid, match="expired"):
        await world.use(issued.access_token)


async def test_without_a_credential_a_session_is_asked_for() -> None:
    with pytest.raises(AuthRequired):
        await World().stage.check(client(sites=(SHOP,)))


def _forged(**claims: Any) -> dict[str, Any]:
    return {
        "aud": "sidegate/access", "sid": "s", "site": "shop", "fp": "", "iat": 0, "exp": time.time() + 1e6, "end": 2e9,
        "jti": "j", "own": "", "key": "", **claims,
    }  # fmt: skip


def _none_token() -> str:
    def part(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    return part('{"alg":"none","typ":"JWT"}') + "." + part('{"aud":"sidegate/access","sid":"s","site":"shop"}') + "."


FORGED = {
    "empty": "",
    "garbage": "garbage",
    "dots": "a.b.c",
    "too long": "a" * (MAX_TOKEN_CHARS + 1),
    "another key": jwt.encode(_forged(), b"x" * 32, algorithm="HS256"),
    "the raw key instead of the derived one": jwt.encode(_forged(), KEY, algorithm="HS256"),
    "alg none": _none_token(),
    "another algorithm": jwt.encode(_forged(), KEY * 2, algorithm="HS512"),
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
@pytest.mark.parametrize("kind", ["bearer", "cookie", "ticket"])
async def test_a_forged_token_is_refused(token: str, kind: str) -> None:
    with pytest.raises(SessionInvalid):
        await World(fingerprint="off").use(token, kind)


async def test_each_kind_of_token_serves_its_own_purpose_only() -> None:
    world = World()
    issued = await world.open()
    tokens = {
        "bearer": issued.access_token,
        "cookie": issued.cookie,
        "ticket": world.sessions.ticket(issued.session),
        "refresh": issued.refresh_token,
    }
    for kind in ("bearer", "cookie", "ticket"):
        for name, token in tokens.items():
            if name != kind:
                with pytest.raises(SessionInvalid):
                    await world.use(token, kind)
        await world.use(tokens[kind], kind)
    with pytest.raises(SessionInvalid):
        await world.sessions.refresh(CLIENT, issued.access_token)


async def test_another_browser_cannot_use_the_token() -> None:
    world = World()
    issued = await world.open()
    with pytest.raises(SessionInvalid, match="fingerprint"):
        await world.use(issued.access_token, user_agent="curl/8")
    with pytest.raises(SessionInvalid, match="fingerprint"):
        await world.sessions.refresh(client(user_agent="curl/8", sites=(SHOP,)), issued.refresh_token)


@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("how", ["access", "refresh"])
async def test_where_risks_are_enforced_another_browser_ends_the_session(mode: str, how: str) -> None:
    world = World(risk={"mode": mode})
    issued = await world.open()
    for _ in range(2):
        thief = client(user_agent="curl/8", sites=(SHOP,))
        stolen = replace(thief, credential=Credential("bearer", issued.access_token))
        attempt = world.stage.check(stolen) if how == "access" else world.sessions.refresh(thief, issued.refresh_token)
        with pytest.raises(SessionInvalid):
            await attempt
    assert world.revocations.is_revoked(issued.session) is (mode == "enforce")
    if mode == "observe":
        await world.use(issued.access_token)


async def test_many_openings_of_an_address_are_remembered_in_what_they_open() -> None:
    world = World(risk={"openings": 2})
    opened = [(await world.open()).session.has_many for _ in range(3)]
    assert opened == [False, True, True]
    assert not (await world.open(ip="192.0.2.8")).session.has_many
    issued = await world.open()
    assert (await world.use(issued.access_token)).session == issued.session
    refreshed = await world.sessions.refresh(CLIENT, issued.refresh_token)
    assert refreshed.session.has_many
    world.clock.advance(60)
    assert not (await world.open()).session.has_many


async def test_refreshing_from_another_network_forgets_nothing_of_the_opening() -> None:
    world = World()
    first = await world.open()
    second = await world.sessions.refresh(client(ip="198.51.100.1", sites=(SHOP,)), first.refresh_token)
    assert second.session.fingerprint == first.session.fingerprint


async def test_a_session_of_one_site_is_none_of_another() -> None:
    world = World()
    other = Site("blog", SHOP.origins, "support")
    token = (await world.sessions.open(client(), other)).access_token
    with pytest.raises(SessionInvalid, match="may not talk to"):
        await world.use(token)


async def test_a_ticket_works_once_and_for_thirty_seconds() -> None:
    world = World()
    session = (await world.open()).session
    ticket = world.sessions.ticket(session)
    await world.use(ticket, "ticket")
    with pytest.raises(SessionInvalid, match="used before"):
        await world.use(ticket, "ticket")
    late = world.sessions.ticket(session)
    world.clock.advance(30)
    with pytest.raises(SessionInvalid, match="expired"):
        await world.use(late, "ticket")


async def test_a_refresh_gives_the_same_session_new_tokens() -> None:
    world = World()
    first = await world.open()
    world.clock.advance(1000)
    second = await world.sessions.refresh(CLIENT, first.refresh_token)
    assert second.session.id == first.session.id
    assert second.refresh_expires_in == first.refresh_expires_in - 1000
    await world.use(second.access_token)


async def test_a_session_stays_its_owners_and_its_keys() -> None:
    world = World()
    first = await world.open(identity=Identity("jwt", "jwt:https://idp.example#ann"))
    second = await world.sessions.refresh(CLIENT, first.refresh_token)
    for token, kind in (
        (second.access_token, "bearer"), (second.cookie, "cookie"), (world.sessions.ticket(second.session), "ticket"),
    ):  # fmt: skip
        session = (await world.use(token, kind)).session
        assert session is not None
        assert (session.owner, session.key) == ("jwt:https://idp.example#ann", "jwt")


async def test_a_refresh_token_used_twice_ends_all_tokens_of_its_session() -> None:
    world = World()
    first = await world.open()
    second = await world.sessions.refresh(CLIENT, first.refresh_token)
    with pytest.raises(SessionInvalid, match="used before"):
        await world.sessions.refresh(CLIENT, first.refresh_token)
    with pytest.raises(SessionInvalid, match="was ended"):
        await world.sessions.refresh(CLIENT, second.refresh_token)


async def test_a_refresh_token_of_one_site_is_none_of_another() -> None:
    world = World()
    token = (await world.sessions.open(client(), Site("blog", SHOP.origins, "support"))).refresh_token
    with pytest.raises(SessionInvalid, match="may not talk to"):
        await world.sessions.refresh(CLIENT, token)


async def test_refreshing_ends_when_the_refresh_lifetime_does() -> None:
    world = World(refresh_lifetime=86_400)
    token = (await world.open()).refresh_token
    world.clock.advance(86_400)
    with pytest.raises(SessionInvalid, match="expired"):
        await world.sessions.refresh(CLIENT, token)


async def test_opening_a_session_needs_a_clear_site() -> None:
    world = World()
    both = (SHOP, Site("blog", SHOP.origins, "support"))
    with pytest.raises(BadRequest):
        await world.stage.check(client(route="session", sites=both))
    assert (await world.stage.check(client(route="session", sites=(SHOP,), site=SHOP))).site == SHOP
    await world.stage.check(client(route="refresh", sites=both))


async def test_only_so_many_good_signatures_are_remembered_and_forgotten_ones_are_checked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.guard.session.MAX_VERIFIED", 2)
    world = World()
    tokens = [(await world.open()).access_token for _ in range(4)]
    for token in [*tokens, *tokens]:
        await world.use(token)
    world.clock.advance(900)
    for token in tokens:  # a remembered signature doesn't outlive its token
        with pytest.raises(SessionInvalid, match="expired"):
            await world.use(token)


async def test_active_sessions_are_those_seen_of_late() -> None:
    world = World(access_lifetime=86_400)
    token = (await world.open()).access_token
    await world.use(token)
    await world.use((await world.open()).access_token)
    assert world.presence.active() == 2
    world.clock.advance(ACTIVE_SECONDS - 1)
    await world.use(token)
    world.clock.advance(1)
    assert world.presence.active() == 1


def test_no_credential_shows_in_a_repr() -> None:
    assert "hunter2" not in repr(client(credential=Credential("bearer", "hunter2")))


async def test_without_a_browser_only_a_session_with_an_owner_is_good() -> None:
    world = World()
    owned = Identity("api_key:bot", "key:bot")
    for identity, passes in ((owned, True), (Identity("embed_key:page"), False), (Identity(), False)):
        issued = await world.open(identity=identity)
        ticket = world.sessions.ticket(issued.session)
        for token, kind in ((issued.access_token, "bearer"), (ticket, "ticket")):
            if passes:
                assert (await world.use(token, kind, needs_owner=True)).session == issued.session
            else:
                with pytest.raises(OriginDenied):
                    await world.use(token, kind, needs_owner=True)
                await world.use(token, kind)  # the ticket is still good
        if passes:
            await world.sessions.refresh(replace(CLIENT, needs_owner=True), issued.refresh_token)
        else:
            with pytest.raises(OriginDenied):
                await world.sessions.refresh(replace(CLIENT, needs_owner=True), issued.refresh_token)
            await world.sessions.refresh(CLIENT, issued.refresh_token)


async def test_a_session_that_was_derived_needs_no_token() -> None:
    world = World()
    identity = Identity("jwt", "jwt:#ann", ends=world.clock() + 60)
    assert world.sessions.derive(client(identity=identity), SHOP).ends == world.clock() + 86_400
    session = world.sessions.derive(client(identity=identity, route="ticket"), SHOP)
    assert session.ends == world.clock() + 60
    checked = await world.stage.check(client(session=session, sites=(SHOP,)))
    assert (checked.session, checked.site) == (session, SHOP)
    ticket = world.sessions.ticket(session)
    found = (await world.use(ticket, "ticket")).session
    assert found is not None
    assert (found.id, found.owner) == (session.id, "jwt:#ann")


async def test_our_tokens_are_told_by_how_they_begin() -> None:
    world = World()
    issued = await world.open()
    for token in (issued.access_token, issued.refresh_token, issued.cookie, world.sessions.ticket(issued.session)):
        assert is_ours(token)
        assert jwt.get_unverified_header(token) == {"typ": "sidegate+jwt", "alg": "HS256"}
    assert not is_ours(jwt.encode({"sub": "ann"}, KEY, algorithm="HS256"))
