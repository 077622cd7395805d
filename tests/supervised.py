"""`sidegate serve` as a process with its workers: its log, its pids, its signals; and clients that retry nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.servers import free_port
from tests.sidegate import BROWSER, JWT_KEY, SESSION_KEY, tree

KEYS = {"JWT_SECRET_KEY": JWT_KEY, "SESSION_SECRET_KEY": SESSION_KEY}
PATIENCE = 60.0  # seconds until a test that waits for something gives up


@dataclass
class Supervised:
    process: asyncio.subprocess.Process
    file: Path
    log_file: Path
    port: int
    ops_port: int

    def configure(self, upstream: dict[str, Any], **sections: Any) -> None:  # Any: configuration as written
        listen = {"host": "127.0.0.1", "port": self.port} | sections.pop("listen", {})
        ops = {"host": "127.0.0.1", "port": self.ops_port} | sections.pop("ops", {})
        self.file.write_bytes(orjson.dumps(tree(upstream, listen=listen, ops=ops, **sections)))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def messages(self) -> list[str]:
        """Log messages so far; lines that are no JSON (what click prints) as they are."""
        text = self.log_file.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last one may be half written
        return [orjson.loads(line)["message"] if line.startswith("{") else line for line in lines]

    async def says(self, text: str, times: int = 1) -> None:
        """Wait until the log holds the text so many times."""
        await eventually(lambda: sum(text in line for line in self.messages()) >= times, lambda: str(self.messages()))

    def workers(self) -> list[int]:
        """Pids of the workers that serve, by the log."""
        serving = []
        for line in self.messages():
            match line.split():
                case ["worker", pid, "serves"]:
                    serving.append(int(pid))
                case ["worker", pid, "ended", *_]:
                    serving = [known for known in serving if known != int(pid)]
        return serving

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def supervised(folder: Path, upstream: dict[str, Any], **sections: Any) -> AsyncIterator[Supervised]:
    """Started and listening. Ended by SIGTERM, where the test hasn't ended it."""
    file, log_file = folder / "sidegate.yaml", folder / "log"
    server = Supervised(None, file, log_file, *free_ports())  # type: ignore[arg-type]  # started below
    server.configure(upstream, **sections)
    with log_file.open("wb") as log:
        server.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", "--config", str(file),
            env={"PATH": os.environ["PATH"], **KEYS}, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await eventually(lambda: server.process.returncode is not None or "listening on" in log_file.read_text())
        assert server.process.returncode is None, server.messages()
        yield server
    finally:
        if server.process.returncode is None:
            server.send(signal.SIGTERM)
        await server.ended()


def free_ports() -> tuple[int, int]:
    port = other = free_port()
    while other == port:
        other = free_port()
    return port, other


async def eventually(check: Callable[[], bool], why: Callable[[], str] = str) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while not check():  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"still not so: {why()}") from None


class Lost(Exception):
    """A request that got no whole answer."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_last(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


@dataclass
class Caller:
    """One keep-alive connection after another, each until it is told to close; nothing is retried."""

    port: int
    token: str = ""
    connections: int = 0
    _open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    headers: dict[str, str] = field(default_factory=lambda: dict(BROWSER))

    async def session(self) -> None:
        answer = await self.post("/v1/session", b"", accept="application/json")
        assert answer.status == 200, answer
        self.headers["Authorization"] = f"Bearer {orjson.loads(answer.body)['access_token']}"

    async def ask(self, text: str, accept: str) -> Answer:
        return await self.post("/v1/messages", orjson.dumps({"message": text}), accept)

    async def post(self, path: str, body: bytes, accept: str) -> Answer:
        return await self.request("POST", path, body, accept)

    async def request(self, method: str, path: str, body: bytes = b"", accept: str = "*/*") -> Answer:
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self.port)
            self.connections += 1
        reader, writer = self._open
        headers = self.headers | {"Host": "127.0.0.1", "Accept": accept, "Content-Length": str(len(body))}
        headers |= {"Content-Type": "application/json"} if body else {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await _read(reader)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Lost(repr(error)) from error
        if answer.is_last:
            self.close()
        return answer

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if "chunked" not in headers.get("transfer-encoding", ""):
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    else:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    return Answer(int(head[0].split()[1]), headers, body)
