"""A whole Sidegate on the real runner, in this process, and a client for it that looks like a browser."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from proxy import app, reading
from proxy.edge.live import Live
from proxy.settings import Settings

ORIGIN = "https://shop.example"
BROWSER = {"Origin": ORIGIN, "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0", "Accept-Language": "de-DE"}
JWT_KEY = "5f0c1e7a93b24d6f8a1b3c5d7e9f0a2b4c6d8e0f"
SESSION_KEY = "c3d5e7f9a1b3c5d7092846ace13579bdf0e1d2c3"


def tree(upstream: dict[str, Any], **sections: Any) -> dict[str, Any]:  # Any: configuration as written
    """Settings of one site, `shop`, with room for many messages; sections as given replace or add."""
    return {
        "environment": "development",
        "listen": {"host": "127.0.0.1", "port": 0},
        "ops": {"port": 0},
        "session": {},
        "signing": {},
        "upstreams": {"support": upstream},
        "sites": {"shop": {"origins": [ORIGIN], "upstream": "support"}},
        "limits": [{"per": "ip", "limit": 100_000, "window": 60}],
        **copy.deepcopy(sections),
    }


@dataclass
class Event:
    """One event of a stream, whatever carried it."""

    name: str
    fields: dict[str, Any]
    id: str = ""


@dataclass
class Visitor:
    """A browser on a page of the site. `session()` opens a session, whose token then goes along."""

    http: aiohttp.ClientSession
    url: str
    ops_url: str
    live: Live
    headers: dict[str, str] = field(default_factory=lambda: dict(BROWSER))

    async def session(self, **headers: str) -> dict[str, Any]:
        async with self.http.post(f"{self.url}/v1/session", headers=self.headers | headers) as response:
            opened: dict[str, Any] = await response.json()
            assert response.status == 200, opened
        self.headers["Authorization"] = f"Bearer {opened['access_token']}"
        return opened

    def post(self, text: str = "hello", accept: str = "text/event-stream", **more: Any) -> Any:
        headers = self.headers | {"Accept": accept} | more.pop("headers", {})
        return self.http.post(f"{self.url}/v1/messages", json={"message": text, **more}, headers=headers)

    async def events(self, text: str = "hello", **more: Any) -> list[Event]:
        async with self.post(text, **more) as response:
            body = await response.text()
            assert response.status == 200, body
            return parse_sse(body)

    async def problem(self, text: str = "hello", **more: Any) -> tuple[int, dict[str, Any]]:
        async with self.post(text, **more) as response:
            assert response.content_type == "application/problem+json", await response.text()
            fields: dict[str, Any] = orjson.loads(await response.read())
            return response.status, fields


def parse_sse(body: str) -> list[Event]:
    """Whole events of a stream; comments are skipped."""
    events = []
    for block in body.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in lines:
            events.append(Event(lines.get("event", "message"), orjson.loads(lines["data"]), lines.get("id", "")))
    return events


def text_of(events: list[Event]) -> str:
    return "".join(event.fields["text"] for event in events if event.name == "delta")


@asynccontextmanager
async def sidegate(upstream: dict[str, Any], **sections: Any) -> AsyncIterator[Visitor]:
    async with (
        app.running(load(tree(upstream, **sections))) as server,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        yield Visitor(http, f"http://127.0.0.1:{server.port}", f"http://127.0.0.1:{server.ops_port}", server.live)


def load(sections: dict[str, Any]) -> Settings:
    """As from a file (JSON is YAML), with the two keys from the environment."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(orjson.dumps(sections))
        file.flush()
        env = {"JWT_SECRET_KEY": JWT_KEY, "SESSION_SECRET_KEY": SESSION_KEY}
        return reading.load(Path(file.name), env).settings
