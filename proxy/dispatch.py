"""Webhooks that were acknowledged at once, on their way to the workflow: tried again with growing pauses, then kept as
dead letters until somebody lets them run again.

With Redis they outlive this process, and any replica runs them; one whose replica died is run again after its lease.
With the memory store they end with the process. Everything kept in Redis is sealed.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import orjson

from proxy.courier import Road, Trip
from proxy.errors import ProxyError, UpstreamUnavailable
from proxy.flow import contained
from proxy.guard.hooks import HookSettings
from proxy.model import Client, Verdict, Webhook
from proxy.store import Job, Jobs, StoreDown
from proxy.streams.seal import Box, Broken
from proxy.telemetry import Metrics, audit
from proxy.upstream.relay import PASSED

log = logging.getLogger(__name__)

AT_ONCE = 4  # in each process
LOOK_SECONDS = 1.0  # between two looks at an empty queue
TELL_SECONDS = 5.0  # between two looks at what it holds
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
SPARE_SECONDS = 60.0  # of a lease, behind the longest time that a run may take


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead one, for its owner's eyes. `at`: Unix time at which it was given up."""

    id: str
    hook: str
    delivery: str
    tries: int
    at: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Queue:
    """Where webhooks are kept, how they are sealed, and how many sealed bytes may wait."""

    jobs: Jobs
    box: Box
    most_bytes: int


class Dispatch:
    """`roads` by upstream. Runs from start() to close()."""

    def __init__(
        self,
        hooks: Mapping[str, HookSettings],
        roads: Mapping[str, Road],
        queue: Queue,
        grace: float,
        metrics: Metrics,
    ) -> None:
        self._hooks = hooks
        self._roads = roads
        self._jobs = queue.jobs
        self._box = queue.box
        self._most_bytes = queue.most_bytes
        self._grace = grace
        self._closing = asyncio.Event()
        self._metrics = metrics
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._lease = SPARE_SECONDS + max((road.relay.longest for road in roads.values()), default=0.0)

    def start(self) -> None:
        if any(hook.ack == "queue" for hook in self._hooks.values()):
            # Owned by this object; close() ends them.
            self._tasks = [asyncio.create_task(self._work(), name="webhooks") for _ in range(AT_ONCE)]  # noqa: TID251
            self._tasks.append(asyncio.create_task(self._tell(), name="webhooks"))  # noqa: TID251

    async def close(self) -> None:
        """What runs now has `grace` seconds. What doesn't end in them is run again where there is Redis."""
        self._closing.set()
        self._news.set()
        if not self._tasks:
            return
        await asyncio.wait(self._tasks, timeout=self._grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)  # at once: a cancelled run waits for nothing

    async def put(self, webhook: Webhook) -> None:
        """Raises UpstreamUnavailable where it can't be kept."""
        try:
            name, data = f"{webhook.hook}-{webhook.delivery}", self._box.wrap(_frozen(webhook))
            is_kept = await self._jobs.put(name, data, self._most_bytes)
        except StoreDown as down:
            raise UpstreamUnavailable(f"redis: {down}", retry_after=5) from down
        if not is_kept:
            raise UpstreamUnavailable("the queue is full", retry_after=60)
        self._news.set()

    async def letters(self, number: int) -> list[Letter]:
        """Dead ones, the latest first. Raises StoreDown."""
        return [self._letter(job) for job in await self._jobs.dead(number)]

    async def waiting(self) -> int:
        return (await self._jobs.held()).waiting

    async def again(self, name: str) -> bool:
        """Let a dead one run again. False where there is none of that name. Raises StoreDown."""
        if not await self._jobs.again(name):
            return False
        self._news.set()
        return True

    async def _work(self) -> None:
        while not self._closing.is_set():
            job = None
            with suppress(StoreDown):  # then it is looked again
                if (job := await self._jobs.take(self._lease)) is not None:
                    await self._run(job)
            if job is None and not self._closing.is_set():
                self._news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()

    async def _tell(self) -> None:
        """What the queue holds, in the metrics. While Redis is away they stay as they were."""
        count, size = self._metrics.webhook_queue, self._metrics.webhook_queue_bytes
        while not self._closing.is_set():
            with suppress(StoreDown):
                held = await self._jobs.held()
                for state, number, data in (
                    ("waiting", held.waiting, held.waiting_bytes),
                    ("dead", held.dead, held.dead_bytes),
                ):
                    count.labels(state).set(number)
                    size.labels(state).set(data)
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self._closing.wait()

    async def _run(self, job: Job) -> None:
        try:
            webhook = _thawed(self._box.unwrap(job.data))
            hook = self._hooks[webhook.hook]
            road = self._roads[hook.upstream]
        except (Broken, KeyError) as error:
            log.warning("a webhook in the queue is nobody's: %s", type(error).__name__)
            return await self._jobs.bury(job.name, self._most_bytes)
        if job.tries > hook.attempts:  # whoever ran it last was killed each time
            log.warning("a webhook was begun %d times and never ended", job.tries - 1)
            return await self._jobs.bury(job.name, self._most_bytes)
        trip, outcome = Trip(), "done"
        try:
            with contained(webhook.client.request_id):
                await road.run(webhook, trip, job.tries)
            await self._jobs.done(job.name)
        except UpstreamUnavailable as error:
            # The circuit is open, or there is no room: nothing was sent, so that was no try.
            await self._jobs.later(job.name, _spread(max(error.retry_after or 0, FIRST_PAUSE)), is_try=False)
            self._metrics.webhooks.labels(webhook.hook, "held").inc()
            return None
        except ProxyError as error:
            if trip.may_have_run(error) or job.tries >= hook.attempts:
                outcome = "dead"
                await self._jobs.bury(job.name, self._most_bytes)
            else:
                outcome = "retry"
                await self._jobs.later(job.name, pause(job.tries))
            log.warning("%s: %s", error.code, error.detail, extra={"fields": {"request_id": webhook.client.request_id}})
        self._metrics.webhooks.labels(webhook.hook, outcome).inc()
        audit("WEBHOOK", hook=webhook.hook, outcome=outcome, delivery=webhook.delivery, tries=job.tries,
              request_id=webhook.client.request_id)  # fmt: skip
        return None

    def _letter(self, job: Job) -> Letter:
        hook, _, delivery = job.name.rpartition("-")
        return Letter(job.name, hook, delivery, job.tries, job.at, len(job.data))


def pause(tries: int) -> float:
    """Seconds until the next try."""
    return _spread(min(math.ldexp(FIRST_PAUSE, tries - 1), LONGEST_PAUSE))


def _spread(seconds: float) -> float:
    """Not the same for all that failed together."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - nobody gains by guessing it


def _frozen(webhook: Webhook) -> bytes:
    client = webhook.client
    return orjson.dumps(
        {
            "hook": webhook.hook, "delivery": webhook.delivery, "body": base64.b64encode(webhook.body).decode(),
            "scores": dict(webhook.verdict.scores), "flags": webhook.verdict.flags,
            "headers": {name: value for name, value in webhook.headers.items() if name in PASSED and value.isascii()},
            "request_id": client.request_id, "media": client.media, "traceparent": client.traceparent,
        }
    )  # fmt: skip


def _thawed(data: bytes) -> Webhook:
    kept = orjson.loads(data)
    client = Client(
        kept["request_id"], "unknown", "hooks", "POST", media=kept["media"], traceparent=kept["traceparent"]
    )
    body, verdict = base64.b64decode(kept["body"]), Verdict(kept["scores"], tuple(kept["flags"]))
    return Webhook(client, kept["hook"], body, kept["headers"], delivery=kept["delivery"], verdict=verdict)
