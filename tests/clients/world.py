"""What the clients talk to: a whole Sidegate in front of a scripted webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from proxy.guard.keys import hash_of, new_key
from tests.sidegate import ORIGIN, sidegate
from tests.upstreams import Script, Webhook, webhook

API_KEY = new_key("api")


@asynccontextmanager
async def completions(script: Script, **sections: Any) -> AsyncIterator[tuple[str, Webhook]]:
    """Its address and the webhook. Any: configuration as written."""
    sites = {"shop": {"upstream": "support", "auth": ["api_key", "anonymous"], "origins": [ORIGIN]}}
    keys = {"api": [{"name": "bot", "hash": hash_of(API_KEY), "site": "shop"}]}
    async with (
        webhook(lambda asked: script) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, sites=sites, keys=keys, **sections) as visitor,
    ):
        yield visitor.url, hook
