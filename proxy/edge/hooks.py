"""/hooks/NAME: providers' webhooks. What isn't named in the settings is 404; whose they are, the guard judges."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from proxy.edge.http1 import read_body
from proxy.edge.read import REQUEST_ID, Reader
from proxy.errors import BadRequest, NotFound, ProxyError, UnsupportedMedia
from proxy.flow import Flow
from proxy.guard.hooks import HookSettings, greeting
from proxy.guard.origin import Host
from proxy.model import Reply, Webhook
from proxy.telemetry import Metrics, audit

MAX_QUERY_CHARS = 2000
# Proxies on the way add to these, in lines of their own (RFC 9110 section 5.3).
LISTS = frozenset({"accept", "accept-encoding", "cache-control", "forwarded", "via", "x-forwarded-for", "cookie"})


class HooksEdge:
    def __init__(
        self,
        flow: Flow,
        reader: Reader,
        host: Host,
        hooks: Mapping[str, HookSettings],
        body_timeout: float,
        metrics: Metrics,
    ) -> None:
        self._flow = flow
        self._reader = reader
        self._host = host
        self._hooks = hooks
        self._body_timeout = body_timeout
        self._metrics = metrics

    async def greet(self, http: web.Request) -> web.Response:
        """Meta's verification of the address."""
        name, hook = self._hook(http)
        await self._host.check(self._reader.client(http, "hooks"))
        try:
            challenge = greeting(hook, http.query)
        except ProxyError as error:
            self._tell(http, name, error.code)
            raise
        self._tell(http, name, "greeting")
        return web.Response(body=challenge, content_type="text/plain", headers={"Cache-Control": "no-store"})

    async def receive(self, http: web.Request) -> web.Response:
        name, hook = self._hook(http)
        outcome = "cancelled"
        try:
            reply = await self._flow.deliver(await self._webhook(http, name, hook))
            outcome = reply.outcome
        except ProxyError as error:
            outcome = error.code
            raise
        finally:
            self._tell(http, name, outcome)
        return _response(reply)

    def _hook(self, http: web.Request) -> tuple[str, HookSettings]:
        name = http.match_info["name"]
        if name not in self._hooks:
            raise NotFound("no such hook")
        return name, self._hooks[name]

    async def _webhook(self, http: web.Request, name: str, hook: HookSettings) -> Webhook:
        """Of two headers of one name we might judge the one, and the workflow read the other."""
        if http.headers.get("Content-Encoding", "identity") != "identity":
            raise UnsupportedMedia("Content-Encoding", public="Please send the body without Content-Encoding.")
        if len(http.rel_url.raw_query_string) > MAX_QUERY_CHARS:
            raise BadRequest("the query is too long", public="The address is too long.")
        headers: dict[str, str] = {}
        for each, value in http.headers.items():
            if each.lower() in headers and each.lower() not in LISTS:
                raise BadRequest("a header twice", public=f"The header {each[:64]} comes twice.")
            headers[each.lower()] = value
        body = await read_body(http, hook.max_body_bytes, self._body_timeout)
        return Webhook(self._reader.client(http, "hooks"), name, body, headers, query=http.rel_url.raw_query_string)

    def _tell(self, http: web.Request, name: str, outcome: str) -> None:
        self._metrics.webhooks.labels(name, outcome).inc()
        audit("WEBHOOK", hook=name, outcome=outcome, request_id=http[REQUEST_ID])


def _response(reply: Reply) -> web.Response:
    response = web.Response(body=reply.body, status=reply.status, headers={"Cache-Control": "no-store"})
    if reply.media:
        response.content_type = reply.media
        response.charset = "utf-8"
    if reply.outcome == "duplicate":
        response.headers["Sidegate-Duplicate"] = "true"
    return response
