"""Background: tasks end with their owner, and one that fails says so."""

from __future__ import annotations

import asyncio

import pytest

from proxy.background import Background
from tests.until import until


async def test_what_runs_is_ended_with_its_owner() -> None:
    background, ended = Background(), []

    async def run() -> None:
        try:
            await asyncio.Event().wait()  # until the owner closes
        finally:
            ended.append("ended")

    for name in ("one", "two"):
        background.begin(run(), name)
    await asyncio.sleep(0)
    await background.end()
    assert ended == ["ended", "ended"]


async def test_ending_again_or_without_a_task_is_nothing() -> None:
    background = Background()
    await background.end()
    await background.end()


async def test_a_failure_is_told_at_once_and_raised_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()

    async def fail() -> None:
        raise ZeroDivisionError

    background.begin(fail(), "counting")
    await until(lambda: "counting ended: ZeroDivisionError" in caplog.text)
    with pytest.raises(ZeroDivisionError):
        await background.end()
