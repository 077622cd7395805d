"""The servers under test, each a fresh process on a core of its own, ended by whoever started it."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from proxy.guard.limits import DEFAULT_LIMITS
from proxy.upstream.n8n import N8nSettings
from scripts.benchmarks.machine import Cores, free_port

ORIGIN = "https://shop.example"
START_SECONDS = 60.0  # Python starts slowly on a machine that is busy otherwise
END_SECONDS = 15.0
ROOT = Path(__file__).parents[2]
# Room for what is sent here in less than a minute; the number of tiers, and so the work, is that of the default.
LIMITS = tuple({"per": rule.per, "limit": 100_000, "window": rule.window} for rule in DEFAULT_LIMITS)


@dataclass(frozen=True, slots=True)
class Server:
    """A running process. `path` takes messages; `has_sessions`: it wants a token for all three."""

    name: str
    pid: int
    port: int
    ops_port: int = 0  # 0: it has none
    path: str = "/"
    websocket: str = "/ws"
    events: str = "/v1/events"
    has_sessions: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers run, where they keep files, and which port answers for the upstream."""

    cores: Cores
    directory: Path
    upstream: int


@asynccontextmanager
async def plain_relay(place: Place) -> AsyncIterator[Server]:
    port = free_port()
    url = f"http://127.0.0.1:{place.upstream}/webhook/chat"
    with place.cores.for_the_server():
        process = start([sys.executable, "-m", "scripts.benchmarks.plain_relay", str(port), url], place)
    async with _ready(process, place, port):
        yield Server("plain", process.pid, port)


@asynccontextmanager
async def sidegate(
    place: Place, store: str = "memory:", limits: Sequence[Mapping[str, object]] = LIMITS
) -> AsyncIterator[Server]:
    """As `sidegate serve` starts it, in production, with its default settings but for the height of the limits.

    The process is the one worker; its supervisor does nothing meanwhile.
    """
    port, ops_port = free_port(), free_port()
    config = write_config(place, store, port, ops_port, limits)
    with place.cores.for_the_server():
        process = start([sys.executable, "-m", "proxy", "serve", "--config", str(config)], place)
    async with _ready(process, place, port):
        paths = {"path": "/v1/messages", "websocket": "/v1/ws"}
        yield Server("sidegate", await _worker(process.pid, ops_port), port, ops_port, **paths, has_sessions=True)


@asynccontextmanager
async def redis(place: Place, path: str) -> AsyncIterator[int]:
    """An empty Redis on a port of its own, beside the load generator, that writes nothing to disk."""
    port = free_port()
    options = ["--bind", "127.0.0.1", "--dir", str(place.directory), "--save", "", "--appendonly", "no"]
    process = start([path, "--port", str(port), *options], place)
    async with _ready(process, place, port):
        yield port


def write_config(
    place: Place, store: str, port: int = 0, ops_port: int = 0, limits: Sequence[Mapping[str, object]] = LIMITS
) -> Path:
    """A configuration file with keys made for this run; ports of 0 are chosen by the system."""
    upstream: dict[str, object] = {"kind": "n8n", "url": f"http://127.0.0.1:{place.upstream}/webhook/chat"}
    upstream |= _known({"max_answer_bytes": 64 * 1024 * 1024, "max_concurrent": 2000})
    settings = {
        "environment": "production",
        "listen": {"host": "127.0.0.1", "port": port, "allowed_hosts": ["127.0.0.1"]},
        "ops": {"host": "127.0.0.1", "port": ops_port},
        "store": {"url": store},
        "session": {"key": {"file": _key_file(place)}},
        "signing": {"key": {"file": _key_file(place)}},
        "upstreams": {"support": upstream},
        "sites": {"shop": {"origins": [ORIGIN], "upstream": "support"}},
        "limits": limits,
        "connections": {"total": 20_000},
        "filters": {"max_chars": 1_000_000},
    }
    with tempfile.NamedTemporaryFile(suffix=".yaml", dir=place.directory, delete=False) as file:
        file.write(orjson.dumps(settings))  # JSON is YAML
    return Path(file.name)


def _known(settings: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name in N8nSettings.model_fields}


def _key_file(place: Place) -> str:
    path = place.directory / f"{secrets.token_hex(8)}.key"
    path.write_text(secrets.token_urlsafe(48))
    return str(path)


def start(command: list[str], place: Place) -> subprocess.Popen[bytes]:
    """On the cores of the caller. What it says goes to a file, which never blocks it."""
    # Sidegate takes settings from the environment: none of the caller's may get in.
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with tempfile.NamedTemporaryFile(suffix=".log", dir=place.directory, delete=False) as log:
        return subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@asynccontextmanager
async def _ready(process: subprocess.Popen[bytes], place: Place, port: int) -> AsyncIterator[None]:
    """From when it listens; ended on leaving, by signal, and by force where that is not enough."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _listens(port):
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {last_words(place)}")
                await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _worker(supervisor: int, ops_port: int) -> int:
    """The process that answers, once it does: the only child of the one that was started, which listens before it."""
    async with asyncio.timeout(START_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", ops_port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()
    (worker,) = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()  # noqa: ASYNC240 - memory
    return int(worker)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def counts_locally(ops_port: int) -> bool:
    """Did Sidegate lose its Redis: it then decides by itself, and what it costs says nothing about Redis."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", ops_port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
    return b'"degraded"' in answer


async def redis_reads(port: int) -> int:
    """How often Redis has read from a connection so far: once for every round trip."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        writer.write(b"INFO stats\r\n")
        while not (line := await reader.readline()).startswith(b"total_reads_processed:"):
            if not line:
                raise RuntimeError("Redis says nothing about its reads")
    writer.close()
    return int(line.partition(b":")[2])


def last_words(place: Place) -> str:
    """The end of the newest log."""
    logs = sorted(place.directory.glob("*.log"), key=lambda path: path.stat().st_mtime)
    return logs[-1].read_text(errors="replace")[-2000:] if logs else ""
