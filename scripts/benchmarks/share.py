"""What the guard costs by itself: its stages, the body and the token of a message, without a network around them.

`python -m scripts.benchmarks.share CONFIG SECONDS REDIS_PORT` starts Sidegate in this process, sends it one message
over a socket, keeps what the flow got to see of it, and repeats the guard's work on that. Prints microseconds of CPU as
JSON. REDIS_PORT is 0 for the memory store.
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

from proxy import app, parts, reading, settings
from proxy.flow import Flow
from proxy.model import Client, Request, Sink, Stage
from proxy.upstream.line import Line
from proxy.upstream.signing import Signer
from scripts.benchmarks.servers import Server, counts_locally, redis_reads
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


async def measure(path: Path, seconds: float, redis_port: int) -> dict[str, float]:
    """CPU microseconds per message, for each part of the guard and for all of it.

    With Redis also the "round trips" of a message, and whether Sidegate "counts locally".
    """
    loaded = reading.load(path, {}).settings
    with patch.object(parts, "Flow", Watched):
        async with listening() as upstream, app.running(_towards(loaded, upstream.port)) as running:
            server = Server("", 0, running.port, path="/v1/messages", has_sessions=True)
            lane = upstream.lane(SMALL_ANSWER)
            async with asyncio.timeout(10), visitors(server, [lane], JSON) as (client,):
                await client.first_piece()
                await client.idle()
            found = await _parts(seconds)
            if redis_port:
                found["round trips"] = await _round_trips(redis_port)
                found["counts locally"] = await counts_locally(running.ops_port)
            return found


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

    found: dict[str, float] = {}
    for stages, subject in ((parts["connect_stages"], Watched.client), (parts["message_stages"], request)):
        passed = subject
        for stage in stages:
            # A stage may be there twice, once for what it enforces and once for what it only observes.
            name = f"stage {stage.name}"
            found[name] = found.get(name, 0.0) + await _micros(_through([stage], passed), seconds)
            passed = await stage.check(passed)
    found |= {"body": await _micros(encode, seconds), "token": await _micros(sign, seconds)}
    return found | {"the guard": sum(found.values())}


async def _round_trips(port: int) -> float:
    """Of one message. The store's own watch and this question add a few to all of them."""
    connect = _through(Watched.parts["connect_stages"], Watched.client)
    message = _through(Watched.parts["message_stages"], Watched.request)
    before = await redis_reads(port)
    for _ in range(10 * BATCH):
        await connect()
        await message()
    return (await redis_reads(port) - before) / (10 * BATCH)


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
    found = uvloop.run(measure(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
    sys.stdout.write(orjson.dumps(found).decode())
