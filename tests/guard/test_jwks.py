"""Key sets over real sockets: read once for all, read again when keys change, and never at a client's bidding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.errors import AuthFailed, KeysUnavailable
from proxy.guard import jwks
from proxy.guard.jwk import from_jwk, from_text
from proxy.guard.jwks import MAX_KEYS, MAX_STALE, PAUSE, REFRESH, RETRY, RemoteKeys, StaticKey, parse
from tests.clients import Clock
from tests.idp import Provider, identity_provider, new_key
from tests.until import until
from tests.upstreams import Step, plain

ALGORITHMS = ("ES256", "RS256")


class World:
    """Remote keys with a clock of their own, and how their readings ended."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.clock = Clock()
        self.fetched: list[str] = []
        self.keys = RemoteKeys(provider.url, ALGORITHMS, self.fetched.append, self.clock)

    async def find(self, kid: str | None = "k1") -> str | None:
        return (await self.keys.find(kid, "ES256")).id

    async def settled(self, readings: int) -> None:
        """Until so many readings have ended."""
        await until(lambda: len(self.fetched) >= readings)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with identity_provider() as provider:
        made = World(provider)
        try:
            yield made
        finally:
            await made.keys.close()


async def test_a_key_set_is_read_once_for_all_who_wait() -> None:
    async with world() as ours:
        assert await asyncio.gather(*(ours.find() for _ in range(50))) == ["k1"] * 50
        assert (ours.provider.asked, ours.fetched) == (1, ["ok"])


async def test_a_new_key_is_fetched_when_a_token_names_it_and_not_again_for_every_such_token() -> None:
    async with world() as ours:
        await ours.find()
        ours.provider.keys["k2"] = new_key()
        ours.clock.advance(PAUSE)
        assert await asyncio.gather(*(ours.find("k2") for _ in range(50))) == ["k2"] * 50
        for number in range(50):
            with pytest.raises(AuthFailed):
                await ours.find(f"made-up-{number}")
        assert ours.provider.asked == 2
        ours.clock.advance(PAUSE)
        with pytest.raises(AuthFailed):
            await ours.find("made-up")
        assert ours.provider.asked == 3


async def test_a_key_that_the_provider_drops_is_no_longer_good() -> None:
    async with world() as ours:
        await ours.find()
        ours.provider.keys = {"k2": new_key()}
        ours.clock.advance(REFRESH)
        await ours.find("k1")  # beside which the set is read again
        await ours.settled(2)
        with pytest.raises(AuthFailed):
            await ours.find("k1")
        assert await ours.find("k2") == "k2"
        assert ours.provider.asked == 2


async def test_after_a_silence_the_set_is_read_before_it_is_used() -> None:
    async with world() as ours:
        await ours.find()
        ours.provider.keys = {"k2": new_key()}
        ours.clock.advance(2 * REFRESH)
        with pytest.raises(AuthFailed):
            await ours.find("k1")
        assert ours.provider.asked == 2


async def test_known_keys_stay_good_while_the_provider_is_away_and_not_for_ever() -> None:
    async with world() as ours:
        await ours.find()
        ours.provider.script = plain(b"", "503 Service Unavailable")
        for reading in range(2, 5):
            ours.clock.advance(REFRESH)
            assert await ours.find() == "k1"
            await ours.settled(reading)
            assert await ours.find() == "k1"
        assert ours.provider.asked == 4
        ours.clock.advance(MAX_STALE)
        with pytest.raises(KeysUnavailable) as caught:
            await ours.find()
        assert caught.value.retry_after == RETRY
        ours.provider.script = None
        ours.clock.advance(RETRY)
        assert await ours.find() == "k1"


async def test_a_provider_that_is_away_at_the_start_is_asked_again_soon() -> None:
    async with world() as ours:
        ours.provider.script = plain(b"", "503 Service Unavailable")
        for _ in range(20):
            with pytest.raises(KeysUnavailable):
                await ours.find()
        assert ours.provider.asked == 1
        ours.provider.script = None
        ours.clock.advance(RETRY)
        assert await ours.find() == "k1"


BAD = {
    "an error": plain(b"{}", "500 Internal Server Error"),
    "a redirect": plain(b"", "302 Found", "Location: http://127.0.0.1:1/"),
    "no content": plain(b"", "204 No Content"),
    "a connection that breaks": [Step()],
    "garbage": plain(b"\xff\x00 not json"),
    "another document": plain(b"[]"),
    "no list": plain(b'{"keys": {}}'),
    "no keys": plain(b'{"keys": []}'),
    "keys of no use": plain(b'{"keys": [1, {}, {"kty": "EC"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}]}'),
    "too many keys": plain(orjson.dumps({"keys": [{}] * (MAX_KEYS + 1)})),
    "huge": plain(b" " * 70_000 + b'{"keys": []}'),
    "compressed": plain(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("script", BAD.values(), ids=BAD.keys())
async def test_what_is_no_key_set_is_none_and_changes_nothing(script: list[Step]) -> None:
    async with world() as ours:
        ours.provider.script = script
        with pytest.raises(KeysUnavailable):
            await ours.find()
        ours.provider.script = None
        ours.clock.advance(RETRY)
        await ours.find()
        ours.provider.script = script
        ours.clock.advance(REFRESH)
        await ours.find()
        await ours.settled(3)
        assert await ours.find() == "k1"
        assert ours.fetched == ["error", "ok", "error"]


async def test_a_slow_provider_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "TIMEOUT", 0.1)
    async with world() as ours:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
        ours.provider.script = [Step(head), Step(wait=asyncio.Event())]
        ours.clock.advance(RETRY)  # which begins no second reading beside the first
        with pytest.raises(KeysUnavailable):
            await ours.find()
        assert ours.provider.asked == 1


async def test_closing_ends_a_reading() -> None:
    async with identity_provider() as provider:
        provider.script = [Step(wait=asyncio.Event())]
        ours = World(provider)
        await until(lambda: provider.asked > 0)
        await ours.keys.close()
        assert ours.fetched == []


async def test_a_token_without_a_kid_means_the_only_key_that_fits() -> None:
    async with world() as ours:
        assert await ours.find(None) == "k1"
        with pytest.raises(AuthFailed):
            await ours.keys.find(None, "RS256")
        with pytest.raises(AuthFailed):
            await ours.keys.find("k1", "RS256")
        ours.provider.keys["k2"] = new_key()
        ours.clock.advance(REFRESH)
        await ours.find()
        await ours.settled(2)
        with pytest.raises(AuthFailed):
            await ours.find(None)


async def test_a_configured_key_has_every_name_unless_it_has_one_of_its_own() -> None:
    nameless = from_text("s" * 32, ["HS256"])
    assert await StaticKey(nameless).find("../../dev/null", "HS256") is nameless
    jwk = {"kty": "oct", "k": "s" * 43 + "A", "kid": "k1"}
    named = StaticKey(from_jwk(jwk, ["HS256"]))
    assert (await named.find("k1", "HS256")).id == (await named.find(None, "HS256")).id == "k1"
    with pytest.raises(AuthFailed):
        await named.find("k2", "HS256")


def test_keys_for_other_curves_are_passed_over() -> None:
    provider = Provider(keys={"k1": new_key(), "k2": ec.generate_private_key(ec.SECP384R1())})
    found = provider.key_set()
    assert [key.id for key in parse(orjson.dumps(found), ALGORITHMS)] == ["k1"]
