"""All who wait are woken, each once, and nobody is remembered who has left."""

from __future__ import annotations

import asyncio

from proxy.streams.news import News


async def test_all_who_wait_are_woken_and_the_next_wait_for_the_next() -> None:
    news = News()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        first = [tasks.create_task(news.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        news.tell()
        await asyncio.wait(first)
        late = tasks.create_task(news.wait())
        await asyncio.sleep(0)
        assert not late.done()
        news.tell()


async def test_who_left_is_not_told() -> None:
    news = News()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        leaving, staying = tasks.create_task(news.wait()), tasks.create_task(news.wait())
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        news.tell()
        await staying
    assert leaving.cancelled()


async def test_who_leaves_in_the_moment_of_the_news_does_no_harm() -> None:
    news = News()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        leaving = tasks.create_task(news.wait())
        await asyncio.sleep(0)
        leaving.cancel()
        news.tell()
    assert leaving.cancelled()
