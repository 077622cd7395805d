"""Executions that never happen: what starts no workflow, and is counted by its reason; floods, and waiting as told."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest

from tests.sidegate import BROWSER, Visitor, sidegate, text_of
from tests.until import until
from tests.upstreams import BEGIN, HEAD, LAST, Script, Step, Webhook, chunk, item, stream, webhook

FROM_A_PAGE = {"Sec-Fetch-Site": "same-site"}


async def avoided(visitor: Visitor) -> dict[str, float]:
    async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
        found = re.findall(r'sidegate_executions_avoided_total\{reason="(\w+)"\} (\S+)', await response.text())
    return {reason: float(number) for reason, number in found}


async def counted(visitor: Visitor, reasons: dict[str, float]) -> bool:
    return await avoided(visitor) == reasons


async def both(hook: Webhook) -> bool:
    return len(hook.asked) == 2


@asynccontextmanager
async def shop(script: Script | None = None, **sections: Any) -> AsyncIterator[tuple[Visitor, Webhook]]:
    async with (
        webhook(lambda _: script or stream("hi")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, **sections) as visitor,
    ):
        await visitor.session()
        yield visitor, hook


@pytest.mark.parametrize(
    ("text", "reason"),
    [("  \n ", "empty"), ("x" * 2001, "too_long"), ("1' UNION SELECT password FROM users --", "content")],
)
async def test_what_is_refused_starts_nothing(text: str, reason: str) -> None:
    async with shop() as (visitor, hook):
        status, _ = await visitor.problem(text)
        assert status in (400, 413, 422)
        assert await avoided(visitor) == {reason: 1}
        assert hook.asked == []


@pytest.mark.parametrize("name", ["Sec-Purpose", "Purpose", "X-Moz"])
async def test_a_prefetch_starts_nothing(name: str) -> None:
    async with shop() as (visitor, hook):
        status, problem = await visitor.problem(headers={name: "prefetch;prerender"})
        assert (status, problem["code"]) == (400, "bad_request")
        assert await avoided(visitor) == {"prefetch": 1}
        assert hook.asked == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
async def test_a_probe_of_the_address_starts_nothing(method: str) -> None:
    async with shop() as (visitor, hook):
        async with visitor.http.request(method, f"{visitor.url}/v1/messages", headers=visitor.headers) as response:
            assert response.status in (204, 405)
        assert hook.asked == []


def slow(gate: asyncio.Event) -> Script:
    return [Step(HEAD + chunk(BEGIN) + chunk(item("one "))), Step(wait=gate), Step(chunk(item("two")) + LAST)]


async def test_a_double_click_is_one_execution_with_two_listeners() -> None:
    gate = asyncio.Event()
    async with shop(slow(gate)) as (visitor, hook):
        async with visitor.post("hello", headers=FROM_A_PAGE) as first:
            await first.content.readuntil(b"delta")
            second = asyncio.create_task(visitor.events("hello", headers=FROM_A_PAGE))  # noqa: TID251 - awaited below
            await until(lambda: counted(visitor, {"duplicate": 1}))
            gate.set()
            assert text_of(await second) == "one two"
            assert b"two" in await first.read()
        assert len(hook.asked) == 1
        # The same words again, after the answer is done, are a new message.
        assert text_of(await visitor.events("hello", headers=FROM_A_PAGE)) == "one two"
        assert len(hook.asked) == 2


@pytest.mark.parametrize("other", [{"headers": {}}, {"text": "hello?"}, {"context": {"page": "/"}}])
async def test_another_message_meanwhile_is_no_double_click(other: dict[str, Any]) -> None:
    """Nor is a program's: it has a key for that."""
    gate = asyncio.Event()
    async with shop(slow(gate)) as (visitor, hook):
        async with visitor.post("hello", headers=FROM_A_PAGE) as first:
            await first.content.readuntil(b"delta")
            given: dict[str, Any] = {"text": "hello", "headers": FROM_A_PAGE} | other
            second = asyncio.create_task(visitor.events(**given))  # noqa: TID251 - awaited below
            await until(lambda: both(hook))
            gate.set()
            await second
            await first.read()
        assert await avoided(visitor) == {}


async def test_a_message_that_is_sent_again_with_its_key_is_counted() -> None:
    async with shop() as (visitor, hook):
        for _ in range(3):
            assert text_of(await visitor.events(headers={"Idempotency-Key": "k"})) == "hi"
        assert len(hook.asked) == 1
        assert await avoided(visitor) == {"repeated": 2}


ADDRESSES, REQUESTS, ALLOWED = 50, 10_000, 5


async def test_a_flood_from_many_addresses_costs_its_allowance_and_the_honest_visitor_nothing() -> None:
    """10,000 messages from 50 addresses; one visitor among them, who asks at a person's pace."""
    limits = [{"per": "ip", "limit": ALLOWED, "window": 3600}]
    trusted = {"host": "127.0.0.1", "port": 0, "trusted_proxies": ["127.0.0.0/8"]}
    async with shop(limits=limits, listen=trusted) as (visitor, hook):
        honest = Visitor(visitor.http, visitor.url, visitor.ops_url, visitor.live)
        honest.headers = BROWSER | {"X-Forwarded-For": "203.0.113.77"}
        await honest.session()
        statuses: Counter[int] = Counter()
        connector = aiohttp.TCPConnector(limit=60)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
            tokens = [await opened(http, visitor.url, address) for address in range(ADDRESSES)]

            async def flood(number: int) -> None:
                address = number % ADDRESSES
                headers = tokens[address] | {"Accept": "application/json"}
                body = orjson.dumps({"message": f"buy now {number}"})
                async with http.post(f"{visitor.url}/v1/messages", data=body, headers=headers) as response:
                    statuses[response.status] += 1
                    await response.read()

            async def ask() -> list[str]:
                return [text_of(await honest.events(f"a question {number}")) for number in range(ALLOWED)]

            async with asyncio.TaskGroup() as tasks:
                answers = tasks.create_task(ask())
                for start in range(0, REQUESTS, 500):
                    async with asyncio.TaskGroup() as wave:
                        for number in range(start, start + 500):
                            wave.create_task(flood(number))
            assert answers.result() == ["hi"] * ALLOWED
        assert statuses == {200: ADDRESSES * ALLOWED, 429: REQUESTS - ADDRESSES * ALLOWED}
        said = Counter(b"a question" in asked.body for asked in hook.asked)
        assert said == {True: ALLOWED, False: ADDRESSES * ALLOWED}


async def opened(http: aiohttp.ClientSession, url: str, address: int) -> dict[str, str]:
    headers = BROWSER | {"X-Forwarded-For": f"198.51.100.{address + 1}", "Content-Type": "application/json"}
    async with http.post(f"{url}/v1/session", headers=headers) as response:
        return headers | {"Authorization": f"Bearer {(await response.json())['access_token']}"}
