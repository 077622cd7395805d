"""One request, from top to bottom.

    edge --> admit(client)                 connect stages            once per HTTP request or WebSocket handshake
    edge --> answer(request, sink)         message stages            once per message
                                           a kept answer, or: upstream, slot, circuit, sign, open
         <-- done | fail                   filter, send              once per piece
    edge --> judge(request)                message stages            once per message to an execution that waits
    edge --> deliver(webhook)              webhook stages, courier   once per provider's webhook

Everything here is order. What each step does is in guard/, upstream/ and filters/.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from proxy.courier import Courier
from proxy.errors import ClientGone, Denied, OutputBlocked, ProxyError, UpstreamError, UpstreamUnavailable
from proxy.filters.chain import Chain
from proxy.model import Client, Reply, Request, Sink, Stage, Webhook
from proxy.streams.cache import Cache
from proxy.telemetry import Metrics, Stopwatch, tell_denied
from proxy.upstream.line import Line
from proxy.upstream.route import order
from proxy.upstream.signing import Signer

log = logging.getLogger(__name__)
T = TypeVar("T", Client, Request, Webhook)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    connect_stages: Sequence[Stage[Client]]
    message_stages: Sequence[Stage[Request]]
    signer: Signer
    upstreams: Mapping[str, Line]
    chains: Mapping[str, Callable[[Mapping[str, str], str], Chain]]
    caches: Mapping[str, Cache]
    denied: Sequence[Callable[[Denied, Client], None]]  # are told of every refusal that is enforced
    webhook_stages: Sequence[Stage[Webhook]]
    courier: Courier
    metrics: Metrics

    async def admit(self, client: Client) -> Client:
        """Let a connection in, or raise Denied."""
        return await self._pass(self.connect_stages, client, client.request_id, client)

    async def judge(self, request: Request) -> Request:
        """Let a message go on to an execution that waits for it, or raise Denied."""
        return await self._pass(self.message_stages, request, request.id, request.client)

    async def deliver(self, webhook: Webhook) -> Reply:
        """Take a provider's webhook to its workflow; what the provider is to be answered. Raises ProxyError."""
        webhook = await self._pass(self.webhook_stages, webhook, webhook.client.request_id, webhook.client)
        return await self.courier.take(webhook)

    async def answer(self, request: Request, sink: Sink) -> None:
        """Answer one message, and tell the sink how that ended. Raises only when cancelled."""
        outcome, watch = "cancelled", Stopwatch()
        try:
            with contained(request.id), request.bill:
                await self._answer(request, sink, watch)
            outcome = "done"
        except ClientGone:
            outcome = "gone"
        except ProxyError as error:
            outcome = error.code
            if not isinstance(error, Denied):
                log.warning("%s: %s", error.code, error.detail, extra={"fields": {"request_id": request.id}})
            await sink.fail(error)
        finally:
            self.metrics.answers.labels(request.site.name, outcome).inc()

    async def _answer(self, request: Request, sink: Sink, watch: Stopwatch) -> None:
        request = await self.judge(request)
        sink.admit(request)
        if (cache := self.caches.get(request.site.name)) is not None and await cache.takes(request):
            if await cache.answer(request, sink):
                return self.metrics.avoided.labels("cached").inc()
            sink = cache.recorder(request, sink)
        *others, last = [self.upstreams[name] for name in order(request.site, request.session.id)]
        for line in others:
            try:
                return await self._ask(line, request, sink, watch)
            except (UpstreamError, UpstreamUnavailable) as error:
                if error.was_sent:  # a workflow that had been started would run, and cost, twice
                    raise
                self.metrics.failovers.labels(line.name).inc()
        return await self._ask(last, request, sink, watch)

    async def _ask(self, line: Line, request: Request, sink: Sink, watch: Stopwatch) -> None:
        request = replace(request, upstream=line.name)
        chain = self.chains[request.site.name](request.values, request.message.text)
        try:
            async with line.attempt() as attempt:
                body = await line.encode(request)
                request.bill.begin(request.message.text)
                async with line.upstream.open(request, body, self.signer.sign(request, body)) as pieces:
                    await sink.start()
                    async for piece in pieces:
                        if attempt.ok():
                            self.metrics.first_piece.labels(line.name).observe(watch.seconds())
                        request.bill.output += len(piece)
                        with contained(request.id, OutputBlocked):
                            text = chain.feed(piece)
                        if text:
                            await sink.send(text)
            # Only a complete answer is flushed: what was kept back when one broke off was never judged.
            with contained(request.id, OutputBlocked):
                text = chain.flush()
            if text:
                await sink.send(text)
        except OutputBlocked as blocked:
            if blocked.allowed:
                await sink.send(blocked.allowed)
            raise
        finally:
            self.metrics.answered(line.name, watch.seconds(), request.site.name, *chain.report())
        await sink.done()

    async def _pass(self, stages: Sequence[Stage[T]], subject: T, request_id: str, client: Client) -> T:
        """Run the stages in order. A stage in `observe` mode says what it would refuse, and the subject goes on."""
        for stage in stages:
            try:
                with contained(request_id):
                    subject = await stage.check(subject)
            except Denied as denied:
                denied.stage = stage.name
                tell_denied(self.metrics, denied, stage.mode, request_id, client.ip)
                if stage.mode == "enforce":
                    for told in self.denied:
                        told(denied, client)
                    raise
        return subject


@contextmanager
def contained(request_id: str, kind: type[ProxyError] = ProxyError) -> Iterator[None]:
    """What is not one of our errors is logged here, and becomes `kind`: a crash is a refusal, never a pass."""
    try:
        yield
    except (ProxyError, ClientGone):
        raise
    except Exception as error:
        log.exception("crashed", extra={"fields": {"request_id": request_id}})
        raise kind(f"crashed: {type(error).__name__}") from error
