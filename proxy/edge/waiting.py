"""Where @n8n/chat goes when an execution asks its visitor back: `GET /chat`, a WebSocket, and `/webhook-waiting/…`, the
buttons of the questions. It drops the path of its `webhookUrl` for both.

What it stops: anybody but the browser that began the execution; what the guard refuses of any message; whatever n8n
says besides filtered texts. What it doesn't: on pages of other origins, a browser of the same kind, in the same
network, that got hold of the token or the link. A visitor who leaves ends nothing: the execution waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from aiohttp import WSCloseCode, web

from proxy.edge.begun import Beginnings
from proxy.edge.chat import new_request
from proxy.edge.frames import CLOSE_SECONDS, UPGRADE, text_frame
from proxy.edge.heartbeat import Heartbeats
from proxy.edge.live import Live
from proxy.edge.runner import forget_heads
from proxy.errors import (
    ClientGone,
    Denied,
    Draining,
    NotFound,
    OutputBlocked,
    ProxyError,
    UpgradeRequired,
    UpstreamError,
)
from proxy.filters.whole import filtered_text
from proxy.flow import Flow, contained
from proxy.guard.connections import Connections
from proxy.guard.masking import Keeper
from proxy.guard.revocation import Revocations
from proxy.model import Client, Message, Request, Session
from proxy.streams.executions import Begun, Executions, Press
from proxy.upstream.line import Line
from proxy.upstream.n8n import N8n
from proxy.upstream.waiting import NOT_OPEN, Talk, Waiting
from proxy.wire import waiting
from proxy.wire.waiting import Beat, Button, Failed, Frame, GoOn, Said

log = logging.getLogger(__name__)

THANKS = "Thank you. You can go back to the chat.\n"
MAX_CAPTION = 100  # characters of a button


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """`owned` names a session as n8n knows it."""

    flow: Flow
    executions: Executions
    keeper: Keeper
    owned: Callable[[Session], str]
    revocations: Revocations


class WaitingEdge:
    def __init__(
        self,
        means: Means,
        beginnings: Beginnings,
        heartbeats: Heartbeats,
        live: Live,
        connections: Connections,
        *,
        max_bytes: int,
    ) -> None:
        self._means = means
        self._beginnings = beginnings
        self._heartbeats = heartbeats
        self._live = live
        self._connections = connections
        self._max_bytes = max_bytes
        self._is_cut = asyncio.Event()
        live.on_cut(self._is_cut.set)

    async def talk(self, http: web.Request) -> web.StreamResponse:
        """See websocket.py, which does the same for clients of ours."""
        socket = web.WebSocketResponse(timeout=CLOSE_SECONDS, max_msg_size=self._max_bytes * 4, compress=False)
        if http.headers.get("Sec-WebSocket-Version") != "13" or not socket.can_prepare(http).ok:
            raise UpgradeRequired("no WebSocket handshake", headers=UPGRADE)
        client, begun = await self._admit(http, "waiting", self._beginnings.named(http.query))
        async with self._connections.one(client):
            await socket.prepare(http)
            forget_heads(http, socket)
            with self._live.socket(http), self._heartbeats.of(http, socket):
                await _Conversation(self._means, socket, client, begun, self._is_cut, self._max_bytes).run()
        return socket

    async def press(self, http: web.Request) -> web.Response:
        """A button. What n8n answers is a page of its own; ours is one sentence."""
        press = self._means.executions.press(http.match_info["link"])
        client, begun = await self._admit(http, "pressed", press.begun if press else None)
        if press is None:
            raise NotFound("no button", public=NOT_OPEN)
        flow = self._means.flow
        request = _request(client, press.caption, client.request_id, begun)
        with request.bill:
            request = await flow.judge(request)
            line, n8n = _upstream(flow, begun)
            async with line.attempt():
                request.bill.begin(press.caption)
                await n8n.press(request, press.place, flow.signer.sign)
        return web.Response(text=THANKS, headers={"Cache-Control": "no-store"})

    async def _admit(self, http: web.Request, route: str, begun: Begun | None) -> tuple[Client, Begun]:
        client = await self._means.flow.admit(self._beginnings.client(http, route, begun))
        if begun is None:
            raise NotFound("the guard lets nobody in without", public=NOT_OPEN)
        return client, begun


class _Conversation:
    """One open socket, and the one with n8n behind it."""

    def __init__(
        self,
        means: Means,
        socket: web.WebSocketResponse,
        client: Client,
        begun: Begun,
        is_cut: asyncio.Event,
        max_bytes: int,
    ) -> None:
        self._means = means
        self._socket = socket
        self._client = client
        self._begun = begun
        self._is_cut = is_cut
        self._max_bytes = max_bytes
        self._owned = means.owned(begun.session)
        self._talk: Talk | None = None
        self._is_open = asyncio.Event()  # n8n let us in
        self._said = ""  # by the visitor, last
        self._heard = 0  # characters of n8n since

    async def run(self) -> None:
        """Until the execution, the client, the session or the process comes to an end."""
        try:
            async with self._means.revocations.lasting(self._begun.session), asyncio.TaskGroup() as tasks:
                ends = {tasks.create_task(each) for each in (self._listen(), self._type(), self._sent_away())}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in ends:
                    task.cancel()
            await self._socket.close()
        except* ClientGone:
            pass
        except* ProxyError as errors:
            await self._fail(errors.exceptions[0])

    async def _listen(self) -> None:
        """To n8n. A slot is taken, and the circuit asked, for the opening alone: people take minutes to answer."""
        flow = self._means.flow
        line, n8n = _upstream(flow, self._begun)
        request = _request(self._client, "", self._client.request_id, self._begun)
        async with line.attempt():
            self._talk = talk = await n8n.talk(request, self._begun.execution, self._owned, flow.signer.sign)
        self._is_open.set()
        try:
            await self._write(waiting.HEARTBEAT)  # n8n's first one told that it let us in
            while (frame := await talk.read()) is not None:
                await self._relay(frame)
        finally:
            await talk.close()

    async def _relay(self, frame: Frame) -> None:
        match frame:
            case Beat():  # it was answered; the client's own answer is for nobody, its pongs say that it is there
                await self._write(waiting.HEARTBEAT)
            case GoOn():
                await self._write(waiting.CONTINUE)
            case Failed():
                await self._refuse(UpstreamError("n8n reported an error in the workflow"), self._client.request_id)
            case Said():
                self._heard += len(frame.text)
                try:
                    with contained(self._client.request_id, OutputBlocked):
                        said = await self._filtered(frame)
                except OutputBlocked as blocked:
                    await self._refuse(blocked, self._client.request_id)
                else:
                    await self._write(waiting.write(said))

    async def _filtered(self, said: Said) -> Said:
        """What the filters let out of a text, and of captions; links lead to us. Raises OutputBlocked."""
        means, site = self._means, self._begun.session.site
        values = await means.keeper.values(site, self._owned)

        def filtered(text: str) -> str:
            return filtered_text(text, means.flow.chains[site](values, self._said))

        buttons = []
        for button in said.buttons:
            place = waiting.place(button.link, self._begun.execution.id)
            caption = filtered(button.text[:MAX_CAPTION]).strip()
            if place and caption:
                link = means.executions.link(Press(self._begun, caption, place))
                buttons.append(Button(caption, link, button.style))
        return Said(filtered(said.text), tuple(buttons), said.is_closed)

    async def _type(self) -> None:
        """What the visitor types, to n8n."""
        while (data := await text_frame(self._socket, self._max_bytes)) is not None:
            request_id = uuid.uuid4().hex
            try:
                with contained(request_id):
                    await self._say(waiting.answer(data), request_id)
            except Denied as denied:
                if denied.close is not None:
                    raise
                await self._refuse(denied, request_id)

    async def _say(self, text: str | None, request_id: str) -> None:
        if text is None:
            return
        self._means.revocations.check(self._begun.session)
        request = _request(self._client, text, request_id, self._begun)
        await self._is_open.wait()  # ends with the opening, in time or in failure
        with request.bill:
            request = await self._means.flow.judge(request)
            request.bill.begin(request.message.text)
            request.bill.output, self._heard = self._heard, 0
            self._said = request.message.text
            if self._talk is not None:
                await self._talk.say(request.message.text)

    async def _sent_away(self) -> None:
        await self._is_cut.wait()  # the process's end sets it; run() ends this otherwise
        raise Draining("the process is shutting down", retry_after=1)

    async def _fail(self, error: BaseException) -> None:
        """The conversation ends in an error."""
        if not isinstance(error, ProxyError):
            raise error
        if not isinstance(error, Denied):
            fields = {"request_id": self._client.request_id}
            log.warning("%s: %s", error.code, error.detail, extra={"fields": fields})
        with suppress(ClientGone):
            await self._refuse(error, self._client.request_id)
        await self._socket.close(code=error.close or WSCloseCode.INTERNAL_ERROR, message=error.code.encode())

    async def _refuse(self, error: ProxyError, request_id: str) -> None:
        await self._write(waiting.failure(error, request_id))

    async def _write(self, frame: str) -> None:
        try:
            await self._socket.send_str(frame)
        except (ConnectionError, RuntimeError) as error:  # RuntimeError: it is closing already
            raise ClientGone from error


def _request(client: Client, text: str, request_id: str, begun: Begun) -> Request:
    return replace(new_request(client, Message(text), request_id), upstream=begun.execution.upstream)


def _upstream(flow: Flow, begun: Begun) -> tuple[Line, Waiting]:
    """Raises NotFound where the configuration has changed since."""
    line = flow.upstreams.get(begun.execution.upstream)
    if line is None or not isinstance(line.upstream, N8n) or line.upstream.waiting is None:
        raise NotFound("the upstream of this execution is gone", public=NOT_OPEN)
    return line, line.upstream.waiting


def refusal(http: web.Request, error: ProxyError, request_id: str) -> web.Response:
    """A sentence, since a person may have opened the link in a tab."""
    headers = {"Cache-Control": "no-store", **error.headers}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return web.Response(text=f"{error.public}\n", status=error.status, headers=headers)
