"""Settings -> parts (parts.py) -> listeners; start-up, drain, shutdown; the life of a process that serves."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import uvloop
from aiohttp import web

from proxy.control import Channel, Say, WorkerEnd, unsealed
from proxy.edge.headers import security_headers
from proxy.edge.live import Live
from proxy.edge.ops import Gather, alone
from proxy.edge.runner import Runner, make_runner
from proxy.parts import Parts, built
from proxy.settings import Settings
from proxy.telemetry import Logs, Metrics
from proxy.totals import Report

log = logging.getLogger(__name__)

CUT_SECONDS = 2.0  # how long it may take to tell clients, when it is time for them to go
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Grace:
    """Seconds that a drain begins with. Who has no connections left doesn't wait for the second."""

    accepting: float = 0.0  # so that whoever asks /readyz knows before the listener closes
    idle: float = 0.0  # connections without a request are read, so that what is on its way is answered


GRACE = Grace(accepting=0.5, idle=5.0)


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: where it listens, and what it counts."""

    port: int
    ops_port: int
    live: Live
    report: Callable[[], Awaitable[Report]]


def work(control: str, public: str, ops: str) -> None:
    """The whole life of a worker process, on file descriptors that it inherited. See workers.py."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the supervisor hears them, and tells us
    uvloop.run(_work(_sockets(control)[0], [_sockets(public), _sockets(ops)]))


def _sockets(numbers: str) -> list[socket.socket]:
    return [socket.socket(fileno=int(number)) for number in numbers.split(",")]


async def _work(control: socket.socket, listeners: list[list[socket.socket]]) -> None:
    channel = await Channel.over(control)
    first = await channel.hear()
    if first is None or first[0] is not Say.SETTINGS or not isinstance(settings := unsealed(first[1]), Settings):
        return  # the supervisor went away meanwhile
    metrics = Metrics()
    logs = Logs(settings.telemetry, settings.audit, metrics)
    end = WorkerEnd(channel)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.stop)
    try:
        async with asyncio.TaskGroup() as tasks:
            async with running(
                settings, metrics, listeners=listeners, gather=end.gather, grace=GRACE, hurry=end.hurry
            ) as server:
                listening = tasks.create_task(end.listen(server.report))
                end.ready()
                _relieve_collector()
                await end.leave.wait()  # the supervisor, its end, or a signal ends this
                server.live.is_replaced = end.is_replaced
                log.info("draining")
            listening.cancel()
        await end.goodbye(await server.report())
    finally:
        _finish(logs)


def run(settings: Settings, *, banner: str | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Blocks."""
    uvloop.run(_serve(settings, banner))


async def _serve(settings: Settings, banner: str | None) -> None:
    metrics = Metrics()
    logs = Logs(settings.telemetry, settings.audit, metrics)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with running(settings, metrics) as server:
            log.info("listening on port %d, ops on port %d", server.port, server.ops_port)
            _relieve_collector()
            if banner is not None:
                print(banner, flush=True)  # noqa: T201 - for the person who started it
            await stop.wait()  # a signal ends this
            log.info("draining")
    finally:
        _finish(logs)


def _finish(logs: Logs) -> None:
    """All is drained and closed: a log that nobody reads must not keep the process."""
    if not logs.stop():
        os._exit(0)


def _relieve_collector() -> None:
    """What a server is made of stays until it ends: the garbage collector need not look at it again and again.

    Kept answers make many objects and hardly a cycle, so the young ones are looked at less often, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@asynccontextmanager
async def running(
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    listeners: list[list[socket.socket]] | None = None,
    gather: Gather = alone,
    grace: Grace = Grace(),
    hurry: asyncio.Event | None = None,
) -> AsyncIterator[Running]:
    """Both listeners, from here on accepting, until the block is left; then drained.

    `listeners`: sockets of the public and the ops listener; without them they are bound here. `gather`: what other
    workers count. `hurry`: set when a worker that finishes its answers has to come to an end.
    """
    metrics = metrics or Metrics()
    async with built(settings, metrics, gather) as parts:
        base = security_headers(production=settings.environment == "production")
        runners = [
            make_runner(
                app,
                base_headers=lambda: base,
                header_timeout=settings.listen.header_timeout,
                shutdown_timeout=CUT_SECONDS,
            )
            for app in (parts.public, parts.ops)
        ]
        addresses = [(settings.listen.host, settings.listen.port), (settings.ops.host, settings.ops.port)]
        try:
            for at, (runner, (address, port)) in enumerate(zip(runners, addresses, strict=True)):
                await runner.setup()
                if listeners is None:
                    await web.TCPSite(runner, address, port, backlog=BACKLOG).start()
                else:
                    for listener in listeners[at]:
                        await web.SockSite(runner, listener, backlog=BACKLOG).start()
            yield Running(runners[0].addresses[0][1], runners[1].addresses[0][1], parts.live, parts.report)
        finally:
            if all(runner.server is not None for runner in runners):
                await _drain(runners, parts.live, grace)
                await _see_out(runners, parts, settings, hurry or asyncio.Event())


async def _drain(runners: list[Runner], live: Live, grace: Grace) -> None:
    """Not ready, no new connections, what is on its way is answered.

    Where another worker takes over, we leave the ops listener at once: whoever asks there asks for the whole server.
    """
    live.draining = not live.is_replaced
    public, ops = runners
    for runner in runners:
        runner.leave()
    if live.is_replaced:
        await ops.stop_accepting()
    await asyncio.sleep(grace.accepting)
    await public.stop_accepting()
    await public.is_empty(grace.idle - grace.accepting)
    public.close_idle()


async def _see_out(runners: list[Runner], parts: Parts, settings: Settings, hurry: asyncio.Event) -> None:
    """Running answers get their time with those who listen. Then these are told to come back elsewhere, where that is
    possible, and the answers are finished without them.
    """
    public, ops = runners
    answers, live = parts.answers, parts.live
    await answers.drain(settings.drain.clients)
    live.cut()
    if answers.are_shared:
        answers.part()
        await _close(public, live)
    if live.is_replaced:
        longest = max(map(settings.longest_answer, settings.sites), default=0.0)
        await _either(answers.ended(), hurry.wait(), longest)
    await answers.drain(settings.drain.answers)
    await answers.close()
    if not answers.are_shared:
        await _close(public, live)
    await ops.cleanup()


async def _close(public: Runner, live: Live) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(CUT_SECONDS):
            await live.idle()
    await public.cleanup()


async def _either(one: Coroutine[None, None, object], other: Coroutine[None, None, object], seconds: float) -> None:
    """Wait for the first of them, and no longer than that."""
    async with asyncio.TaskGroup() as tasks:
        both = {tasks.create_task(one), tasks.create_task(other)}
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
