"""One Chromium for all of these tests; a fresh profile and a fresh server for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.chat import Chat, visiting
from tests.browser.stub import Stub, running_stub

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-lcd-text",  # the colours of letters' edges are not to hang on what fontconfig says of the screen
]

expect.set_options(timeout=30_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-pictures", action="store_true", help="keep what pages look like now as the references")


@asynccontextmanager
async def chromium(**environment: str) -> AsyncIterator[Browser]:
    """`environment`: what is added to this process's own."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "these tests need Chromium: install it, or name it in CHROMIUM"
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=path, args=FLAGS, env={**os.environ, **environment})
        yield launched
        await launched.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as launched:
        yield launched


@pytest_asyncio.fixture(loop_scope="session")
async def stub() -> AsyncIterator[Stub]:
    async with running_stub() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def chat(browser: Browser, stub: Stub) -> AsyncIterator[Chat]:
    async with visiting(browser, stub.url) as page:
        yield page
