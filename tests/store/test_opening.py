"""An address opens the store that it names."""

from __future__ import annotations

from proxy.store.failover import FailoverStore
from proxy.store.memory import MemoryStore
from proxy.store.opening import open_store


def test_an_address_opens_its_store() -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    for url in ("redis://127.0.0.1:1/0", "redis+sentinel://127.0.0.1:1/main", "redis+cluster://127.0.0.1:1"):
        assert isinstance(open_store(url), FailoverStore)
