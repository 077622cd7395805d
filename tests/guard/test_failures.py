"""Bad credentials: counted, told without the secret, and met with a wait that grows."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from proxy.errors import AuthFailed, CredentialEnded, Denied, ForbiddenScope, RateLimited, SessionInvalid, TokenForged
from proxy.guard import failures as module
from proxy.guard.failures import Failures, Watched
from proxy.guard.keys import FailureSettings, new_key
from proxy.model import Client, Credential, Identity, Mode, Session
from proxy.store.memory import MemoryStore
from proxy.telemetry import Metrics
from tests.clients import Clock, client

GOOD = new_key("api")
SESSION = Session("s1", "shop", "", 2e9)


class Judge:
    """A stage that knows one good credential, and raises `error` for all others."""

    name = "judge"
    mode: Mode = "enforce"

    def __init__(self) -> None:
        self.error: Denied = AuthFailed("no")
        self.judged = 0

    async def check(self, subject: Client) -> Client:
        self.judged += 1
        credential = subject.credential
        if credential is None:
            return subject
        if credential.value not in (GOOD, "good token"):
            raise self.error
        return client(session=SESSION, credential=credential)


class World:
    def __init__(self, limit: int = 3, store: MemoryStore | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.store = store or MemoryStore(self.clock)
        self.metrics = Metrics()
        self.failures = Failures(FailureSettings(limit=limit), self.store, self.metrics, self.clock)
        self.judge = Judge()
        self.stage = Watched(self.judge, self.failures)

    async def present(self, value: str = "wrong", ip: str = "192.0.2.7", kind: Any = "bearer") -> Client:
        return await self.stage.check(client(credential=Credential(kind, value), ip=ip))

    async def fail(self, times: int, value: str = "wrong", **more: Any) -> None:
        for _ in range(times):
            with pytest.raises(type(self.judge.error)):
                await self.present(value, **more)

    async def wait(self, value: str = "wrong", **more: Any) -> float:
        """How long to wait, as the refusal says."""
        with pytest.raises(RateLimited) as caught:
            await self.present(value, **more)
        assert caught.value.retry_after is not None
        return caught.value.retry_after

    def counted(self, kind: str, code: str) -> float | None:
        return self.metrics.registry.get_sample_value("sidegate_auth_failures_total", {"kind": kind, "code": code})


async def test_after_too_many_bad_ones_the_next_is_told_to_wait() -> None:
    world = World()
    await world.fail(3)
    assert await world.wait() == 60
    world.clock.advance(59)
    assert await world.wait() == 1
    world.clock.advance(1)
    await world.fail(1)
    assert world.counted("session", "auth_failed") == 4
    assert world.counted("session", "rate_limited") == 2


async def test_the_wait_grows_with_who_goes_on() -> None:
    world = World()
    waits = []
    for _ in range(4):
        await world.fail(3)
        waits.append(await world.wait())
        world.clock.advance(waits[-1])
    assert waits == [60, 540, 3000, 60]  # until the oldest of 3, 6, 9 leaves a window of 1, 10, 60 minutes


async def test_good_tokens_pass_while_their_address_waits_for_bad_ones() -> None:
    world = World()
    await world.fail(3)
    assert (await world.present("good token", kind="cookie")).session == SESSION
    await world.wait()


async def test_api_keys_are_not_even_judged_while_their_address_waits() -> None:
    world = World()
    await world.fail(3, ip="192.0.2.1")
    assert await world.wait(GOOD, ip="192.0.2.1") == 60
    assert world.judge.judged == 3
    assert (await world.present(GOOD, ip="192.0.2.2")).session == SESSION


async def test_an_api_key_that_was_used_here_before_stays_good() -> None:
    world = World()
    assert (await world.present(GOOD)).session == SESSION
    await world.fail(3)
    assert (await world.present(GOOD)).session == SESSION
    assert await world.wait() == 60


async def test_an_api_key_that_is_being_guessed_is_closed_to_strangers_and_open_to_who_uses_it() -> None:
    world = World()
    await world.present(GOOD, ip="192.0.2.1")
    guess = GOOD[:-2] + ("AA" if not GOOD.endswith("AA") else "BB")
    for last in range(10, 13):
        await world.fail(1, guess, ip=f"192.0.2.{last}")
    assert await world.wait(guess, ip="192.0.2.20") == 60
    assert await world.wait(GOOD, ip="192.0.2.20") == 60
    assert (await world.present(GOOD, ip="192.0.2.1")).session == SESSION
    await world.fail(1, new_key("api"), ip="192.0.2.20")


async def test_another_replica_learns_of_it_with_the_first_bad_one() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    here, there = World(store=store, clock=clock), World(store=store, clock=clock)
    await here.fail(3)
    assert await there.wait() == 60
    assert there.judge.judged == 1
    assert await there.wait(GOOD) == 60
    assert there.judge.judged == 1


async def test_addresses_of_one_subscriber_are_one() -> None:
    world = World()
    for last in range(3):
        await world.fail(1, ip=f"2001:db8::{last}")
    await world.wait(ip="2001:db8::ffff")
    await world.fail(1, ip="2001:db8:0:1::1")


@pytest.mark.parametrize("error", [SessionInvalid("expired"), CredentialEnded("expired"), ForbiddenScope("no")])
async def test_what_is_genuine_is_counted_and_blocks_nobody(error: Denied) -> None:
    world = World()
    world.judge.error = error
    await world.fail(10)
    assert (await world.present(GOOD)).session == SESSION
    assert world.counted("session", error.code) == 10


async def test_other_refusals_are_none_of_its_business() -> None:
    world = World()
    world.judge.error = RateLimited("too fast", retry_after=1)
    await world.fail(10)
    assert world.counted("session", "rate_limited") is None


async def test_without_a_credential_nothing_is_counted() -> None:
    world = World()
    assert await world.stage.check(client()) == client()
    assert world.stage.name == "judge"
    assert world.stage.mode == "enforce"


async def test_refresh_tokens_and_forged_sessions_count_too() -> None:
    world = World()
    for _ in range(3):
        with pytest.raises(TokenForged):
            async with world.failures.watching(client(route="refresh"), "bad"):
                raise TokenForged("no")
    assert world.counted("refresh", "session_invalid") == 3
    with pytest.raises(RateLimited):
        async with world.failures.watching(client(route="refresh"), "bad"):
            raise TokenForged("no")


async def test_each_failure_is_told_without_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = World()
    made = new_key("api")
    await world.fail(1, "hunter2-hunter2")
    await world.fail(1, made)
    told = [record for record in caplog.records if record.getMessage() == "AUTH_FAILED"]
    fields: list[dict[str, object]] = [record.__dict__["fields"] for record in told]
    assert [(each["kind"], each["code"], each["ip"]) for each in fields] == [
        ("session", "auth_failed", "192.0.2.7"), ("api_key", "auth_failed", "192.0.2.7"),
    ]  # fmt: skip
    assert str(fields[0]["key"]).startswith("sha256:")
    assert fields[1]["key"] == made.split("_")[1]
    assert not any(secret in str(record.__dict__) for record in caplog.records for secret in ("hunter2", made))


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BLOCKED", 2)
    monkeypatch.setattr(module, "MAX_GOOD", 2)
    world = World(limit=1)
    for last in range(1, 4):
        await world.present(GOOD, ip=f"192.0.2.{last}")
    for last in range(10, 13):
        await world.fail(1, ip=f"192.0.2.{last}")
    await world.wait(ip="192.0.2.12")
    assert await world.wait(ip="192.0.2.10") == 60  # forgotten here, and the store knows
    assert len(world.failures._blocked) == len(world.failures._good) == 2


async def test_who_opens_a_session_by_a_key_is_remembered_too() -> None:
    class Opening(Judge):
        async def check(self, subject: Client) -> Client:
            return client(credential=subject.credential, identity=Identity("api_key:bot", "key:bot"))

    world = World()
    stage = Watched(Opening(), world.failures)
    await stage.check(client(credential=Credential("bearer", GOOD)))
    await world.fail(3)
    assert (await world.present(GOOD)).session == SESSION
