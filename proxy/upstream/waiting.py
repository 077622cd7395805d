"""n8n's executions that ask their visitor back: its chat WebSocket, and the links behind the buttons of its questions.

What it stops: frames over MAX_FRAME_BYTES, more than `max_answer_bytes` without a word of the visitor, and n8n's own
texts about its troubles. What it doesn't: n8n keeps an execution waiting for good, whoever has left it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace

import aiohttp
from aiohttp import WSMsgType
from yarl import URL

from proxy.errors import BadRequest, Conflict, NotFound, UpstreamError, UpstreamTimeout
from proxy.model import Execution, Request
from proxy.upstream.body import encode
from proxy.upstream.headers import Auth, authorization, trace_headers, visitor_headers
from proxy.upstream.http import HttpSettings, open_pool
from proxy.wire import waiting
from proxy.wire.waiting import Beat, Frame

MAX_FRAME_BYTES = 256 * 1024
CLOSE_SECONDS = 2.0
NO_CODE = (0, 1000, 1005)  # how n8n closes when the execution has come to its end
NOT_OPEN = "This question is not open any more."

Sign = Callable[[Request, bytes], str]


class Talk:
    """An open WebSocket with an execution."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str, idle: float, max_bytes: int) -> None:
        self._socket = socket
        self._session = session
        self._idle = idle
        self._max_bytes = self._left = max_bytes

    async def read(self) -> Frame | None:
        """The next frame; None when the execution has come to its end. n8n's heartbeats are answered here.

        Raises UpstreamError, UpstreamTimeout.
        """
        try:
            message = await self._socket.receive(self._idle)
        except TimeoutError as error:
            raise UpstreamTimeout("timeout: n8n's chat WebSocket is silent") from error
        if message.type is WSMsgType.CLOSE and message.data in NO_CODE:
            return None
        if message.type is not WSMsgType.TEXT:
            raise UpstreamError(f"n8n's chat WebSocket ended: {message.type.name} {self._socket.close_code}")
        self._left -= len(message.data)
        if self._left < 0:
            raise UpstreamError(f"over {self._max_bytes} characters of n8n without a word of the visitor")
        frame = waiting.read(message.data)
        if isinstance(frame, Beat):
            await self._send(frame.ack)
        return frame

    async def say(self, text: str) -> None:
        """Raises BadRequest, UpstreamError."""
        self._left = self._max_bytes
        await self._send(encode({"sessionId": self._session, "action": "sendMessage", "chatInput": text}).decode())

    async def close(self) -> None:
        """The execution goes on waiting. At once, or after CLOSE_SECONDS."""
        await self._socket.close()

    async def _send(self, frame: str) -> None:
        try:
            async with asyncio.timeout(self._idle):
                await self._socket.send_str(frame)
        except (OSError, aiohttp.ClientError) as error:  # a TimeoutError is an OSError, too
            raise UpstreamError(f"n8n's chat WebSocket broke off: {type(error).__name__}") from error


class Waiting:
    """One n8n. `root` is where its other addresses begin."""

    def __init__(self, settings: HttpSettings, auth: Auth, pool: aiohttp.ClientSession) -> None:
        self._root = root(settings.url)
        self._auth = auth
        self._timeouts = settings.timeouts
        self._max_bytes = settings.max_answer_bytes
        self._pool = pool

    async def talk(self, request: Request, execution: Execution, session: str, sign: Sign) -> Talk:
        """Connected, and let in. Whoever calls closes it, by `close`. `session` is the owned id.

        Raises NotFound where n8n doesn't know the execution, UpstreamError, UpstreamTimeout.
        """
        query = {"sessionId": session, "executionId": execution.id, "isPublic": "true"}
        if execution.token:
            query["token"] = execution.token
        try:
            async with asyncio.timeout(self._timeouts.first_byte):
                socket = await self._pool.ws_connect(
                    URL(f"{self._root}/chat").with_query(query),
                    headers=self._headers(request, sign),
                    max_msg_size=MAX_FRAME_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                )
        except TimeoutError as error:
            raise UpstreamTimeout("timeout: n8n's chat WebSocket") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(f"no WebSocket with n8n: {type(error).__name__}") from error
        talk = Talk(socket, session, self._timeouts.idle, self._max_bytes)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(talk.close)
            if not isinstance(await talk.read(), Beat):  # whom it lets in hears that first
                raise NotFound("n8n doesn't know the execution, or not with this token", public=NOT_OPEN)
            stack.pop_all()
        return talk

    async def press(self, request: Request, place: str, sign: Sign) -> None:
        """Tell n8n that a button was pressed. Nothing of what it says of that is anybody's business.

        Raises NotFound, Conflict, BadRequest where n8n doesn't take it, UpstreamError, UpstreamTimeout.
        """
        url = URL(f"{self._root}/webhook-waiting/{place}", encoded=True)
        try:
            async with (
                asyncio.timeout(self._timeouts.first_byte),
                self._pool.get(url, headers=self._headers(request, sign), allow_redirects=False) as response,
            ):
                status, said = response.status, await response.content.readany()
        except TimeoutError as error:
            raise UpstreamTimeout("timeout: a button of n8n's") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(f"no response: {type(error).__name__}") from error
        if status in (401, 404):
            raise NotFound(f"n8n doesn't take this button any more: {status}", public=NOT_OPEN)
        if status == 409:
            raise Conflict("n8n got an answer before", public="This question was answered already.")
        if not 200 <= status <= 299:
            raise UpstreamError(f"status {status}")
        if not said:  # so it answers, and does nothing, where it takes the caller for a program
            raise BadRequest("n8n takes this client for a bot", public="This button works in a browser.")

    def _headers(self, request: Request, sign: Sign) -> dict[str, str]:
        return (
            trace_headers(request.id, request.client.traceparent)
            | visitor_headers(request)
            | authorization(self._auth, sign(request, b""))
        )


def root(url: str) -> str:
    """What stands in front of `/webhook/` in the address of a workflow; without that, its origin."""
    head, found, _ = url.partition("/webhook/")
    return head if found else str(URL(url).origin())


@asynccontextmanager
async def open_waiting(settings: HttpSettings, auth: Auth) -> AsyncIterator[Waiting]:
    """Over a pool of connections of its own, which follows no redirect: one would carry the token with it."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse)
    async with open_pool([trace]) as pool:
        yield Waiting(settings, auth, pool)


async def _refuse(
    session: aiohttp.ClientSession, context: SimpleNamespace, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    raise UpstreamError("n8n's chat WebSocket leads elsewhere")
