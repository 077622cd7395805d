"""How webhooks are put together: the courier, and the queue behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxy.courier import Courier, Road
from proxy.dispatch import Dispatch, Queue
from proxy.guard.hooks import Deliveries
from proxy.resources import Resources
from proxy.settings import Settings
from proxy.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Post:
    """Both ends of it."""

    courier: Courier
    dispatch: Dispatch


@asynccontextmanager
async def post(settings: Settings, resources: Resources, metrics: Metrics) -> AsyncIterator[Post]:
    """From here on queued webhooks are run; leaving ends that."""
    roads = {name: Road(resources.lines[name], relay, resources.signer) for name, relay in resources.relays.items()}
    queue = Queue(resources.jobs, resources.sealer.box("webhooks"), settings.hook_queue.max_bytes)
    dispatch = Dispatch(settings.hooks, roads, queue, settings.drain.answers, metrics)
    deliveries = Deliveries(settings.hooks, resources.store)
    dispatch.start()
    try:
        yield Post(Courier(settings.hooks, roads, deliveries, dispatch.put, metrics), dispatch)
    finally:
        await dispatch.close()
