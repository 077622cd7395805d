"""What goes upstream in place of personal data, what comes back for whom, and what happens without the store."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from proxy.content.vault import Safe, restored
from proxy.guard.masking import ATTEMPTS, Keeper, Masking, PiiSettings
from proxy.model import Message, Request, Session
from proxy.store import StoreDown, Versioned
from proxy.store.memory import MemoryStore
from proxy.store.vaults import MemoryVaults
from tests.clients import SESSION, Clock, request

TEXT = "I am ann@shop.org, my card is 4556 7375 8689 9855"


class Away(MemoryStore):
    """A store that says of itself that it is away."""

    def degraded(self) -> str | None:
        return "redis is not reachable"


class Contended(MemoryVaults):
    """`times` times somebody else is faster."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def write(self, name: str, version: int, data: bytes, ttl: float) -> bool:
        self.times -= 1
        return self.times < 0 and await super().write(name, version, data, ttl)


class Broken(MemoryVaults):
    async def read(self, name: str, ttl: float) -> Versioned | None:
        raise StoreDown("TimeoutError")


class Slow(MemoryVaults):
    """Others get their turn while one is read."""

    async def read(self, name: str, ttl: float) -> Versioned | None:
        kept = await super().read(name, ttl)
        await asyncio.sleep(0)
        return kept


class Stuck(MemoryVaults):
    """Nothing can be read until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def read(self, name: str, ttl: float) -> Versioned | None:
        self.asked.set()
        await self.go.wait()
        return await super().read(name, ttl)


def keeper(vaults: MemoryVaults | None = None, store: MemoryStore | None = None, key: bytes = b"k" * 32) -> Keeper:
    return Keeper(vaults or MemoryVaults(), Safe(key), store or MemoryStore())


def stage(kept: Keeper | None = None, clock: Clock | None = None, **settings: object) -> Masking:
    one = PiiSettings.model_validate(settings)
    return Masking({"shop": one}, kept or keeper(), owned, clock or Clock())


def owned(session: Session) -> str:
    return f"upstream's {session.id}"


async def test_placeholders_go_upstream_and_come_back_in_this_session() -> None:
    masked = await stage().check(request(TEXT))
    assert masked.message.text == "I am [EMAIL_1], my card is [CARD_1]"
    assert masked.verdict.masked == {"email": 1, "card": 1}
    assert (
        restored("Hi [EMAIL_1], your [CARD_1] works", masked.values)
        == "Hi ann@shop.org, your 4556 7375 8689 9855 works"
    )
    assert "ann" not in repr(masked)


async def test_what_an_ended_session_had_is_forgotten() -> None:
    kept = keeper()
    for one in (SESSION, replace(SESSION, id="s2")):
        await stage(kept).check(request(TEXT, session=one))
    await kept.forget("shop", owned(SESSION))
    assert await kept.values("shop", owned(SESSION)) == {}
    assert len(await kept.values("shop", "upstream's s2")) == 2


async def test_without_the_store_an_ended_session_keeps_its_values_until_its_time() -> None:
    vaults = MemoryVaults()
    await stage(keeper(vaults)).check(request(TEXT))
    await keeper(vaults, Away()).forget("shop", owned(SESSION))
    assert len(await keeper(vaults).values("shop", owned(SESSION))) == 2


async def test_the_session_keeps_its_placeholders_and_another_has_its_own() -> None:
    masking = stage()
    await masking.check(request(TEXT))
    again = await masking.check(request("bob@shop.org or ann@shop.org?"))
    assert again.message.text == "[EMAIL_2] or [EMAIL_1]?"
    assert (await masking.check(request("hello"))).values == again.values
    other = await masking.check(request("eve@shop.org", session=replace(SESSION, id="s2")))
    assert other.values == {"[EMAIL_1]": "eve@shop.org"}
    assert (await masking.check(request("hello", session=replace(SESSION, id="s3")))).values == {}


async def test_a_placeholder_that_the_visitor_typed_is_nobodys_value() -> None:
    masking = stage()
    await masking.check(request(TEXT))
    masked = await masking.check(request("what is [EMAIL_1]?"))
    assert masked.message.text == "what is [LITERAL_1]?"
    assert restored(masked.message.text, masked.values) == "what is [EMAIL_1]?"
    assert masked.verdict.masked == {}


async def test_the_context_is_masked_too() -> None:
    message = Message("hi", {"mail": "ann@shop.org", "card": 4556737586899855, "page": "/cart"})
    masked = await stage().check(replace(request(), message=message))
    assert masked.message == Message("hi", {"mail": "[EMAIL_1]", "card": "[CARD_1]", "page": "/cart"})


async def test_a_mask_is_for_good() -> None:
    masked = await stage(mode="mask").check(request(TEXT))
    assert masked.message.text == "I am [EMAIL], my card is [CARD]"
    assert masked.values == {}
    assert masked.verdict.masked == {"email": 1, "card": 1}


async def test_only_the_sites_that_want_it_have_it_done() -> None:
    assert (await stage(mode=False).check(request(TEXT))).message.text == TEXT
    assert (await Masking({}, keeper(), owned).check(request(TEXT))).message.text == TEXT


async def test_only_the_wanted_kinds_are_masked_and_not_what_is_excluded() -> None:
    masked = await stage(kinds=["email"]).check(request(TEXT))
    assert masked.message.text == "I am [EMAIL_1], my card is 4556 7375 8689 9855"
    masked = await stage(exclude=["test_cards"]).check(request("4242424242424242"))
    assert masked.message.text == "4242424242424242"


@pytest.mark.parametrize("kept", [keeper(Broken()), keeper(store=Away()), keeper(Contended(ATTEMPTS))])
async def test_without_the_store_nothing_goes_out_raw_and_nothing_comes_back(kept: Keeper) -> None:
    masked = await stage(kept).check(request(TEXT))
    assert masked.message.text == "I am [EMAIL], my card is [CARD]"
    assert masked.values == {}
    assert await kept.values("shop", owned(SESSION)) == {}


async def test_a_vault_that_was_sealed_with_another_key_is_not_written_over() -> None:
    vaults = MemoryVaults()
    await stage(keeper(vaults)).check(request(TEXT))
    masked = await stage(keeper(vaults, key=b"l" * 32)).check(request("ann@shop.org"))
    assert masked.message.text == "[EMAIL_1]"  # under the other key it has another name
    name = Safe(b"k" * 32).name("shop", owned(SESSION))
    assert await vaults.write(name, 1, b"something else", 60)
    masked = await stage(keeper(vaults)).check(request("ann@shop.org"))
    assert (masked.message.text, masked.values) == ("[EMAIL]", {})
    assert await vaults.read(name, 1) == Versioned(2, b"something else")


async def test_messages_at_the_same_time_get_different_numbers() -> None:
    masking = stage(keeper(Contended(ATTEMPTS - 1)))
    found = await asyncio.gather(*[masking.check(request(f"a{number}@shop.org")) for number in range(4)])
    values = {each.message.text: each.values[each.message.text] for each in found}
    assert sorted(values) == [f"[EMAIL_{number}]" for number in range(1, 5)]
    assert sorted(values.values()) == [f"a{number}@shop.org" for number in range(4)]


async def test_however_many_messages_of_a_session_come_at_the_same_time_all_can_be_restored() -> None:
    masking = stage(keeper(Slow()))
    found = await asyncio.gather(*[masking.check(request(f"a{number}@shop.org")) for number in range(5 * ATTEMPTS)])
    assert sorted(restored(each.message.text, each.values) for each in found) == sorted(
        f"a{number}@shop.org" for number in range(5 * ATTEMPTS)
    )


async def test_who_would_wait_too_long_for_other_messages_is_masked_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.guard.masking.PATIENCE", 0.01)
    vaults = Stuck()
    masking = stage(keeper(vaults))
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(masking.check(request("ann@shop.org")))
        await vaults.asked.wait()
        assert (await masking.check(request("bob@shop.org"))).message.text == "[EMAIL]"
        vaults.go.set()
    assert first.result().message.text == "[EMAIL_1]"


async def test_a_vault_lives_as_long_as_its_session() -> None:
    clock = Clock()
    vaults = MemoryVaults(clock)
    masking = stage(keeper(vaults), clock)
    session = replace(SESSION, ends=clock() + 100)
    await masking.check(request(TEXT, session=session))
    clock.advance(90)
    longer = replace(session, ends=clock() + 50)
    assert (await masking.check(request("hello", session=longer))).values
    clock.advance(49)
    assert await keeper(vaults).values("shop", owned(session))
    clock.advance(2)
    assert await keeper(vaults).values("shop", owned(session)) == {}


async def test_kinds_and_counts_are_logged_and_values_never(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await stage().check(request(TEXT))
        await stage(keeper(store=Away())).check(request("bob@shop.org"))
        await stage().check(request("hello"))
        await stage(log=False).check(request(TEXT))
    told = [getattr(record, "fields", {}) for record in caplog.records]
    assert [(fields["kinds"], fields["restorable"]) for fields in told] == [
        ({"email": 1, "card": 1}, True),
        ({"email": 1}, False),
    ]
    assert "shop.org" not in str([record.__dict__ for record in caplog.records])


async def test_a_request_is_otherwise_as_it_was() -> None:
    before: Request = request("hello")
    assert await stage().check(before) == before
