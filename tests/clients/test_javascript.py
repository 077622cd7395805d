"""JavaScript's clients, unchanged, on Node: OpenAI's own, and those of server-sent events and WebSockets."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.headers import ALLOW_HEADERS, EXPOSE_HEADERS
from tests.clients.world import API_KEY, ENDINGS, completions
from tests.upstreams import HEAD, Step, chunk, item, stream

pytestmark = pytest.mark.npm

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache/clients"
SECONDS = 60
TEXT = "Grüße, 世界 😀"


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    """A failure is the test run's failure: the real clients are never skipped."""
    done = subprocess.run([HERE / "install"], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr


async def drive(client: str, url: str) -> dict[str, Any]:
    """What the client saw. Any: each test knows what it prints."""
    process = await asyncio.create_subprocess_exec(
        "node", HERE / "drive.mjs", client, url, API_KEY,
        env={"PATH": os.environ["PATH"], "SIDEGATE_CLIENTS": str(CACHE)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found


async def test_openais_client_asks_streams_and_lists() -> None:
    async with completions(stream("Grüße, ", "世界 😀")) as (url, hook):
        assert await drive("openai", url) == {
            "plain": TEXT,
            "finish": "stop",
            "stream": TEXT,
            "tokens": 7,
            "models": ["shop"],
            "refused": ["AuthenticationError", 401, "auth_failed", True],
        }
        assert len(hook.asked) == 2


async def test_openais_client_in_a_browser_passes_its_preflight_and_may_read_whether_to_try_again() -> None:
    async with completions(stream(TEXT)) as (url, _):
        names = (await drive("openai-headers", url))["names"]
    allowed = {name.strip().lower() for name in ALLOW_HEADERS.split(",")}
    assert {"authorization", "x-stainless-lang", "openai-project"} <= set(names)
    assert set(names) <= allowed
    assert "X-Should-Retry" in EXPOSE_HEADERS


@pytest.mark.parametrize("ending", ENDINGS)
async def test_openais_client_is_told_how_an_answer_ended(ending: str) -> None:
    kind, script, sections, text, finish = ENDINGS[ending]
    said = {"text": text, "finish": finish}
    async with completions(script, kind, **sections) as (url, _):
        assert await drive("openai-ending", url) == {"plain": said, "stream": said, "isCounted": True}


async def test_openais_client_raises_where_its_stream_fails() -> None:
    async with completions([Step(HEAD + chunk(item("Good "))), Step()]) as (url, hook):
        assert await drive("openai-broken", url) == {"code": "upstream_error"}
        assert len(hook.asked) == 1


@pytest.mark.parametrize(
    ("client", "seen"),
    [
        ("eventsource", {"text": TEXT, "numbered": True}),
        ("fetch-event-source", {"text": TEXT, "first": "start", "last": "done"}),
        ("ws", {"text": TEXT, "protocol": "sidegate.v1", "code": 1000}),
    ],
)
async def test_the_clients_of_streams_get_the_whole_answer(client: str, seen: dict[str, Any]) -> None:
    async with completions(stream("Grüße, ", "世界 😀")) as (url, _):
        assert await drive(client, url) == seen
