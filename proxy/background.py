"""Tasks that run beside the requests, for as long as the object that owns them.

What it stops: a task that nobody ends, and one that died without a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger(__name__)


class Background:
    """`begin` what shall run; `end` it when the owner closes. A task that fails says so in the log at once."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, work: Coroutine[object, object, None], name: str) -> None:
        # This object is the one owner of the task, and end() ends it.
        task = asyncio.create_task(work, name=name)  # noqa: TID251
        task.add_done_callback(_tell)
        self._tasks.append(task)

    async def end(self) -> None:
        """End them all; again is nothing. Raises what one of them failed with."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)  # at once, since nothing that runs here holds a cancellation up
        for task in tasks:
            if not task.cancelled():
                task.result()


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s ended: %s", task.get_name(), type(error).__name__, exc_info=error)
