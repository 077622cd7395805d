"""The benchmark runs, reports what docs/performance.md explains, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.filters import chain_maker
from scripts.benchmarks import filters, rules, traffic
from scripts.benchmarks.report import row
from scripts.benchmarks.servers import Server
from scripts.benchmarks.visitors import EVENTS, visitors

ROOT = Path(__file__).parents[1]
SMOKE = [sys.executable, "-m", "scripts.benchmarks", "--smoke"]
COSTS = (
    "CPU per small JSON answer",
    "CPU per small JSON answer, Redis",
    "CPU per short stream",
    "CPU per short stream, Redis",
    "CPU per piece, 40 tokens a read",
    "CPU per piece, 1 token a read",
    "CPU per piece, 1 token a read, Redis",
    "tokens per CPU second, 40 tokens a read",
    "tokens per CPU second, 1 token a read",
)
OTHERS = (
    "added to the first piece, median",
    "added to the first piece, p95",
    "memory per idle stream",
    "memory per idle WebSocket",
)
GUARD = ("stage origin", "stage session", "stage limits", "body", "token", "the guard", "the guard, Redis")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:  # Any: JSON
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    run = subprocess.run([*SMOKE, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    document: dict[str, Any] = orjson.loads(file.read_bytes())
    return run.stdout, document


def test_what_the_content_rules_cost_is_told(smoke: tuple[str, dict[str, Any]]) -> None:
    text, document = smoke
    assert "Content rules: " in text
    assert any(note.startswith("Content rules: ") for note in document["notes"])


def test_a_search_for_slow_texts_finds_some() -> None:
    found = rules.search(0.1)
    assert len(found) == 30
    assert found == sorted(found, reverse=True)


def test_a_run_measures_everything_against_the_plain_relay(smoke: tuple[str, dict[str, Any]]) -> None:
    text, document = smoke
    rows = {row["name"]: row for row in document["rows"]}
    assert set(rows) == {*COSTS, *OTHERS}
    for name in COSTS:
        assert rows[name]["plain"] > 0
        assert rows[name]["ratio"] == pytest.approx(rows[name]["sidegate"] / rows[name]["plain"])
    assert all(name in text for name in rows)


def test_a_run_tells_what_each_part_of_the_guard_costs(smoke: tuple[str, dict[str, Any]]) -> None:
    text, document = smoke
    shares = {share["name"]: share["micros"] for share in document["guard"]}
    assert set(GUARD) <= set(shares)
    assert all(micros > 0 for micros in shares.values())
    whole = shares.pop("the guard")
    del shares["the guard, Redis"]
    assert sum(shares.values()) == pytest.approx(whole)
    assert all(name in text for name in shares)


def test_a_run_says_where_it_ran(smoke: tuple[str, dict[str, Any]]) -> None:
    text, document = smoke
    assert {"date", "machine", "load", "python", "packages", "redis-server"} <= set(document["facts"])
    assert all(value in text for value in document["facts"].values())


def test_the_page_on_performance_explains_every_row() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert [name for name in (*COSTS, *OTHERS, *GUARD) if name not in page] == []


def test_an_interrupted_run_ends_its_servers() -> None:
    with subprocess.Popen(SMOKE, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        give_up = time.monotonic() + 60
        while not (started := children.read_text().split()) and time.monotonic() < give_up:
            time.sleep(0.02)
        run.send_signal(signal.SIGTERM)
        _, said = run.communicate(timeout=60)
    assert started
    assert run.returncode == 1
    assert "interrupted" in said
    assert [child for child in started if os.path.exists(f"/proc/{child}")] == []


async def test_each_piece_of_a_stream_waits_until_the_one_before_was_seen() -> None:
    async with asyncio.timeout(30), traffic.listening() as upstream:
        lane = upstream.lane(traffic.stream(tokens=40, pieces=25))
        async with visitors(Server("direct", 0, upstream.port), [lane], EVENTS) as (client,):
            await client.first_piece()
            assert lane.pieces == 1
            await client.idle()
    assert (lane.messages, lane.pieces, lane.nudges) == (1, 25, 0)


async def test_a_refusal_ends_the_measurement_with_what_was_said() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with asyncio.timeout(30), traffic.listening() as upstream:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with visitors(Server("", 0, port), [upstream.lane(traffic.SMALL_ANSWER)], EVENTS) as (client,):
            with pytest.raises(RuntimeError, match="429"):
                await client.first_piece()
        server.close()


def test_the_ratio_is_the_median_of_the_rounds_own() -> None:
    found = row("x", "us", plain=[100.0, 200.0, 100.0], sidegate=[300.0, 200.0, 500.0])
    assert (found.plain, found.sidegate, found.ratio) == (100.0, 300.0, 3.0)
    assert (found.low, found.high) == (1.0, 5.0)


def test_an_idle_connection_takes_little_memory(tmp_path: Path) -> None:
    """The figures for thousands are on the page; so few show one that has become a quarter larger."""
    file = tmp_path / "idle.json"
    words = ["-m", "scripts.benchmarks", "idle", "--connections", "300", "--turns", "20", "--json", str(file)]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    found = orjson.loads(file.read_bytes())["idle"]
    assert found["connections"] == 300
    assert 5 < found["events"] < 19
    assert 5 < found["sockets"] < 25
    assert 5 < found["answers"] < 47
    assert found["p99_alone"] > 0
    assert found["p99_beside"] > 0
    assert "ratio of p99" in run.stdout


def test_a_flood_is_refused_but_for_its_allowance(tmp_path: Path) -> None:
    file = tmp_path / "flood.json"
    words = ["-m", "scripts.benchmarks", "flood", "--requests", "1500", "--json", str(file)]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    found = orjson.loads(file.read_bytes())["flood"]
    assert (found["requests"], found["passed"], found["refused"]) == (1500, 300, 1200)
    assert found["ratio"] > 0
    assert "ratio of p99" in run.stdout


def test_what_the_filters_cost_and_keep_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = filters.measured("some", ["Hello, this is order 12 of `<b>`."], chain_maker(filters.ALL_ON))
    assert "held median" in found.line()
    assert len(found.held) == len(found.window) > 0
    monkeypatch.setattr(filters, "CORPORA", tmp_path / "none")
    with pytest.raises(RuntimeError, match="SIDEGATE_CORPORA"):
        list(filters.report())
