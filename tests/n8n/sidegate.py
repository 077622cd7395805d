"""Sidegate as its users run it: a process of its own, configured by the environment alone, in front of the real n8n."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.n8n.n8n import free_port
from tests.n8n.workflows import SECRET

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "http://shop.test"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
FALLBACK = "We are out for lunch. Please come back in a minute."


@dataclass
class Event:
    """One server-sent event, and when its last byte was read."""

    name: str
    # Any: the fields differ from event to event, and each test asserts those it means.
    data: dict[str, Any]
    at: float


@dataclass
class Answer:
    """What a client got for one message: events of a stream, or one plain response."""

    status: int
    headers: dict[str, str]
    raw: bytes = b""
    events: list[Event] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events if event.name != "delta"]

    @property
    def text(self) -> str:
        return "".join(event.data["text"] for event in self.events if event.name == "delta")

    @property
    def told(self) -> dict[str, Any]:
        """The last event, or the plain refusal: what a failed request ends with."""
        return self.events[-1].data if self.events else self.problem

    @property
    def problem(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found


class Browser:
    """One visitor with a session."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        self._url = url
        self._token = token

    async def hear(self, number: int) -> list[Event]:
        """So many events of the session's channel."""
        headers = {"Authorization": f"Bearer {self._token}", "Origin": ORIGIN}
        events: list[Event] = []
        pending = b""
        async with self._http.get(f"{self._url}/v1/events", headers=headers) as response:
            while len(events) < number:
                data = await response.content.readany()
                assert data, "the channel has ended"
                *blocks, pending = (pending + data).split(b"\n\n")
                events += [event for block in blocks if (event := parse(block, time.monotonic()))]
        return events

    async def send(self, form: bytes, content_type: str) -> str:
        """The whole answer to a message with files."""
        headers = {"Authorization": f"Bearer {self._token}", "Origin": ORIGIN, "Accept": "application/json"}
        headers["Content-Type"] = content_type
        async with self._http.post(f"{self._url}/v1/messages", data=form, headers=headers) as response:
            answer: dict[str, str] = await response.json()
            assert response.status == 200, answer
            return answer["text"]

    async def ask(
        self, message: str, accept: str = "text/event-stream", query: str = "", **more: dict[str, Any]
    ) -> Answer:
        """`more`: further `fields` of the body, and `headers`."""
        headers = {"Authorization": f"Bearer {self._token}", "Origin": ORIGIN, "Accept": accept}
        headers |= more.get("headers", {})
        body, url = {"message": message} | more.get("fields", {}), f"{self._url}/v1/messages{query}"
        async with self._http.post(url, json=body, headers=headers) as response:
            answer = Answer(response.status, {name.lower(): value for name, value in response.headers.items()})
            pending = b""
            async for data in response.content.iter_any():
                at = time.monotonic()
                answer.raw += data
                if response.content_type != "text/event-stream":
                    continue
                *blocks, pending = (pending + data).split(b"\n\n")
                answer.events += [event for block in blocks if (event := parse(block, at))]
            return answer


def parse(block: bytes, at: float) -> Event | None:
    """One block of the stream; None for a comment."""
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
    return Event(fields[b"event"].decode(), json.loads(fields[b"data"]), at) if fields else None


class Sidegate:
    def __init__(self, url: str, ops_url: str, log: Path, pid: int, environment: dict[str, str]) -> None:
        self.url = url
        self.ops_url = ops_url
        self.log = log
        self.pid = pid
        self._environment = environment

    async def admin(self, *words: str) -> str:
        """What `sidegate admin` prints, where the same variables are set."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "admin", *words, cwd=ROOT, env=self._environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def until_circuit(self, state: str) -> None:
        """Wait until its ops listener reports the circuit in this state."""
        async with asyncio.timeout(60), aiohttp.ClientSession() as http:
            while True:
                async with http.get(f"{self.ops_url}/health") as response:
                    if (await response.json())["services"]["breaker"]["default"] == state:
                        return
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(headers={"User-Agent": BROWSER}, timeout=timeout) as http:
            async with http.post(f"{self.url}/v1/session", headers={"Origin": ORIGIN}) as response:
                response.raise_for_status()
                session = await response.json()
            yield Browser(http, self.url, session["access_token"])


@asynccontextmanager
async def sidegate(webhook: str, folder: Path, **settings: str) -> AsyncIterator[Sidegate]:
    """`webhook` is what it relays to; `settings` are further environment variables."""
    port, ops_port = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "N8N_WEBHOOK_URL": webhook,
        "JWT_SECRET_KEY": SECRET,
        "SESSION_SECRET_KEY": "b7Rk1Wz5Xq9Tn3Vy6Mh0Pc8Lg2Fd4JsU",
        "ALLOWED_ORIGINS": ORIGIN,
        "ENVIRONMENT": "production",
        "SIDEGATE__LISTEN__HOST": "127.0.0.1",
        "SIDEGATE__LISTEN__PORT": str(port),
        "SIDEGATE__OPS__PORT": str(ops_port),
        **settings,
    }
    log = folder / "sidegate.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        await until_healthy(process, f"http://127.0.0.1:{port}", log)
        yield Sidegate(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}", log, process.pid, environment)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def until_healthy(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    async with asyncio.timeout(90), aiohttp.ClientSession() as http:
        while True:
            if process.returncode is not None:
                said = await asyncio.to_thread(log.read_text)
                raise RuntimeError(f"sidegate did not start:\n{said[-4000:]}")
            try:
                async with http.get(f"{url}/health") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
