"""What the clients talk to: a whole Sidegate in front of a scripted webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from proxy.guard.keys import hash_of, new_key
from tests.sidegate import ORIGIN, sidegate
from tests.upstreams import Script, Webhook, plain, stream, webhook

API_KEY = new_key("api")
UPSTREAMS = {"n8n": {"kind": "n8n"}, "openai": {"kind": "openai", "model": "m"}}
CUT = (
    b'data: {"choices":[{"delta":{"content":"Good day"}}]}\n\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":31,"completion_tokens":7}}\n\ndata: [DONE]\n\n'
)
# How an answer ends: what answers, the configuration, what may be read, and OpenAI's word for it. Any: as written.
ENDINGS: dict[str, tuple[str, Script, dict[str, Any], str, str]] = {
    "whole": ("n8n", stream("Good ", "day"), {}, "Good day", "stop"),
    "cut by the model": ("openai", plain(CUT), {}, "Good day", "length"),
    "cut by us": ("n8n", stream("Good ", "day"), {"filters": {"max_chars": 6}}, "Good d", "length"),
    "blocked": ("n8n", stream("Good ", "day"), {"filters": {"phrases": {"block": ["day"]}}}, "Good ", "content_filter"),
}


@asynccontextmanager
async def completions(script: Script, kind: str = "n8n", **sections: Any) -> AsyncIterator[tuple[str, Webhook]]:
    """Its address and the webhook, or model server (`openai`). Any: configuration as written."""
    sites = {"shop": {"upstream": "support", "auth": ["api_key", "anonymous"], "origins": [ORIGIN]}}
    keys = {"api": [{"name": "bot", "hash": hash_of(API_KEY), "site": "shop"}]}
    async with (
        webhook(lambda asked: script) as hook,
        sidegate(UPSTREAMS[kind] | {"url": hook.url}, sites=sites, keys=keys, **sections) as visitor,
    ):
        yield visitor.url, hook
