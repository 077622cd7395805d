"""One real n8n for all tests of this folder, seeded with the shipped workflow, and the scripted model it asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.n8n import workflows
from tests.n8n.fake_llm import FakeLlm
from tests.n8n.n8n import N8n, install


@pytest.fixture(scope="session")
def shared_llm() -> Iterator[FakeLlm]:
    llm = FakeLlm()
    llm.start()
    yield llm
    llm.stop()


@pytest.fixture(scope="session")
def shared_n8n(shared_llm: FakeLlm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[N8n]:
    install()
    n8n = N8n(tmp_path_factory.mktemp("n8n"))
    seeds = [workflows.shipped(), workflows.shipped_with_body_hash(), *workflows.small()]
    n8n.seed(workflows.credentials(shared_llm.url), seeds)
    n8n.start()
    yield n8n
    n8n.stop()


@pytest.fixture
def llm(shared_llm: FakeLlm) -> FakeLlm:
    """The model with its default script and nothing seen yet."""
    shared_llm.reset()
    return shared_llm


@pytest.fixture
def n8n(shared_n8n: N8n) -> N8n:
    """The running n8n; a test that stopped it leaves a started one to the next."""
    if not shared_n8n.is_running:
        shared_n8n.start()
    return shared_n8n
