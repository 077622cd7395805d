"""`scripts/bench`: every measurement once, bounded in time, and what it found as a table and as JSON."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import uvloop

from scripts.benchmarks import filters
from scripts.benchmarks.flood import flood
from scripts.benchmarks.idle import idle
from scripts.benchmarks.machine import allow_many_files, facts, share_cores
from scripts.benchmarks.measure import DEFAULT, SMOKE
from scripts.benchmarks.report import Report
from scripts.benchmarks.rounds import Run
from scripts.benchmarks.servers import Place
from scripts.benchmarks.traffic import Upstream, listening

MAX_SECONDS = 900.0  # a run takes far less; this ends one that hangs


@asynccontextmanager
async def prepared(redis: str | None) -> AsyncIterator[tuple[Place, Upstream, dict[str, str]]]:
    """Cores shared out, an upstream that listens, and what a reader needs to know about the machine."""
    # Ctrl+C and SIGTERM end the servers with the run: they cancel this task.
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, lambda: task and task.cancel())
    cores = share_cores()
    allow_many_files()
    about = facts(redis)
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-") as directory:
        async with asyncio.timeout(MAX_SECONDS), listening() as upstream:
            yield Place(cores, Path(directory), upstream.port), upstream, about
    about["load"] += f", {os.getloadavg()[0]:.1f} at the end"


async def run(*, smoke: bool) -> Report:
    redis = shutil.which("redis-server")
    async with prepared(redis) as (place, upstream, about):
        rows, shares, notes = await Run(place, upstream, SMOKE if smoke else DEFAULT, redis).rows()
    if place.cores.server == place.cores.rest:
        notes.append("There is one core only: the servers shared it with what drove them.")
    if smoke:
        notes.append("A smoke run: it shows that everything runs, and its figures mean nothing.")
    return Report(about, rows, shares, notes)


async def run_idle(connections: int, turns: int) -> tuple[dict[str, object], str]:
    async with prepared(None) as (place, upstream, about):
        found = await idle(place, upstream, connections, turns)
    text = [*(f"{name:<14}{value}" for name, value in about.items()), "", *found.lines()]
    return {"facts": about, "idle": found.document()}, "\n".join(text)


async def run_flood(requests: int) -> tuple[dict[str, object], str]:
    async with prepared(None) as (place, upstream, about):
        found = await flood(place, upstream, requests)
    text = [*(f"{name:<14}{value}" for name, value in about.items()), "", *found.lines()]
    return {"facts": about, "flood": found.document()}, "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Sidegate beside a plain relay, as ratios.")
    parser.add_argument(
        "what",
        nargs="?",
        choices=("all", "idle", "flood", "filters"),
        default="all",
        help="idle: thousands of connections; flood: an honest visitor in one; filters: what they cost and keep back",
    )
    parser.add_argument("--connections", type=int, default=5000, help="idle: of each kind")
    parser.add_argument("--requests", type=int, default=10_000, help="flood: messages")
    parser.add_argument("--turns", type=int, default=4000, help="idle: messages")
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does everything run?")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    try:
        if arguments.what == "filters":
            for line in filters.report():
                print(line)
            return
        if arguments.what == "flood":
            document, text = uvloop.run(run_flood(arguments.requests))
        elif arguments.what == "idle":
            document, text = uvloop.run(run_idle(arguments.connections, arguments.turns))
        else:
            report = uvloop.run(run(smoke=arguments.smoke))
            document, text = report.document(), report.text()
    except asyncio.CancelledError:
        sys.exit("interrupted")
    except TimeoutError:
        sys.exit("something did not answer in time: is this machine too busy?")
    except RuntimeError as error:
        sys.exit(str(error))
    print(text)
    if arguments.json is not None:
        arguments.json.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
