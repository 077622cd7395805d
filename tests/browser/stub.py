"""A server that speaks the client protocol as a test tells it to: refusals, cut answers, silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

PAGE = Path(__file__).parents[2] / "proxy" / "edge" / "page"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PATIENCE = 30.0  # seconds that the longest scripted wait may take


@dataclass
class Line:
    """One message and the way back to the page."""

    request: web.Request
    message: str
    key: str
    answer_id: str
    response: web.StreamResponse | None = None
    count: int = 0

    async def event(self, name: str, data: Mapping[str, object]) -> None:
        self.count += 1
        text = f"event: {name}\nid: {self.answer_id}:{self.count}\ndata: {json.dumps(data)}\n\n"
        await self.raw(text.encode())

    async def raw(self, data: bytes) -> None:
        if self.response is None:
            self.response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
            )
            await self.response.prepare(self.request)
        await self.response.write(data)

    async def start(self) -> None:
        await self.event("start", {"answer_id": self.answer_id})

    async def say(self, text: str) -> None:
        await self.event("delta", {"text": text})

    async def done(self) -> None:
        await self.event("done", {"answer_id": self.answer_id})

    def break_connection(self) -> None:
        assert self.request.transport is not None
        self.request.transport.abort()


Reply = Callable[[Line], Awaitable[web.StreamResponse | None]]


async def echo(line: Line) -> None:
    await line.start()
    await line.say("You said: ")
    await line.say(line.message)
    await line.done()


def says(*pieces: str) -> Reply:
    async def reply(line: Line) -> None:
        await line.start()
        for piece in pieces:
            await line.say(piece)
        await line.done()

    return reply


def refuses(status: int, code: str, title: str, retry_after: float | None = None) -> Reply:
    async def reply(line: Line) -> web.StreamResponse:
        return problem(status, code, title, retry_after)

    return reply


def problem(status: int, code: str, title: str, retry_after: float | None = None) -> web.Response:
    body: dict[str, object] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "request_id": "r-1",
    }
    headers = {"X-Request-Id": "r-1"}
    if retry_after is not None:
        body["retry_after"] = retry_after
        headers["Retry-After"] = str(round(retry_after))
    return web.Response(status=status, text=json.dumps(body), content_type="application/problem+json", headers=headers)


@dataclass
class Stub:
    """Each message takes the next reply; when there are none left, it's echoed."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    opened: int = 0  # sessions
    refreshed: int = 0
    access: set[str] = field(default_factory=set)
    refresh: set[str] = field(default_factory=set)
    expires_in: float = 900.0
    stopped: list[str] = field(default_factory=list)  # answers that the page asked to end
    session_problem: web.Response | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)  # a client went away during its answer

    def grant(self) -> web.Response:
        number = self.opened + self.refreshed
        access, refresh = f"access-{number}", f"refresh-{number}"
        self.access.add(access)
        self.refresh.add(refresh)
        return web.json_response(
            {
                "session_id": f"s-{self.opened}",
                "access_token": access,
                "expires_in": self.expires_in,
                "refresh_token": refresh,
                "refresh_expires_in": 604800,
            }
        )

    async def open_session(self, request: web.Request) -> web.Response:
        if self.session_problem is not None:
            refusal, self.session_problem = self.session_problem, None
            return refusal
        self.opened += 1
        return self.grant()

    async def refresh_session(self, request: web.Request) -> web.Response:
        token = (await request.json())["refresh_token"]
        if token not in self.refresh:
            return problem(401, "session_invalid", "Your session has ended. Please start again.")
        self.refresh.remove(token)
        self.refreshed += 1
        return self.grant()

    async def message(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.access:
            return problem(401, "session_invalid", "Your session has ended. Please start again.")
        line = Line(request, body["message"], request.headers["Idempotency-Key"], f"a{len(self.lines) + 1}")
        self.lines.append(line)
        reply = self.replies.pop(0) if self.replies else echo
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await reply(line)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        return answer or line.response or web.Response(status=500)

    async def stop(self, request: web.Request) -> web.Response:
        self.stopped.append(request.match_info["id"])
        return web.Response(status=204)

    async def page(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name", "index.html")
        return web.FileResponse(PAGE / name, headers={"Content-Security-Policy": CSP, "Cache-Control": "no-store"})


@asynccontextmanager
async def running_stub() -> AsyncIterator[Stub]:
    stub = Stub()
    app = web.Application()
    app.router.add_get("/", stub.page)
    app.router.add_get("/page/{name:(?:page|protocol|markdown)\\.js|page\\.css|icon\\.svg}", stub.page)
    app.router.add_post("/v1/session", stub.open_session)
    app.router.add_post("/v1/session/refresh", stub.refresh_session)
    app.router.add_post("/v1/messages", stub.message)
    app.router.add_delete("/v1/answers/{id}", stub.stop)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    stub.url = f"http://{host}:{port}/"
    try:
        yield stub
    finally:
        await runner.cleanup()
