"""What the guard costs by itself: its stages, the body and the token of a message, without a network around them.

`python -m scripts.benchmarks.share CONFIG SECONDS` starts Sidegate in this process, sends it one message over a socket,
keeps what the flow got to see of it, and repeats the guard's work on that. Prints microseconds of CPU as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import orjson
import uvloop

from proxy import app, settings
from proxy.flow import Flow, Line
from proxy.model import Client, Request, Sink, Stage
from proxy.upstream.signing import Signer
from scripts.benchmarks.servers import Server
from scripts.benchmarks.traffic import SMALL_ANSWER, listening
from scripts.benchmarks.visitors import JSON, visitors

BATCH = 100


class Watched(Flow):
    """Keeps its parts, the last client and the last request: as the composition root and the edge made them."""

    parts: dict[str, Any]  # Any: the arguments of Flow, whatever they are
    client: Client
    request: Request

    def __init__(self, **parts: Any) -> None:  # Any: as above
        Watched.parts = parts
        super().__init__(**parts)

    async def admit(self, client: Client) -> Client:
        Watched.client = client
        return await super().admit(client)

    async def answer(self, request: Request, sink: Sink) -> None:
        Watched.request = request
        await super().answer(request, sink)


async def measure(path: Path, seconds: float) -> dict[str, float]:
    """CPU microseconds per message, for each part of the guard; "all" is their sum."""
    loaded = settings.load(path, {}).settings
    with patch.object(app, "Flow", Watched):
        async with listening() as upstream, app.running(_towards(loaded, upstream.port)) as running:
            server = Server("", 0, running.port, "/v1/messages", has_sessions=True)
            lane = upstream.lane(SMALL_ANSWER)
            async with asyncio.timeout(10), visitors(server, [lane], JSON) as (client,):
                await client.first_piece()
                await client.idle()
            return await _parts(seconds)


def _towards(loaded: settings.Settings, port: int) -> settings.Settings:
    """The same settings on ports of their own, in front of this upstream."""
    upstreams = {
        name: section.model_copy(update={"url": f"http://127.0.0.1:{port}/"})
        for name, section in loaded.upstreams.items()
    }
    listen = loaded.listen.model_copy(update={"port": 0})
    return loaded.model_copy(update={"upstreams": upstreams, "listen": listen})


async def _parts(seconds: float) -> dict[str, float]:
    parts, request = Watched.parts, Watched.request
    line: Line = parts["upstreams"][request.site.upstream]
    signer: Signer = parts["signer"]
    body = line.upstream.encode(request)

    async def encode() -> None:
        line.upstream.encode(request)

    async def sign() -> None:
        signer.sign(request, body)

    found = {
        "connect stages": await _micros(_through(parts["connect_stages"], Watched.client), seconds),
        "message stages": await _micros(_through(parts["message_stages"], request), seconds),
        "body": await _micros(encode, seconds),
        "token": await _micros(sign, seconds),
    }
    return found | {"all": sum(found.values())}


def _through(stages: Sequence[Stage[Any]], subject: Any) -> Callable[[], Awaitable[None]]:  # Any: Client or Request
    async def check() -> None:
        passed = subject
        for stage in stages:
            passed = await stage.check(passed)

    return check


async def _micros(work: Callable[[], Awaitable[None]], seconds: float) -> float:
    """CPU of this process for one call: the median of batches, in microseconds."""
    for _ in range(BATCH):
        await work()
    batches: list[float] = []
    ends = time.monotonic() + seconds
    while len(batches) < 3 or time.monotonic() < ends:
        before = time.process_time()
        for _ in range(BATCH):
            await work()
        batches.append((time.process_time() - before) / BATCH * 1e6)
    return median(batches)


if __name__ == "__main__":
    found = uvloop.run(measure(Path(sys.argv[1]), float(sys.argv[2])))
    sys.stdout.write(orjson.dumps(found).decode())
