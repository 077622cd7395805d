"""The supervisor: binds the listeners, keeps `workers` processes on them, and replaces these one by one on SIGHUP.

Workers are fresh interpreters that inherit the listening sockets, so that no connection is refused while they change.
They get their settings from here and read no file: what runs is what was checked, also in one that is started again.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from proxy.config import ConfigError
from proxy.control import Channel, Say, Unusable, packed, sealed
from proxy.listeners import CantListen, Listeners, bind
from proxy.reading import Loaded
from proxy.settings import Settings
from proxy.telemetry import Logs, Metrics
from proxy.totals import Report, merged, parse

log = logging.getLogger(__name__)

START_SECONDS = 30.0  # until a new worker has to be ready
SLACK = 20.0  # for a draining one, besides what its answers get; app.GRACE and closing take most of it
TURN_SECONDS = 10.0  # besides what clients get: then the next one is renewed, while this one finishes its answers
MAX_FINISHING = 4  # renewals whose workers may still finish answers; the oldest are told to hurry
REPORT_SECONDS = 1.0  # until a worker has to say what it counted; then its last word counts
WELL = 10.0  # seconds that a worker has to live for its end not to be one in a row
MOST_PAUSE = 30.0  # seconds between two attempts to start one

Load = Callable[[], Loaded]
# The package's own place goes first, and nothing is taken from the working directory.
COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from proxy.app import work; work(*sys.argv[2:])"


class NotStarted(Exception):
    """The first workers didn't become ready; their log says why."""


@dataclass(slots=True, eq=False)
class Worker:
    """One process. `end` is set when it is gone, and not before its last words were heard."""

    process: asyncio.subprocess.Process
    channel: Channel
    since: float
    settings: Settings
    report: Report = field(default_factory=Report)
    is_leaving: bool = False
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[asyncio.Event] = field(default_factory=list)

    @property
    def end_seconds(self) -> float:
        """Until it has to be gone, when the whole server ends."""
        drain = self.settings.drain
        return drain.clients + drain.answers + SLACK

    def leave(self, how: Say) -> None:
        self.is_leaving = True
        self.channel.say(how)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()


class Pauses:
    """Seconds before the next attempt: none after a worker that lived, then half a second, doubling to MOST_PAUSE."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def after(self, lived: float) -> float:
        if lived >= WELL:
            self._in_a_row = 0
        self._in_a_row += 1
        return 0.0 if self._in_a_row == 1 else min(MOST_PAUSE, 0.5 * 2 ** min(self._in_a_row - 2, 10))


def serve(loaded: Loaded, load: Load) -> bool:
    """Serve until SIGTERM or SIGINT. True when all workers ended in time. Raises CantListen, NotStarted. Blocks.

    `load` reads the configuration once more, at SIGHUP.
    """
    settings = loaded.settings
    listeners = bind(settings)
    logs = Logs(settings.telemetry, settings.audit, Metrics())
    try:
        return asyncio.run(Supervisor(settings, listeners, load).run())
    finally:
        logs.stop()


class Supervisor:
    """Three tasks: one per worker that listens to it, one that sees to their number and renews them, and `run`."""

    def __init__(
        self, settings: Settings, listeners: Listeners, load: Load, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._load = load
        self._clock = clock
        self._workers: list[Worker] = []
        self._past = Report()  # what those counted that are gone
        self._pauses = Pauses()
        self._lived = WELL  # of the worker that ended last
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._renew = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    async def run(self) -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_renew)
        async with asyncio.TaskGroup() as self._tasks:
            try:
                seeing = self._tasks.create_task(self._see_to_it())
                waiting = self._tasks.create_task(self._stop.wait())
                await asyncio.wait({seeing, waiting}, return_when=asyncio.FIRST_COMPLETED)
                seeing.cancel()
                waiting.cancel()
            finally:
                in_time = await self._end()
                self._listeners.close()
        if not self._stop.is_set():
            raise NotStarted("the workers did not start; the log says why")
        log.info("ended")
        return in_time

    def _asked_to_renew(self) -> None:
        self._renew.set()
        self._changed.set()

    async def _see_to_it(self) -> None:
        """Start all, then keep their number; `run` ends it. Returns when the start failed."""
        started = await asyncio.gather(*(self._start() for _ in range(self._settings.workers)))
        if None in started:
            return
        log.info("listening on %s", self._listeners)
        while True:
            await self._changed.wait()  # a signal or the end of a worker ends this
            self._changed.clear()
            if self._renew.is_set():
                self._renew.clear()
                await self._roll()
            await self._fill()

    async def _fill(self) -> None:
        while len(self._staying()) < self._settings.workers:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pauses.after(self._lived)):
                    await self._renew.wait()
            if self._renew.is_set():
                return
            if await self._start() is None:
                self._lived = 0.0

    def _staying(self) -> list[Worker]:
        return [worker for worker in self._workers if not worker.is_leaving]

    # One worker

    async def _start(self) -> Worker | None:
        """A worker that accepts connections; None when it ended first, or took too long."""
        ours, theirs = socket.socketpair()
        groups = (self._listeners.public, self._listeners.ops)
        numbers = [",".join(str(one.fileno()) for one in group) for group in groups]
        channel = await Channel.over(ours)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-c", COMMAND, str(Path(__file__).parents[1]), str(theirs.fileno()), *numbers,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *(one.fileno() for group in groups for one in group)],
                start_new_session=True,  # Ctrl+C and a closed terminal are for us; the workers hear of it from here
            )  # fmt: skip
        worker = Worker(process, channel, self._clock(), self._settings)
        self._workers.append(worker)
        self._tasks.create_task(self._hear(worker))
        worker.channel.say(Say.SETTINGS, sealed(self._settings))
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await _first(worker.is_ready, worker.end)
        if worker.is_ready.is_set() and not worker.end.is_set():
            log.info("worker %d serves", process.pid)
            return worker
        log.error("worker %d did not become ready", process.pid)
        worker.is_leaving = True
        worker.kill()
        await worker.end.wait()  # at once: nothing survives SIGKILL
        return None

    async def _hear(self, worker: Worker) -> None:
        """All that a worker says, until it is gone."""
        try:
            await self._take_words(worker)
        except Unusable as error:
            log.error("worker %d is killed: %s", worker.process.pid, error)  # noqa: TRY400 - nothing of ours failed
            worker.kill()
        worker.channel.close()
        try:
            status = await worker.process.wait()  # it closes its end only when it ends
        finally:
            worker.end.set()
        self._workers.remove(worker)
        self._past = Report(merged([self._past, worker.report.without_gauges()]))
        self._lived = self._clock() - worker.since
        log.log(
            logging.INFO if worker.is_leaving else logging.ERROR,
            "worker %d ended (%s)",
            worker.process.pid,
            "drained" if status == 0 else signal.Signals(-status).name if status < 0 else f"status {status}",
        )
        self._changed.set()

    async def _take_words(self, worker: Worker) -> None:
        while (heard := await worker.channel.hear()) is not None:
            what, content = heard
            match what:
                case Say.READY:
                    worker.is_ready.set()
                case Say.REPORT | Say.ENDED:
                    worker.report = parse(content)
                    for asked in worker.asked:
                        asked.set()
                    worker.asked.clear()
                case Say.GATHER:
                    self._tasks.create_task(self._gather(worker))
                case _:
                    raise Unusable(f"{what.name} is for us to say")

    async def _gather(self, asking: Worker) -> None:
        """What all others count, the ended ones in one."""
        others = [worker for worker in self._workers if worker is not asking and worker.is_ready.is_set()]
        words = []
        for worker in others:
            asked = asyncio.Event()
            worker.asked.append(asked)
            worker.channel.say(Say.REPORT)
            words.append(self._tasks.create_task(_first(asked, worker.end)))
        if words:
            await asyncio.wait(words, timeout=REPORT_SECONDS)
            for word in words:
                word.cancel()
        living = [worker.report for worker in others if not worker.end.is_set()]
        asking.channel.say(Say.GATHER, packed([report.dump() for report in (*living, self._past)]))

    # All of them

    async def _roll(self) -> None:
        """New settings, new workers, one after another: the new one accepts before the old one leaves."""
        old, listeners, began = self._settings, self._listeners, self._clock()
        try:
            loaded = await asyncio.to_thread(self._load)
            self._listeners = bind(loaded.settings, old, listeners)
        except ConfigError as error:
            for problem in error.problems:
                log.error("configuration: %s", problem)  # noqa: TRY400 - told in words; where it arose is of no use
            log.error("%d to put right; nothing was changed", len(error.problems))  # noqa: TRY400 - the same
            return
        except CantListen as error:
            log.error("%s; nothing was changed", error)  # noqa: TRY400 - the same
            return
        for warning in loaded.warnings:
            log.warning("configuration: %s", warning)
        self._settings = loaded.settings
        leaving = self._staying()
        for number in range(max(len(leaving), self._settings.workers)):
            if number < self._settings.workers and await self._start() is None:
                if number == 0:
                    self._settings, failed, self._listeners = old, self._listeners, listeners
                    failed.close_but(listeners)
                    log.error("no worker starts with the new configuration; nothing was changed")
                else:
                    log.error("a worker did not start; %d old ones stay until the next SIGHUP", len(leaving) - number)
                return
            if number < len(leaving):
                await self._replace(leaving[number])
        self._bound_finishing()
        listeners.close_but(self._listeners)
        log.info("all workers renewed in %.1f s", self._clock() - began)

    async def _replace(self, worker: Worker) -> None:
        """Drain it. When its clients had their time, it may finish its answers while we go on."""
        worker.leave(Say.REPLACE)
        settings = worker.settings
        longest = max(map(settings.longest_answer, settings.sites), default=0.0)
        self._tasks.create_task(_gone(worker, longest + worker.end_seconds))
        if not await _ends(worker, settings.drain.clients + TURN_SECONDS):
            log.info("worker %d still has answers to finish", worker.process.pid)

    def _bound_finishing(self) -> None:
        finishing = [worker for worker in self._workers if worker.is_leaving]
        for worker in finishing[: -MAX_FINISHING * self._settings.workers]:
            log.warning("worker %d has to hurry: too many are finishing answers", worker.process.pid)
            worker.leave(Say.STOP)

    async def _end(self) -> bool:
        """Drain all workers at once; kill what doesn't end in time. True when that was not needed."""
        workers = list(self._workers)
        for worker in workers:
            worker.leave(Say.STOP)
        return all(await asyncio.gather(*(_gone(worker, worker.end_seconds) for worker in workers)))


async def _ends(worker: Worker, seconds: float) -> bool:
    """Wait until it has ended, for so long. True when it has."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await worker.end.wait()
    return worker.end.is_set()


async def _gone(worker: Worker, seconds: float) -> bool:
    """The same, but kill it when it hasn't."""
    if await _ends(worker, seconds):
        return True
    log.error("worker %d did not end within %.0f s and is killed", worker.process.pid, seconds)
    worker.kill()
    await worker.end.wait()  # at once: nothing survives SIGKILL
    return False


async def _first(*events: asyncio.Event) -> None:
    """Wait for one of them. The caller sets the time limit."""
    async with asyncio.TaskGroup() as tasks:
        waits = {tasks.create_task(event.wait()) for event in events}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
