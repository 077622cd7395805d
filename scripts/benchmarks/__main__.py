"""`scripts/bench`: every measurement once, bounded in time, and what it found as a table and as JSON."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import orjson
import uvloop

from scripts.benchmarks.machine import allow_many_files, facts, share_cores
from scripts.benchmarks.measure import DEFAULT, SMOKE
from scripts.benchmarks.report import Report
from scripts.benchmarks.rounds import Run
from scripts.benchmarks.servers import Place
from scripts.benchmarks.traffic import listening

MAX_SECONDS = 900.0  # a run takes far less; this ends one that hangs


async def run(*, smoke: bool) -> Report:
    # Ctrl+C and SIGTERM end the servers with the run: they cancel this task.
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, lambda: task and task.cancel())
    redis = shutil.which("redis-server")
    cores = share_cores()
    allow_many_files()
    about = facts(redis)
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-") as directory:
        async with asyncio.timeout(MAX_SECONDS), listening() as upstream:
            place = Place(cores, Path(directory), upstream.port)
            rows, shares, notes = await Run(place, upstream, SMOKE if smoke else DEFAULT, redis).rows()
    about["load"] += f", {os.getloadavg()[0]:.1f} at the end"
    if cores.server == cores.rest:
        notes.append("There is one core only: the servers shared it with what drove them.")
    if smoke:
        notes.append("A smoke run: it shows that everything runs, and its figures mean nothing.")
    return Report(about, rows, shares, notes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Sidegate beside a plain relay, as ratios.")
    parser.add_argument("--smoke", action="store_true", help="a few seconds: does everything run?")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    try:
        report = uvloop.run(run(smoke=arguments.smoke))
    except asyncio.CancelledError:
        sys.exit("interrupted")
    except TimeoutError:
        sys.exit("something did not answer in time: is this machine too busy?")
    except RuntimeError as error:
        sys.exit(str(error))
    print(report.text())
    if arguments.json is not None:
        arguments.json.write_bytes(orjson.dumps(report.document(), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
