"""A provider's webhook goes on to a workflow: its bytes unchanged, with our token, and what is answered comes back.

Of the provider's headers those go along that say what it is; of the answer, text of a few kinds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from proxy.errors import OutputBlocked, UpstreamError
from proxy.model import Reply, Webhook
from proxy.upstream.answer import STARTING
from proxy.upstream.headers import authorization, trace_headers
from proxy.upstream.http import exchange, open_pool
from proxy.upstream.n8n import N8nSettings
from proxy.upstream.retries import RetryBudget

MAX_REPLY_BYTES = 64 * 1024
# No secret among them. What isn't signed is the sender's word; the workflow may look at the signature itself.
PASSED = frozenset(
    (
        *("x-hub-signature-256", "x-github-event", "x-github-delivery", "x-github-hook-id"),
        *("x-slack-signature", "x-slack-request-timestamp", "x-slack-retry-num", "x-slack-retry-reason"),
        *("stripe-signature", "x-twilio-signature", "i-twilio-idempotency-token"),
        *("x-shopify-hmac-sha256", "x-shopify-topic", "x-shopify-shop-domain", "x-shopify-webhook-id"),
        *("x-shopify-api-version", "x-shopify-event-id", "x-shopify-triggered-at"),
        *("webhook-id", "webhook-timestamp", "webhook-signature", "svix-id", "svix-timestamp", "svix-signature"),
    )
)
MEDIA = frozenset({"application/json", "text/plain", "text/xml", "application/xml"})


class Relay:
    """One upstream, as webhooks reach it."""

    def __init__(self, settings: N8nSettings, pool: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._pool = pool
        self._retries = RetryBudget()

    @property
    def longest(self) -> float:
        return self._settings.longest

    async def send(self, webhook: Webhook, token: str, attempt: int = 1) -> Reply:
        """Raises UpstreamError, UpstreamTimeout, or OutputBlocked where it ran and its answer is too large."""
        headers = {name: value for name, value in webhook.headers.items() if name in PASSED and value.isascii()}
        headers |= trace_headers(webhook.client.request_id, webhook.client.traceparent)
        headers |= authorization(self._settings.auth, token)
        headers |= {
            "Content-Type": webhook.client.media,
            "Accept": "application/json, text/plain;q=0.9, */*;q=0.8",
            "X-Sidegate-Hook": webhook.hook,
            "X-Sidegate-Delivery": webhook.delivery,
            "X-Sidegate-Attempt": str(attempt),
        }
        async with exchange(self._pool, self._settings, webhook.body, headers, self._retries) as reply:
            body = b""
            while data := await reply.read(has_begun=bool(body)):
                body += data
                if len(body) > MAX_REPLY_BYTES:
                    raise OutputBlocked(f"an answer over {MAX_REPLY_BYTES} bytes to a webhook")
            if body.lower().startswith(STARTING):
                raise UpstreamError("n8n is still starting")
            media = reply.media_type.partition(";")[0].strip()
            return Reply("done", 200, body, media if media in MEDIA else "text/plain")


@asynccontextmanager
async def open_relays(upstreams: Mapping[str, N8nSettings]) -> AsyncIterator[dict[str, Relay]]:
    """Over a pool of connections of their own."""
    if not upstreams:
        yield {}
        return
    async with open_pool() as pool:
        yield {name: Relay(settings, pool) for name, settings in upstreams.items()}
