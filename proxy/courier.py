"""From a webhook that the guard let pass to its workflow: accepted once, signed, sent, and what the provider is told.

A delivery is run again only where it is as good as certain that it didn't run: the workflow wasn't reached, or said
that it failed. After a timeout it may still be running, so then it counts as run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson

from proxy.errors import Denied, OutputBlocked, ProxyError, UpstreamTimeout
from proxy.guard.hooks import Deliveries, HookSettings
from proxy.model import Reply, Webhook
from proxy.telemetry import Metrics, tell_denied
from proxy.upstream.line import Line
from proxy.upstream.relay import Relay
from proxy.upstream.signing import Signer

JSON = "application/json"
MAX_CHALLENGE = 256
QUEUED = Reply("queued", 202, b'{"status":"queued"}', JSON)
DUPLICATE = Reply("duplicate", 200, b'{"status":"duplicate"}', JSON)


@dataclass(slots=True)
class Trip:
    """How far one attempt came."""

    was_sent: bool = False

    def may_have_run(self, error: BaseException) -> bool:
        if isinstance(error, UpstreamTimeout):
            return error.was_sent
        return isinstance(error, OutputBlocked) or (self.was_sent and isinstance(error, asyncio.CancelledError))


@dataclass(frozen=True, slots=True)
class Road:
    """To one upstream."""

    line: Line
    relay: Relay
    signer: Signer

    async def run(self, webhook: Webhook, trip: Trip, attempt: int = 1) -> Reply:
        async with self.line.attempt() as tried:
            trip.was_sent = True
            token = self.signer.sign_webhook(webhook, self.line.name)
            reply = await self.relay.send(webhook, token, attempt)
            tried.ok()
            return reply


class Courier:
    """All webhooks' way. `hooks` by name, `roads` by upstream."""

    def __init__(
        self,
        hooks: Mapping[str, HookSettings],
        roads: Mapping[str, Road],
        deliveries: Deliveries,
        enqueue: Callable[[Webhook], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self._hooks = hooks
        self._roads = roads
        self._deliveries = deliveries
        self._enqueue = enqueue
        self._metrics = metrics

    async def take(self, webhook: Webhook) -> Reply:
        """What the provider is to be answered. Raises Replayed, Conflict, RateLimited, and what the workflow's failure
        is: after that the provider may try again."""
        hook = self._hooks[webhook.hook]
        if (challenge := _challenge(hook, webhook)) is not None:
            return Reply("challenge", 200, challenge, "text/plain")
        road = self._roads[hook.upstream]
        if not await self._is_new(webhook, road.relay.longest):
            return DUPLICATE
        trip = Trip()
        try:
            if hook.ack == "queue":
                await self._enqueue(webhook)
                reply = QUEUED
            else:
                reply = await road.run(webhook, trip)
        except (ProxyError, asyncio.CancelledError) as error:
            # Both wait for the store alone, which decides within 300 ms.
            await (self._deliveries.finish if trip.may_have_run(error) else self._deliveries.forget)(webhook)
            raise
        await self._deliveries.finish(webhook)
        return reply

    async def _is_new(self, webhook: Webhook, longest: float) -> bool:
        try:
            return await self._deliveries.accept(webhook, longest)
        except Denied as denied:
            # Told here and not by the flow: a provider that is too eager is no attacker, and gets no points.
            denied.stage = self._deliveries.name
            tell_denied(self._metrics, denied, "enforce", webhook.client.request_id, webhook.client.ip)
            raise


def _challenge(hook: HookSettings, webhook: Webhook) -> bytes | None:
    """What Slack asks once, when the address is written down there; signed like everything else.

    https://docs.slack.dev/reference/events/url_verification
    """
    if hook.provider != "slack" or webhook.client.media != JSON:
        return None
    fields = orjson.loads(webhook.body)
    if not isinstance(fields, dict) or fields.get("type") != "url_verification":
        return None
    return str(fields.get("challenge", ""))[:MAX_CHALLENGE].encode("utf-8", "replace")
