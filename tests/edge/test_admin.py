"""What the owner of the sites sees of sessions, and ends; over the ops listener, and by the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.__main__ import main
from proxy.admin import Server, server_of
from proxy.config import Secret
from proxy.edge.ops import OpsSettings
from proxy.settings import Settings
from tests.sidegate import JWT_KEY, Visitor, sidegate

ECHO = {"kind": "echo", "delay": 0}
TOKEN = JWT_KEY  # from the environment of these tests
OPS = {"port": 0, "token": {"env": "JWT_SECRET_KEY"}}
SITES = {name: {"origins": [f"https://{name}.example"], "upstream": "support"} for name in ("shop", "blog")}


async def ask(visitor: Visitor, method: str = "GET", path: str = "", token: str = TOKEN) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{visitor.ops_url}/admin/sessions{path}"
    async with visitor.http.request(method, url, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def is_good(visitor: Visitor) -> bool:
    async with visitor.http.post(f"{visitor.url}/v1/session/ticket", headers=visitor.headers) as response:
        return response.status == 200


async def test_sessions_are_listed_and_one_is_ended() -> None:
    async with sidegate(ECHO, ops=OPS) as visitor:
        other = await visitor.session()
        opened = await visitor.session()
        status, answer = await ask(visitor)
        assert status == 200
        assert [known["id"] for known in answer["sessions"]] == [opened["session_id"], other["session_id"]]
        (known,) = (await ask(visitor, path="?number=1"))[1]["sessions"]
        assert known.keys() == {"id", "site", "owner", "key", "born", "seen", "network"}
        assert (known["site"], known["owner"], known["network"]) == ("shop", "", "127.0.0.0/24")
        assert (await ask(visitor, path="?first=2"))[1]["sessions"] == []
        assert (await ask(visitor, path="?owner=ann"))[1]["sessions"] == []
        assert (await ask(visitor, "DELETE", f"/{opened['session_id']}"))[0] == 204
        assert not await is_good(visitor)
        visitor.headers["Authorization"] = f"Bearer {other['access_token']}"
        assert await is_good(visitor)
        async with visitor.http.get(f"{visitor.ops_url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as told:
            assert 'sidegate_sessions_ended_total{reason="admin",site="shop"} 1.0' in await told.text()


async def test_all_sessions_of_a_site_are_ended_and_no_others() -> None:
    async with sidegate(ECHO, ops=OPS, sites=SITES) as visitor:
        await visitor.session()
        assert (await ask(visitor, "DELETE", "?site=blog&all=true"))[0] == 204
        assert await is_good(visitor)
        assert (await ask(visitor, "DELETE", "?site=shop&all=true"))[0] == 204
        assert not await is_good(visitor)


@pytest.mark.parametrize("whose", ["owner=ann", "key=jwt"])
async def test_an_owners_or_a_keys_end_leaves_anonymous_visitors_alone(whose: str) -> None:
    async with sidegate(ECHO, ops=OPS) as visitor:
        await visitor.session()
        assert (await ask(visitor, "DELETE", f"?{whose}"))[0] == 204
        assert await is_good(visitor)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "?site=none"), ("GET", ""), ("GET", "?site=shop&number=1001"), ("GET", "?site=shop&first=-1"),
        ("GET", "?site=shop&first=x"), ("DELETE", "?site=shop"), ("DELETE", "?site=shop&all=1"),
        ("DELETE", "?site=shop&all=true&owner=ann"), ("DELETE", "/s1"),
    ],
)  # fmt: skip
async def test_a_question_that_is_not_clear_is_refused(method: str, path: str) -> None:
    async with sidegate(ECHO, ops=OPS, sites=SITES) as visitor:
        status, problem = await ask(visitor, method, path)
        assert (status, problem["code"]) == (400, "bad_request")


@pytest.mark.parametrize(("ops", "token"), [(OPS, ""), (OPS, "wrong"), ({"port": 0}, ""), ({"port": 0}, TOKEN)])
async def test_without_the_ops_token_it_is_closed(ops: dict[str, Any], token: str) -> None:
    async with sidegate(ECHO, ops=ops) as visitor:
        for method, path in (("GET", ""), ("DELETE", "?all=true"), ("DELETE", "/s1")):
            assert (await ask(visitor, method, path, token))[0] == 401


@pytest.mark.parametrize(("most", "codes"), [(2, [200, 200, 429]), (100, [200] * 3)])
async def test_a_site_has_no_more_sessions_than_it_may(most: int, codes: list[int]) -> None:
    async with sidegate(ECHO, session={"max_per_site": most}) as visitor:
        found = []
        for _ in range(3):
            async with visitor.http.post(f"{visitor.url}/v1/session", headers=visitor.headers) as response:
                found.append(response.status)
        assert found == codes
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            told = 'sidegate_denied_total{code="rate_limited",mode="enforce",stage="opening"} 1.0'
            assert (told in await response.text()) is (429 in codes)


def config(folder: Path, ops_port: int, token: str | None = TOKEN) -> str:
    file = folder / "sidegate.yaml"
    (folder / "token").write_text(token or "")
    ops = f"{{port: {ops_port}, token: {{file: {folder / 'token'}}}}}" if token else f"{{port: {ops_port}}}"
    file.write_text(
        f"environment: development\nops: {ops}\nupstreams: {{echo: {{kind: echo}}}}\n"
        "sites: {shop: {origins: ['https://shop.example']}}\n"
    )
    return str(file)


async def run(*words: str) -> tuple[int, str]:
    """The command line in a thread, while the server runs here."""
    result = await asyncio.to_thread(CliRunner().invoke, main, ["admin", *words])
    return result.exit_code, result.output


async def test_the_command_line_lists_and_ends(tmp_path: Path) -> None:
    async with sidegate(ECHO, ops=OPS) as visitor:
        path = config(tmp_path, int(visitor.ops_url.rpartition(":")[2]))
        first, second = await visitor.session(), await visitor.session()
        code, output = await run("--config", path, "sessions", "list")
        assert code == 0
        lines = [line.split(" ") for line in output.splitlines()]
        assert [line[0] for line in lines] == [second["session_id"], first["session_id"]]
        assert lines[0][3:] == ["127.0.0.0/24", "-"]
        code, output = await run("--config", path, "sessions", "end", second["session_id"])
        assert (code, output) == (0, "Ended, at every replica within a second.\n")
        assert not await is_good(visitor)
        visitor.headers["Authorization"] = f"Bearer {first['access_token']}"
        for words in (("--owner", "ann"), ("--key", "jwt")):
            assert (await run("--config", path, "sessions", "end", *words))[0] == 0
        assert await is_good(visitor)
        assert (await run("--config", path, "sessions", "end", "--all"))[0] == 0
        assert not await is_good(visitor)
        code, output = await run("--config", path, "sessions", "list", "--site", "none")
        assert (code, "400 bad_request: ?site= must name one" in output) == (1, True)


async def test_what_the_command_line_cannot_do_it_says(tmp_path: Path) -> None:
    path = config(tmp_path, 1)  # nobody listens there
    code, output = await run("--config", path, "sessions", "list")
    assert (code, "Does it run?" in output) == (1, True)
    code, output = await run("--config", path, "sessions", "end", "s1", "--all")
    assert (code, "Say one of" in output) == (2, True)
    code, output = await run("--config", config(tmp_path, 1, None), "sessions", "list")
    assert (code, "ops.token is not set" in output) == (1, True)
    code, output = await run("--config", str(tmp_path / "none.yaml"), "sessions", "list")
    assert (code, "none.yaml" in output) == (1, True)


def test_a_listener_on_all_addresses_is_asked_here() -> None:
    settings = Settings(ops=OpsSettings(host="0.0.0.0", port=9, token=Secret(TOKEN)))
    assert server_of(settings) == Server("127.0.0.1", 9, TOKEN)
