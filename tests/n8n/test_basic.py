"""A chat trigger that wants a password: Sidegate knows it, visitors don't, and a wrong one is our mistake alone."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.n8n.n8n import N8n
from tests.n8n.sidegate import BROWSER, ORIGIN, sidegate
from tests.n8n.workflows import PASSWORD, USER

pytestmark = pytest.mark.n8n
MESSAGE = {"action": "sendMessage", "sessionId": "v1", "chatInput": "hello"}


async def said(n8n: N8n, folder: Path, password: str, accept: str, **headers: str) -> tuple[int, str, list[str]]:
    """Status, body and the names of all headers."""
    auth = {"AUTH__KIND": "basic", "AUTH__USER": USER, "AUTH__PASSWORD": password}
    settings = {f"SIDEGATE__UPSTREAMS__DEFAULT__{name}": value for name, value in auth.items()}
    headers = {"Origin": ORIGIN, "User-Agent": BROWSER, "Accept": accept} | headers
    async with (
        sidegate(n8n.webhook("basic/chat"), folder, **settings) as server,
        aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as http,
        http.post(f"{server.url}/chat/default", json=MESSAGE) as response,
    ):
        return response.status, await response.text(), [name.lower() for name in response.headers]


async def test_with_the_password_it_answers(n8n: N8n, tmp_path: Path) -> None:
    status, body, _ = await said(n8n, tmp_path, PASSWORD, "*/*")
    assert (status, body) == (200, '{"output":"You said: hello"}')


@pytest.mark.parametrize(("accept", "status"), [("*/*", 502), ("text/plain", 200)])
async def test_a_wrong_password_is_our_failure_and_nothing_of_n8n_leaves(
    n8n: N8n, tmp_path: Path, accept: str, status: int
) -> None:
    found, body, headers = await said(n8n, tmp_path, "wrong-but-long-enough", accept)
    assert found == status
    assert "The assistant failed to answer." in body
    assert "upstream_error" in body
    assert "uthorization" not in body  # n8n says: Authorization data is wrong!
    assert "www-authenticate" not in headers


async def test_a_visitors_own_password_is_nothing_to_n8n(n8n: N8n, tmp_path: Path) -> None:
    """Whoever knows it still talks to Sidegate, whose password is the one that counts."""
    basic = aiohttp.encode_basic_auth(USER, PASSWORD)
    status, body, _ = await said(n8n, tmp_path, "wrong-but-long-enough", "*/*", Authorization=basic)
    assert status == 502
    assert "You said" not in body
