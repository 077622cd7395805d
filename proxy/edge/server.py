"""The listeners: which path leads where, and what wraps every request. To add a way in, name its path here."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy import __version__
from proxy.edge import openai, waiting, widget
from proxy.edge.admin import AdminEdge
from proxy.edge.chat import ChatEdge
from proxy.edge.embed import EmbedEdge
from proxy.edge.headers import Cors, add_missing
from proxy.edge.hooks import HooksEdge
from proxy.edge.openai import OpenAiEdge
from proxy.edge.ops import OpsEdge, json_response
from proxy.edge.pages import PageEdge
from proxy.edge.problem import problem
from proxy.edge.push import EventsEdge, PushEdge
from proxy.edge.read import REQUEST_ID, Reader
from proxy.edge.session import SessionEdge
from proxy.edge.waiting import WaitingEdge
from proxy.edge.websocket import WebSocketEdge
from proxy.edge.widget import WidgetEdge
from proxy.errors import BadRequest, ClientGone, MethodNotAllowed, NotFound, OriginDenied, ProxyError, TooLarge
from proxy.flow import contained
from proxy.guard.origin import Host
from proxy.telemetry import Metrics, Stopwatch

log = logging.getLogger("sidegate.access")

Application = web.Application
Refusal = Callable[[web.Request, ProxyError, str], web.Response]
# Paths whose clients read errors in a form of their own, by their beginning.
REFUSALS: Mapping[str, Refusal] = {
    "/chat/": widget.refusal,
    "/webhook-waiting/": waiting.refusal,
    "/v1/chat/completions": openai.refusal,
    "/v1/models": openai.refusal,
    # Addresses of OpenAI's that aren't served here: its clients show the words of an error in its own shape alone.
    "/v1/completions": openai.refusal,
    "/v1/embeddings": openai.refusal,
    "/v1/responses": openai.refusal,
}


def public_app(
    *, chat: ChatEdge, websocket: WebSocketEdge, events: EventsEdge, session: SessionEdge, page: PageEdge,
    completions: OpenAiEdge, chats: WidgetEdge, questions: WaitingEdge, embed: EmbedEdge,
    hooks: HooksEdge, reader: Reader, host: Host, cors: Cors, base_headers: Mapping[str, str], metrics: Metrics,
) -> web.Application:  # fmt: skip
    """What clients see."""

    async def preflight(http: web.Request) -> web.Response:
        await host.check(reader.client(http, "preflight"))
        headers = cors.preflight(http.headers.get("Origin"))
        if headers is None:
            raise OriginDenied("preflight from a page that is not ours")
        return web.Response(status=204, headers=headers)

    async def health(http: web.Request) -> web.Response:
        return json_response({"status": "ok", "version": __version__})

    app = _app(metrics, lambda http: {**base_headers, **cors.headers(http.headers.get("Origin"))})
    app.router.add_get("/", page.index)
    app.router.add_get("/page/{name}", page.asset)
    app.router.add_get("/widget.js", embed.serve)
    app.router.add_get("/health", health)
    app.router.add_post("/v1/session", session.open)
    app.router.add_delete("/v1/session", session.close)
    app.router.add_post("/v1/session/refresh", session.refresh)
    app.router.add_post("/v1/session/ticket", session.ticket)
    app.router.add_post("/v1/messages", chat.ask)
    app.router.add_post("/v1/chat/completions", completions.complete)
    app.router.add_get("/v1/models", completions.models)
    app.router.add_get("/v1/models/{id}", completions.model)
    app.router.add_get("/v1/answers/{id}", chat.join)
    app.router.add_delete("/v1/answers/{id}", chat.stop)
    app.router.add_get("/v1/events", events.listen, allow_head=False)
    app.router.add_get("/v1/ws", websocket.handle)
    app.router.add_post("/chat/{site}", chats.handle)
    app.router.add_get("/chat/{site}", chats.handle, allow_head=False)
    app.router.add_get("/chat", questions.talk, allow_head=False)
    app.router.add_get("/webhook-waiting/{link:.*}", questions.press, allow_head=False)
    app.router.add_post("/webhook-waiting/{link:.*}", questions.press)
    app.router.add_post("/hooks/{name}", hooks.receive)
    app.router.add_get("/hooks/{name}", hooks.greet, allow_head=False)
    app.router.add_route("OPTIONS", "/v1/{path:.*}", preflight)
    app.router.add_route("OPTIONS", "/chat/{site}", preflight)
    app.router.add_route("OPTIONS", "/webhook-waiting/{link:.*}", preflight)
    return app


def ops_app(
    ops: OpsEdge, push: PushEdge, admin: AdminEdge, base_headers: Mapping[str, str], metrics: Metrics
) -> web.Application:
    """What only the owner sees."""
    app = _app(metrics, lambda http: base_headers, logging.DEBUG)  # probes and scrapes say the same again and again
    app.router.add_get("/livez", ops.livez)
    app.router.add_get("/readyz", ops.readyz)
    app.router.add_get("/health", ops.health)
    app.router.add_get("/metrics", ops.metrics)
    app.router.add_post("/push", push.push)
    app.router.add_get("/admin/sessions", admin.sessions)
    app.router.add_delete("/admin/sessions", admin.end_sessions)
    app.router.add_delete("/admin/sessions/{id}", admin.end_session)
    app.router.add_get("/admin/hooks", admin.letters)
    app.router.add_post("/admin/hooks/{id}", admin.replay)
    app.router.add_get("/admin/blocks", admin.blocks)
    app.router.add_put("/admin/blocks/{subject:.+}", admin.block)
    app.router.add_delete("/admin/blocks/{subject:.+}", admin.unblock)
    return app


def _app(
    metrics: Metrics, headers: Callable[[web.Request], Mapping[str, str]], level: int = logging.INFO
) -> web.Application:
    async def on_prepare(http: web.Request, response: web.StreamResponse) -> None:
        add_missing(response, headers(http))
        response.headers["X-Request-Id"] = http[REQUEST_ID]
        response.headers.popall("Server", None)

    app = web.Application(middlewares=[_outermost(metrics, level)], client_max_size=1024)
    app.on_response_prepare.append(on_prepare)
    return app


def _outermost(metrics: Metrics, level: int) -> Middleware:
    """Around every request, once: its id, its errors as problem details, one line in the log."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        http = request  # aiohttp calls it by that name
        http[REQUEST_ID] = request_id = uuid.uuid4().hex
        watch, status = Stopwatch(), 499  # 499: the client left before it was answered
        try:
            response = await _guarded(http, handler, request_id)
            status = response.status
            return response
        finally:
            resource = http.match_info.route.resource
            route = resource.canonical if resource is not None else "none"
            metrics.requests.labels(route, str(status)).inc()
            fields = {
                "method": http.method, "route": route, "status": status,
                "seconds": round(watch.seconds(), 4), "request_id": request_id,
            }  # fmt: skip
            log.log(level, "request", extra={"fields": fields})

    return outermost


async def _guarded(http: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    try:
        with contained(request_id):
            try:
                return await handler(http)
            except web.HTTPException as error:
                raise _translated(error) from None
            except ConnectionError as error:
                raise ClientGone from error
    except ClientGone:
        return web.Response(status=499)
    except ProxyError as error:
        return _refusal(http, error, request_id)


def _refusal(http: web.Request, error: ProxyError, request_id: str) -> web.Response:
    form = next((form for begins, form in REFUSALS.items() if http.path.startswith(begins)), None)
    return problem(error, request_id) if form is None else form(http, error, request_id)


def _translated(error: web.HTTPException) -> ProxyError:
    """What aiohttp raises by itself, in our words."""
    match error.status:
        case 404:
            return NotFound("no such path")
        case 405 if error.headers.get("Allow") == "OPTIONS":  # only the preflight's route is there
            return NotFound("no such path")
        case 405:
            return MethodNotAllowed("no such method here", headers={"Allow": error.headers.get("Allow", "")})
        case 413:
            return TooLarge("body")
        case _:
            return BadRequest(f"aiohttp: {error.status}")
