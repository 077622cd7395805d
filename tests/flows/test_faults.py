"""However the way to the upstream is disturbed: the right code in time, the circuit as documented, bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from proxy.edge.live import Live
from proxy.telemetry import Metrics
from proxy.upstream.breaker import Count
from tests import faults
from tests.faults import FIRST, MIB, Fault, Proxy, faulty
from tests.flows.test_lines import circuit
from tests.flows.test_processes import KEYS, serve
from tests.servers import free_port
from tests.sidegate import BROWSER, Visitor, parse_sse, sidegate, text_of, tree
from tests.upstreams import Asked, Script, stream, webhook

TIMEOUTS = {"connect": 0.3, "first_byte": 0.6, "idle": 0.6, "total": 20}
KINDS: tuple[Count, ...] = ("connect", "timeout", "answer", "break")
DEADLINE = 15  # seconds: far below the defaults of all timeouts but one, and of what would wait for ever
STATUS = {"upstream_error": 502, "upstream_timeout": 504}


@dataclass(frozen=True)
class Row:
    """`fault` is None where it is no matter of a connection: nobody listens, or none is accepted."""

    name: str
    fault: Fault | None
    kind: Count
    code: str


TABLE = [
    Row("connect refused", None, "connect", "upstream_error"),
    Row("unreachable", None, "connect", "upstream_timeout"),
    Row("black hole", faults.black_hole, "timeout", "upstream_timeout"),
    Row("slow first byte", faults.slow_first_byte, "timeout", "upstream_timeout"),
    Row("stall in mid-stream", faults.stall, "break", "upstream_timeout"),
    Row("reset before the head", faults.reset_early, "answer", "upstream_error"),
    Row("reset in mid-stream", faults.reset, "break", "upstream_error"),
    Row("half-close before the head", faults.half_close_early, "answer", "upstream_error"),
    Row("half-close in mid-stream", faults.half_close, "break", "upstream_error"),
    Row("garbage before the head", faults.garbage_early, "answer", "upstream_error"),
    Row("garbage in mid-stream", faults.garbage, "break", "upstream_error"),
    Row("garbage in a chunk", faults.garbage_in_a_chunk, "break", "upstream_error"),
    Row("endless line of the head", faults.endless_head, "answer", "upstream_error"),
    Row("endless line of the stream", faults.endless_line, "break", "upstream_error"),
    Row("1 GB answer", faults.huge_document, "answer", "upstream_error"),
    Row("truncated chunk", faults.truncated_chunk, "break", "upstream_error"),
    Row("a picture", faults.picture, "answer", "upstream_error"),
    Row("a page", faults.page, "answer", "upstream_error"),
]

BEFORE_THE_HEAD = (
    faults.black_hole,
    faults.reset_early,
    faults.half_close_early,
    faults.garbage_early,
    faults.endless_head,
    faults.picture,
)


def answers(_: Asked) -> Script:
    return stream(FIRST, "and whole")


@asynccontextmanager
async def disturbed(row: Row) -> AsyncIterator[Proxy]:
    if row.name == "connect refused":
        async with faults.refusing() as proxy:
            yield proxy
    elif row.fault is None:
        async with faults.unreachable() as proxy:
            yield proxy
    else:
        async with webhook(answers) as hook, faulty(row.fault, hook.port) as proxy:
            yield proxy


async def ask(visitor: Visitor, accept: str) -> tuple[int, str]:
    """The status, and the code of the error, wherever it stands."""
    async with visitor.post(accept=accept) as response:
        body = await response.text()
        if response.content_type == "text/event-stream":
            last = parse_sse(body)[-1]
            return response.status, str(last.fields.get("code", last.name))
        return response.status, str(orjson.loads(body).get("code", "done"))


async def go_on(visitor: Visitor, proxy: Proxy) -> None:
    """Let a fault in mid-stream happen once the first text has passed the circuit."""
    while True:
        async with visitor.http.get(f"{visitor.ops_url}/metrics") as response:
            if 'sidegate_first_piece_seconds_count{upstream="support"} 1.0' in await response.text():
                proxy.go.set()
                return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_a_fault_has_its_code_in_time_and_opens_the_circuit_if_its_kind_counts(row: Row, accept: str) -> None:
    for counts, state in (((row.kind,), "open"), (tuple(kind for kind in KINDS if kind != row.kind), "closed")):
        breaker = {"failures": 1, "counts": counts}
        async with (
            disturbed(row) as proxy,
            sidegate({"kind": "n8n", "url": proxy.url, "timeouts": TIMEOUTS, "breaker": breaker}) as visitor,
            asyncio.timeout(DEADLINE),
            asyncio.TaskGroup() as tasks,
        ):
            await visitor.session()
            asking = tasks.create_task(ask(visitor, accept))
            if row.kind == "break":
                await go_on(visitor, proxy)
            status, code = await asking
            assert code == row.code
            is_early = accept == "application/json" or row.kind == "connect" or row.fault in BEFORE_THE_HEAD
            assert status == (STATUS[row.code] if is_early else 200)
            await circuit(visitor, state)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_text_that_calls_itself_html_is_an_answer_because_the_bytes_tell(accept: str) -> None:
    async with (
        webhook(answers) as hook,
        faulty(faults.wrong_content_type, hook.port) as proxy,
        sidegate({"kind": "n8n", "url": proxy.url, "breaker": {"failures": 1}}) as visitor,
        asyncio.timeout(DEADLINE),
    ):
        await visitor.session()
        assert await ask(visitor, accept) == (200, "done")
        assert text_of(await visitor.events()) == FIRST + "and whole"
        await circuit(visitor, "closed")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.huge_document, "upstream_error"),
        (faults.huge_text, "output_blocked"),
        (faults.huge_and_empty, "upstream_error"),
        (faults.endless_head, "upstream_error"),
    ],
    ids=["document", "text", "what isn't text", "head"],
)
async def test_a_gigabyte_is_never_in_memory(fault: Fault, code: str, tmp_path: Path) -> None:
    port, ops_port = free_port(), free_port()
    async with webhook(answers) as hook, faulty(fault, hook.port) as proxy:
        upstream: dict[str, Any] = {"kind": "n8n", "url": proxy.url}
        listeners = {"listen": {"host": "127.0.0.1", "port": port}, "ops": {"port": ops_port}}
        file = tmp_path / "sidegate.yaml"
        file.write_bytes(orjson.dumps(tree(upstream, **listeners)))
        async with (
            serve("--config", str(file), port=port, ops_port=ops_port, env=KEYS) as server,
            aiohttp.ClientSession() as http,
            asyncio.timeout(120),
        ):
            visitor = Visitor(http, server.url, server.ops_url, Live(Metrics()), dict(BROWSER))
            await visitor.session()
            before = most_memory(server.process.pid)
            for accept in ("application/json", "text/event-stream"):
                assert (await ask(visitor, accept))[1] == code
            assert proxy.sent < 64 * MIB
            assert most_memory(server.process.pid) - before < 64 * MIB


def most_memory(pid: int) -> int:
    """The most that the process ever had in memory, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM")
