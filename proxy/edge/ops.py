"""The ops listener: is it alive, ready, well; and metrics. Not for the public: bind it to a private address."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from proxy import __version__
from proxy.config import Secret, Section
from proxy.edge.live import Live
from proxy.errors import AuthRequired, ProxyError
from proxy.store import Store
from proxy.telemetry import Metrics
from proxy.totals import Report, collect, health_of, merged, render, totals

Gather = Callable[[], Awaitable[list[Report]]]


class OpsSettings(Section):
    """Where a token is set, /health and /metrics want it as `Authorization: Bearer`; /livez and /readyz never do."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 9090
    token: Secret | None = None


async def alone() -> list[Report]:
    """For a process without others."""
    return []


class OpsEdge:
    """`replicas`: how many share the store; `circuits`: each breaker's state; `sessions`: how many are active here;
    `gather`: what the other workers say, since whichever of them is asked answers for all.
    """

    def __init__(
        self,
        settings: OpsSettings,
        environment: str,
        store: Store,
        live: Live,
        metrics: Metrics,
        *,
        redis: bool,
        replicas: Callable[[], int],
        circuits: Callable[[], Mapping[str, str]],
        sessions: Callable[[], int],
        gather: Gather = alone,
    ) -> None:
        self._token = settings.token
        self._environment = environment
        self._store = store
        self._live = live
        self._metrics = metrics
        self._redis = redis
        self._replicas = replicas
        self._circuits = circuits
        self._sessions = sessions
        self._gather = gather

    async def livez(self, http: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    async def readyz(self, http: web.Request) -> web.Response:
        """503 only while draining. Without Redis we decide locally, so we stay ready, and say so."""
        if self._live.draining:
            return json_response({"status": "draining"}, status=503)
        reason = self._store.degraded()
        return json_response({"status": "ready"} if reason is None else {"status": "degraded", "reason": reason})

    async def health(self, http: web.Request) -> web.Response:
        self._authorise(http)
        return json_response(_health(await self._reports()))

    async def metrics(self, http: web.Request) -> web.Response:
        self._authorise(http)
        reports = await self._reports()
        families = merged(reports)
        if "application/json" in http.headers.get("Accept", ""):
            return json_response(_health(reports) | {"metrics": totals(families)})
        text = await asyncio.to_thread(render, families)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def report(self) -> Report:
        """What this process alone counts."""
        self._metrics.store_degraded.set(0 if self._store.degraded() is None else 1)
        return Report(await asyncio.to_thread(collect, self._metrics.registry), self._summary())

    async def _reports(self) -> list[Report]:
        try:
            return [await self.report(), *await self._gather()]
        except TimeoutError:
            raise ProxyError("the supervisor didn't say what the other workers count") from None

    def _authorise(self, http: web.Request) -> None:
        if self._token is not None:
            authorise(http, self._token)

    def _summary(self) -> dict[str, object]:
        degraded, circuits = self._store.degraded(), dict(self._circuits())
        troubled = self._live.draining or degraded is not None or "open" in circuits.values()
        return {
            "status": "draining" if self._live.draining else "degraded" if troubled else "ok",
            "version": __version__,
            "environment": self._environment,
            "services": {
                "redis": "off" if not self._redis else "ok" if degraded is None else degraded,
                "upstreams": {name: "unavailable" if state == "open" else "ok" for name, state in circuits.items()},
                "breaker": circuits,
            },
            "replicas": self._replicas(),
            "sse_connections": self._live.sse,
            "ws_connections": self._live.websockets,
            "active_sessions": self._sessions(),
        }


def authorise(http: web.Request, token: Secret) -> None:
    """Raises AuthRequired."""
    scheme, _, value = http.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(value.strip().encode(), token.reveal().encode()):
        raise AuthRequired("the ops token is missing or wrong", public="The ops token is missing or wrong.")


def _health(reports: list[Report]) -> dict[str, object]:
    return health_of([report.health for report in reports if report.health])


def json_response(fields: Mapping[str, object], status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(fields), status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
