"""Providers' webhooks through Sidegate into a real n8n, which holds the bytes that it got against the signed hash."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.flows.test_hooks import FORM, OLD, SECRET, WHSEC, signed
from tests.n8n.n8n import N8n
from tests.n8n.sidegate import Sidegate, sidegate
from tests.n8n.tap import Tap

pytestmark = pytest.mark.n8n

PROVIDERS = ("github", "stripe", "slack", "whatsapp", "standard")
VERIFY = "meta-says-hello"
# Spaces, an escape, a letter beyond ASCII, a number that no parser keeps: whatever is parsed and written again differs.
BODY = '{ "id":"evt_%s",\r\n  "event_id" : "%s", "text":"gr\\u00fc\u00dfe", "sum": 1.10, "big": 12345678901234567890 }'
TOKEN = "d41c0f7b5e3a49288d7c6b5a4f3e2d1c0a9b8c7d"  # of the ops listener, made for these tests
STARTED = b'{"message":"Workflow was started"}'


def body(name: str) -> bytes:
    return (BODY % (name, name)).encode()


@dataclass
class Providers:
    """All of them, with a Sidegate whose hooks lead to n8n: NAME by `ack: sync` and the other three ways."""

    http: aiohttp.ClientSession
    server: Sidegate
    tap: Tap

    async def send(self, hook: str, content: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        url = f"{self.server.url}/hooks/{hook}"
        async with self.http.post(url, data=content, headers=headers) as response:
            return response.status, await response.read()

    async def queue(self) -> dict[str, Any]:  # Any: JSON
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.http.get(f"{self.server.ops_url}/admin/hooks", headers=headers) as response:
            found: dict[str, Any] = await response.json()
            return found

    async def counted(self, hook: str, outcome: str) -> int:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.http.get(f"{self.server.ops_url}/metrics", headers=headers) as response:
            lines = (await response.text()).splitlines()
        named = f'sidegate_webhooks_total{{hook="{hook}",outcome="{outcome}"}} '
        return next((int(float(line.removeprefix(named))) for line in lines if line.startswith(named)), 0)


@asynccontextmanager
async def providers(n8n: N8n, folder: Path, *, waits_for_n8n: bool = False) -> AsyncIterator[Providers]:
    """Hooks: each provider's own name is answered when the workflow is done; `PROVIDER-start` when it was started;
    `PROVIDER-queue` before that."""
    secrets = {"standard": WHSEC}
    hooks: dict[str, str] = {}
    for provider in PROVIDERS:
        for suffix, upstream, more in (
            ("", "done", {}),
            ("-start", "default", {}),
            ("-queue", "default", {"ACK": "queue", "ATTEMPTS": "2"}),
            ("-patient", "default", {"ACK": "queue", "ATTEMPTS": "20"}),
        ):
            said = {"PROVIDER": provider, "SECRET": secrets.get(provider, SECRET), "UPSTREAM": upstream, **more}
            hooks |= {f"SIDEGATE__HOOKS__{provider}{suffix}__{name}".upper(): value for name, value in said.items()}
    async with Tap(n8n.port, waits_for_target=waits_for_n8n) as tap:
        hooks |= {
            "SIDEGATE__HOOKS__WHATSAPP__VERIFY_TOKEN": VERIFY,
            "SIDEGATE__UPSTREAMS__DEFAULT__KIND": "n8n",
            "SIDEGATE__UPSTREAMS__DEFAULT__URL": tap.webhook("hook-at-once"),
            "SIDEGATE__SITES__DEFAULT__UPSTREAM": "default",
            "SIDEGATE__UPSTREAMS__DONE__KIND": "n8n",
            "SIDEGATE__UPSTREAMS__DONE__URL": tap.webhook("hook-when-done"),
            "SIDEGATE__UPSTREAMS__DEFAULT__BREAKER__COOLDOWN": "5",
            "SIDEGATE__OPS__TOKEN": TOKEN,
        }
        async with sidegate("", folder, **hooks) as server, aiohttp.ClientSession() as http:
            yield Providers(http, server, tap)


def of(n8n: N8n, workflow: str, marker: str) -> list[tuple[str, str]]:
    """Its executions in whose data the marker stands."""
    return [(status, data) for status, data in n8n.executions(workflow) if marker in data]


async def ran(n8n: N8n, marker: str) -> None:
    """Wait until n8n lists its successful end."""
    async with asyncio.timeout(60):
        while [status for status, _ in of(n8n, "hook-at-once", marker)] != ["success"]:  # noqa: ASYNC110 - a database
            await asyncio.sleep(0.1)


async def test_each_providers_bytes_reach_a_workflow_that_checks_their_hash_and_its_answer_comes_back(
    n8n: N8n, tmp_path: Path
) -> None:
    async with providers(n8n, tmp_path) as every:
        for provider in PROVIDERS:
            content = body(f"done-{provider}")
            status, answer = await every.send(provider, content, signed(provider, content))
            assert status == 200, answer
            got = json.loads(answer)
            assert got["received_sha256"] == got["signed_sha256"] == hashlib.sha256(content).hexdigest()
            assert (got["sub"], got["aud"], got["attempt"]) == (f"hook:{provider}", "n8n", "1")
            assert got["named"] == got["delivery"]
            assert got["body"]["text"] == "grüße"
            assert every.tap.passed[-1].sent.endswith(content)


async def test_a_workflow_that_answers_at_once_has_the_same_bytes(n8n: N8n, tmp_path: Path) -> None:
    async with providers(n8n, tmp_path) as every:
        for provider in PROVIDERS:
            content = body(f"start-{provider}")
            assert await every.send(f"{provider}-start", content, signed(provider, content)) == (200, STARTED)
            await ran(n8n, f"evt_start-{provider}")
            ((_, data),) = of(n8n, "hook-at-once", f"evt_start-{provider}")
            assert data.count(hashlib.sha256(content).hexdigest()) >= 1


async def test_a_form_is_the_same_bytes_too(n8n: N8n, tmp_path: Path) -> None:
    async with providers(n8n, tmp_path) as every:
        content = urlencode({"payload": '{"zen": "Half measures are as bad as nothing"}', "é": "a b"}).encode()
        for provider in ("github", "slack"):
            headers = signed(provider, content) | {"Content-Type": FORM}
            status, answer = await every.send(provider, content, headers)
            assert status == 200, answer
            assert json.loads(answer)["received_sha256"] == hashlib.sha256(content).hexdigest()


async def test_what_providers_ask_when_an_address_is_written_down_is_answered_without_the_workflow(
    n8n: N8n, tmp_path: Path
) -> None:
    before = n8n.executions("hook-when-done")
    async with providers(n8n, tmp_path) as every:
        asked = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "1158201444"}
        async with every.http.get(f"{every.server.url}/hooks/whatsapp", params=asked) as response:
            assert (response.status, await response.text()) == (200, "1158201444")
        asked["hub.verify_token"] = "another"
        async with every.http.get(f"{every.server.url}/hooks/whatsapp", params=asked) as response:
            assert response.status == 401
        content = json.dumps({"type": "url_verification", "token": "x", "challenge": "3eZbrw1aBm2rZg"}).encode()
        assert await every.send("slack", content, signed("slack", content)) == (200, b"3eZbrw1aBm2rZg")
        assert every.tap.requests == 0
    assert n8n.executions("hook-when-done") == before


async def test_what_isn_t_the_providers_never_becomes_an_execution(n8n: N8n, tmp_path: Path) -> None:
    async with providers(n8n, tmp_path) as every:
        for provider in PROVIDERS:
            content = body(f"forged-{provider}")
            for hook in (provider, f"{provider}-start", f"{provider}-queue"):
                status, _ = await every.send(hook, content, signed(provider, content, OLD))
                assert status == 401
                status, _ = await every.send(hook, content + b" ", signed(provider, content))
                assert status == 401
        assert await every.queue() == {"waiting": 0, "dead": []}
        assert every.tap.passed == []
    for workflow in ("hook-at-once", "hook-when-done"):
        assert of(n8n, workflow, "evt_forged-") == []


async def test_the_workflow_refuses_other_bytes_than_those_that_were_signed(n8n: N8n, tmp_path: Path) -> None:
    """Somebody on the way from Sidegate to n8n who has read a token."""
    async with providers(n8n, tmp_path) as every:
        content = body("on-the-way")
        await every.send("github", content, signed("github", content))
        head = every.tap.passed[-1].sent.split(b"\r\n\r\n", 1)[0].decode()
        token = head.split("Authorization: ")[1].split("\r\n")[0]
        headers = {"Authorization": token, "Content-Type": "application/json"}
        async with every.http.post(n8n.webhook("hook-when-done"), data=content, headers=headers) as response:
            assert response.status == 200
        async with every.http.post(n8n.webhook("hook-when-done"), data=content + b" ", headers=headers) as response:
            assert response.status == 500
    assert [status for status, _ in of(n8n, "hook-when-done", "evt_on-the-way")] == ["success", "success", "error"]


@pytest.mark.parametrize("ack", ["start", "queue"])
async def test_a_second_delivery_is_no_second_execution(n8n: N8n, tmp_path: Path, ack: str) -> None:
    async with providers(n8n, tmp_path) as every:
        for provider in PROVIDERS:
            name = f"twice-{ack}-{provider}"
            content, first = body(name), (200, STARTED) if ack == "start" else (202, b'{"status":"queued"}')
            later = signed(provider, content, at=None)
            assert await every.send(f"{provider}-{ack}", content, later) == first
            await ran(n8n, f"evt_{name}")
            status, _ = await every.send(f"{provider}-{ack}", content, later)
            assert status == (200 if provider in ("github", "whatsapp") else 409)  # those sign no time
            await ran(n8n, f"evt_{name}")


async def test_what_n8n_missed_while_it_was_down_is_brought_in_when_it_is_back(n8n: N8n, tmp_path: Path) -> None:
    """One by itself, one as a dead letter that its owner lets run again; each once."""
    async with providers(n8n, tmp_path) as every:
        await asyncio.to_thread(n8n.stop)
        given_up, waited = body("down-brief"), body("down-patient")
        assert (await every.send("github-queue", given_up, signed("github", given_up)))[0] == 202
        assert (await every.send("github-patient", waited, signed("github", waited)))[0] == 202
        # The provider who waits for the answer is told, and may come again.
        missed = body("down-sync")
        assert (await every.send("github-start", missed, signed("github", missed)))[0] in (502, 503)
        async with asyncio.timeout(60):
            while not (await every.queue())["dead"]:  # noqa: ASYNC110 - it is asked over HTTP
                await asyncio.sleep(0.2)
        (letter,) = (await every.queue())["dead"]
        assert (letter["hook"], letter["tries"]) == ("github-queue", 2)
        assert await every.counted("github-queue", "retry") == 1
        assert await every.counted("github-patient", "retry") >= 1
        assert (await every.send("github-queue", given_up, signed("github", given_up)))[0] == 200  # known: no 2nd one
        await asyncio.to_thread(n8n.start)
        assert letter["id"] in await every.server.admin("hooks", "list")
        assert await every.server.admin("hooks", "replay", letter["id"]) == "1 due again.\n"
        for marker in ("evt_down-brief", "evt_down-patient"):
            await ran(n8n, marker)
        assert (await every.send("github-start", missed, signed("github", missed)))[0] == 200
        await ran(n8n, "evt_down-sync")
        async with asyncio.timeout(60):
            while (await every.queue()) != {"waiting": 0, "dead": []}:  # noqa: ASYNC110 - it is asked over HTTP
                await asyncio.sleep(0.2)


async def test_the_page_of_a_starting_n8n_is_no_success(n8n: N8n, tmp_path: Path) -> None:
    """With its port just open n8n says 200 to everything: a webhook that counted as run then would be lost."""
    await asyncio.to_thread(n8n.stop)
    async with providers(n8n, tmp_path, waits_for_n8n=True) as every, asyncio.TaskGroup() as group:
        now, later = body("starting-sync"), body("starting-queue")
        asking = group.create_task(every.send("github-start", now, signed("github", now)))
        assert (await every.send("github-patient", later, signed("github", later)))[0] == 202
        await asyncio.to_thread(n8n.start)
        assert (await asking)[0] == 502
        await ran(n8n, "evt_starting-queue")
        assert await every.counted("github-patient", "retry") >= 1
        assert (await every.send("github-start", now, signed("github", now)))[0] == 200
        await ran(n8n, "evt_starting-sync")
