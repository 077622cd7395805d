"""Webhooks: what may be configured, and what is accepted once, twice, again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from proxy.config import Secret
from proxy.errors import BadRequest, Conflict, MethodNotAllowed, RateLimited, Replayed, SignatureInvalid
from proxy.guard.hooks import Deliveries, HookSettings, OfClient, greeting
from proxy.guard.origin import Host
from proxy.model import Webhook
from proxy.store.memory import MemoryStore
from tests.clients import Clock, client

SECRET = Secret("6f1d0c7b5e3a49288d7c6b5a4f3e2d1c")
HELLO = {"hub.mode": "subscribe", "hub.verify_token": "hello", "hub.challenge": "77"}


def hook(provider: str = "github", **more: Any) -> HookSettings:
    return HookSettings(provider=provider, secret=SECRET, **more)


def webhook(request: str = "r1", delivery: str = "d1", signature: str = "") -> Webhook:
    return Webhook(client(request_id=request, route="hooks"), "h", b"{}", delivery=delivery, signature=signature)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"provider": "standard", "previous": Secret("not base64")}, "base64"),
        ({"provider": "twilio"}, "url"),
        ({"provider": "hmac"}, "section hmac"),
        ({"hmac": {"header": "X-Mac"}}, "section hmac"),
        ({"verify_token": SECRET}, "whatsapp alone"),
        ({"provider": "hmac", "hmac": {"header": "X Mac"}}, "header"),
    ],
)
def test_settings_that_do_not_go_together_are_told(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        hook(**fields)


def test_settings_of_every_provider() -> None:
    assert hook("twilio", url="https://chat.example/hooks/twilio").secrets == [SECRET.reveal()]
    assert hook("hmac", hmac={"header": "X-Mac"}, previous=Secret("old")).secrets == [SECRET.reveal(), "old"]
    assert HookSettings(provider="standard", secret=Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).limit == 30


async def test_a_delivery_is_accepted_once() -> None:
    deliveries = Deliveries({"h": hook()}, MemoryStore(Clock()))
    assert await deliveries.accept(webhook(), 60)
    with pytest.raises(Conflict):
        await deliveries.accept(webhook("r2"), 60)
    await deliveries.finish(webhook())
    assert not await deliveries.accept(webhook("r3"), 60)
    assert await deliveries.accept(webhook("r4", "d2"), 60)


async def test_one_that_did_not_run_may_come_again() -> None:
    deliveries = Deliveries({"h": hook()}, MemoryStore(Clock()))
    assert await deliveries.accept(webhook(), 60)
    await deliveries.forget(webhook("r2"))  # not its own
    with pytest.raises(Conflict):
        await deliveries.accept(webhook("r2"), 60)
    await deliveries.forget(webhook())
    assert await deliveries.accept(webhook("r2"), 60)


async def test_one_that_nobody_finished_may_come_again_after_its_longest_time() -> None:
    clock = Clock()
    deliveries = Deliveries({"h": hook(remember=100)}, MemoryStore(clock))
    assert await deliveries.accept(webhook(), 60)
    clock.advance(61)
    assert await deliveries.accept(webhook("r2"), 60)
    await deliveries.finish(webhook("r2"))
    clock.advance(99)
    assert not await deliveries.accept(webhook("r3"), 60)
    clock.advance(2)
    assert await deliveries.accept(webhook("r3"), 60)


async def test_the_same_signature_again_is_a_replay_and_another_one_an_attempt() -> None:
    deliveries = Deliveries({"h": hook()}, MemoryStore(Clock()))
    assert await deliveries.accept(webhook(signature="1-a"), 60)
    with pytest.raises(Replayed):
        await deliveries.accept(webhook("r2", signature="1-a"), 60)
    await deliveries.finish(webhook(signature="1-a"))
    with pytest.raises(Replayed):
        await deliveries.accept(webhook("r2", signature="1-a"), 60)
    assert not await deliveries.accept(webhook("r2", signature="2-a"), 60)


async def test_a_signature_is_good_once_even_where_its_delivery_is_forgotten() -> None:
    deliveries = Deliveries({"h": hook()}, MemoryStore(Clock()))
    first, again = webhook(signature="1-a"), webhook("r2", signature="1-a")
    assert await deliveries.accept(first, 60)
    await deliveries.forget(first)
    with pytest.raises(Replayed):
        await deliveries.accept(again, 60)
    assert await deliveries.accept(webhook("r3", signature="2-a"), 60)


async def test_over_its_limit_a_hook_accepts_nothing_and_remembers_nothing() -> None:
    clock = Clock()
    deliveries = Deliveries({"h": hook(limit=1, window=10)}, MemoryStore(clock))
    assert await deliveries.accept(webhook(), 60)
    with pytest.raises(RateLimited) as refused:
        await deliveries.accept(webhook("r2", "d2"), 60)
    assert refused.value.retry_after == 10
    clock.advance(10)
    assert await deliveries.accept(webhook("r2", "d2"), 60)


async def test_of_many_at_once_one_is_accepted() -> None:
    deliveries = Deliveries({"h": hook(limit=1000)}, MemoryStore(Clock()))
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_try(deliveries, f"r{number}")) for number in range(100)]
    assert sum(task.result() for task in asked) == 1


async def _try(deliveries: Deliveries, request: str) -> bool:
    try:
        return await deliveries.accept(webhook(request), 60)
    except Conflict:
        return False


def test_meta_is_greeted_with_its_challenge() -> None:
    meta = hook("whatsapp", verify_token=Secret("hello"))
    assert greeting(meta, HELLO) == b"77"
    for challenge in ("", "a b", "ü", "x" * 257):
        with pytest.raises(BadRequest):
            greeting(meta, HELLO | {"hub.challenge": challenge})
    with pytest.raises(BadRequest):
        greeting(meta, HELLO | {"hub.mode": "unsubscribe"})
    with pytest.raises(SignatureInvalid, match="another"):
        greeting(meta, HELLO | {"hub.verify_token": "hell"})
    with pytest.raises(SignatureInvalid, match="not set"):
        greeting(hook("whatsapp"), HELLO)
    with pytest.raises(MethodNotAllowed):
        greeting(hook("github"), HELLO)


async def test_a_stage_for_clients_judges_who_sent_it() -> None:
    stage = OfClient(Host(["chat.example"]))
    assert (stage.name, stage.mode) == ("host", "enforce")
    good = webhook()
    assert await stage.check(good) == good
    with pytest.raises(Exception, match="Host"):
        await stage.check(replace(good, client=client(host="evil.example")))
