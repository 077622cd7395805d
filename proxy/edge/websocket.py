"""GET /v1/ws: one WebSocket, many messages, their answers one after another.

We keep reading while an answer is under way, so that a client that leaves or says stop is noticed at once, and the
upstream stops working for nobody. What it stops: cross-site sockets and sockets without a session, both before the
upgrade. What it doesn't: unmasked frames pass, which harms no one but a broken intermediary.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

import orjson
from aiohttp import WSCloseCode, web

from proxy.edge.chat import new_request, session_of
from proxy.edge.events import as_frame, as_push, number_after
from proxy.edge.frames import CLOSE_SECONDS, UPGRADE, text_frame
from proxy.edge.headers import delivery
from proxy.edge.heartbeat import Heartbeats
from proxy.edge.live import Live
from proxy.edge.read import Reader, json_object, message
from proxy.edge.runner import forget_heads
from proxy.errors import (
    BadRequest,
    ChallengeRequired,
    ClientGone,
    Conflict,
    Draining,
    ProxyError,
    SessionInvalid,
    UpgradeRequired,
)
from proxy.flow import Flow
from proxy.guard.connections import Connections
from proxy.guard.revocation import Revocations
from proxy.model import Client, Request, Session
from proxy.streams import StreamSettings
from proxy.streams.answer import Transcript, error_fields
from proxy.streams.answers import Answers
from proxy.streams.event import Event, Fields
from proxy.streams.push import CHANNEL, Address, Channels

PROTOCOL = "sidegate.v1"
MAX_WAITING = 8  # messages that may wait for the one being answered
MAX_ID_CHARS = 64


class WebSocketEdge:
    def __init__(
        self,
        flow: Flow,
        reader: Reader,
        answers: Answers,
        streams: StreamSettings,
        live: Live,
        connections: Connections,
        channels: Channels,
        owned: Callable[[Session], str],
        revocations: Revocations,
        *,
        max_bytes: int,
    ) -> None:
        self._flow = flow
        self._reader = reader
        self._answers = answers
        self._heartbeats = Heartbeats(streams.heartbeat)
        self._live = live
        self._connections = connections
        self._channels = channels
        self._owned = owned
        self._revocations = revocations
        self._max_bytes = max_bytes

    async def handle(self, http: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=(PROTOCOL,) if _offers_ours(http) else (),  # aiohttp would log what others were offered
            timeout=CLOSE_SECONDS,
            # Over this aiohttp drops the connection at once; between the two sizes, _read closes it properly.
            max_msg_size=self._max_bytes * 4,
            compress=False,  # would cost 90 KiB for each connection instead of 17
        )
        if http.headers.get("Sec-WebSocket-Version") != "13" or not socket.can_prepare(http).ok:
            raise UpgradeRequired("no WebSocket handshake", headers=UPGRADE)
        client = await self._flow.admit(self._reader.client(http, "ws"))  # refused before upgrading
        client = replace(client, credential=None)  # it was judged, and isn't kept as long as the socket
        async with self._connections.one(client):  # refused before upgrading, too
            socket.headers.update(delivery(client))
            await socket.prepare(http)
            forget_heads(http, socket)
            with self._live.socket(http), self._heartbeats.of(http, socket):
                pushes = self._pushes(client, number_after(http.query.get("after"), CHANNEL))
                await _Conversation(
                    socket, client, self._flow, self._answers, pushes, self._revocations, self._max_bytes
                ).run()
        return socket

    def _pushes(self, client: Client, after: int) -> _Pushes:
        session = session_of(client)
        return _Pushes(self._channels, Address(session.site, self._owned(session)), after)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What waits to be relayed: a message to be answered, or an answer to be joined behind number `after`."""

    request: Request | None = None
    answer: Transcript | None = None
    after: int = -1
    more: Fields = field(default_factory=dict)


@dataclass(slots=True)
class _Pushes:
    """The session's channel, as far as it was read."""

    channels: Channels
    address: Address
    after: int
    has_more: bool = False  # perhaps


class _Conversation:
    """One open socket. While it is idle only its reading is a task: thousands of others would say nothing, too."""

    __slots__ = (
        "_answers",
        "_client",
        "_flow",
        "_max_bytes",
        "_pushes",
        "_pushing",
        "_relaying",
        "_revocations",
        "_socket",
        "_tasks",
        "_waiting",
    )

    def __init__(
        self,
        socket: web.WebSocketResponse,
        client: Client,
        flow: Flow,
        answers: Answers,
        pushes: _Pushes,
        revocations: Revocations,
        max_bytes: int,
    ) -> None:
        self._max_bytes = max_bytes
        self._socket = socket
        self._client = client
        self._flow = flow
        self._answers = answers
        self._pushes = pushes
        self._revocations = revocations
        self._waiting: list[_Turn] = []
        self._tasks = asyncio.TaskGroup()
        self._relaying: asyncio.Task[None] | None = None  # while there is something to relay
        self._pushing: asyncio.Task[None] | None = None  # the same with pushes

    async def run(self) -> None:
        """Until the client leaves, or the process does: then the pushes end in Draining."""
        try:
            async with self._revocations.lasting(session_of(self._client)), self._tasks:
                self._pushes.channels.listen(self._pushes.address, self._look)
                try:
                    self._look()
                    await self._read()
                finally:
                    self._pushes.channels.leave(self._pushes.address, self._look)
                for task in (self._pushing, self._relaying):
                    if task is not None:
                        task.cancel()  # the client is gone: nobody is left to answer
        except* SessionInvalid:
            await self._refuse(SessionInvalid("the session ended meanwhile"), "", {})
        except* Draining:
            await self._socket.close(code=WSCloseCode.GOING_AWAY, message=Draining.code.encode())

    async def _read(self) -> None:
        while (data := await text_frame(self._socket, self._max_bytes)) is not None:
            request_id = uuid.uuid4().hex
            more: Fields = {}
            try:
                fields = json_object(data)
                more = _reply_to(fields)
                await self._take(fields, request_id, more)
            except ProxyError as error:
                await self._refuse(error, request_id, more)
            except ClientGone:
                return

    async def _take(self, fields: Fields, request_id: str, more: Fields) -> None:
        match fields.get("type"):
            case "message":
                self._wait(_Turn(request=self._request(fields, request_id), more=more))
            case "resume":
                after = fields.get("after", -1)
                if not isinstance(after, int) or isinstance(after, bool):
                    raise BadRequest("after is no number", public='"after" must be the number of the last event seen.')
                self._wait(_Turn(answer=await self._own(fields), after=max(after, -1), more=more))
            case "stop":
                await self._answers.stop(await self._own(fields))
            case "ping":
                await self._write(orjson.dumps({"type": "pong", **more}).decode())
            case _:
                raise BadRequest("unknown frame type", public='"type" must be message, resume, stop or ping.')

    def _request(self, fields: Fields, request_id: str) -> Request:
        self._revocations.check(session_of(self._client))
        solution = fields.get("challenge")
        client = replace(self._client, solution=solution if isinstance(solution, str) else None)
        return new_request(client, message(fields), request_id)

    async def _own(self, fields: Fields) -> Transcript:
        answer_id = fields.get("answer_id")
        if not isinstance(answer_id, str):
            raise BadRequest("no answer_id", public='"answer_id" must be a string.')
        return await self._answers.find(session_of(self._client), answer_id)

    def _wait(self, turn: _Turn) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise Conflict(f"{MAX_WAITING} messages are waiting already")
        self._waiting.append(turn)
        if self._relaying is None:
            self._relaying = self._tasks.create_task(self._relay_waiting())

    async def _relay_waiting(self) -> None:
        """Answer what waits, in order, until nothing does or the socket's reading ends."""
        while self._waiting:
            turn = self._waiting.pop(0)
            try:
                await self._relay(turn)
            except ProxyError as error:
                await self._refuse(error, turn.request.id if turn.request else "", turn.more)
            except ClientGone:
                return
        self._relaying = None

    async def _relay(self, turn: _Turn) -> None:
        if turn.request is not None:
            answer: Transcript = self._answers.begin(turn.request, self._flow.answer)
        elif turn.answer is not None:
            answer = turn.answer
        else:
            return
        with answer.listening():
            async with aclosing(answer.follow(turn.after)) as batches:
                async for events in batches:
                    for event in events:
                        await self._write(as_frame(answer.id, _as_challenge(event, answer.failure), turn.more))
        if answer.failure is not None and answer.failure.close is not None:
            await self._socket.close(code=answer.failure.close, message=answer.failure.code.encode())

    def _look(self) -> None:
        """There may be pushes to relay."""
        self._pushes.has_more = True
        if self._pushing is None:
            self._pushing = self._tasks.create_task(self._relay_pushes())

    async def _relay_pushes(self) -> None:
        """What is sent to the session later, whatever is being answered, until there is no more or reading ends."""
        pushes = self._pushes
        try:
            while pushes.has_more:
                pushes.has_more = False
                for event in await pushes.channels.read(pushes.address, pushes.after):
                    pushes.after, pushes.has_more = event.number, True
                    if event.name == "push":  # an answer's `start` would be taken for the answer to a message
                        await self._write(as_push(event))
        except ClientGone:
            return
        except Draining:
            if self._relaying is not None:
                await asyncio.wait(
                    [self._relaying]
                )  # its answer ends, or sends its listeners away, as the process does
            raise
        self._pushing = None

    async def _refuse(self, error: ProxyError, request_id: str, more: Fields) -> None:
        with suppress(ClientGone):
            kind = "challenge" if isinstance(error, ChallengeRequired) else "error"
            frame = {"type": kind, **error_fields(error, request_id), **more}
            await self._write(orjson.dumps(frame).decode())
        if error.close is not None:
            await self._socket.close(code=error.close, message=error.code.encode())

    async def _write(self, frame: str) -> None:
        try:
            await self._socket.send_str(frame)
        except (ConnectionError, RuntimeError) as error:  # RuntimeError: it is closing already
            raise ClientGone from error


def _offers_ours(http: web.Request) -> bool:
    return PROTOCOL in {name.strip() for name in http.headers.get("Sec-WebSocket-Protocol", "").split(",")}


def _as_challenge(event: Event, failure: ProxyError | None) -> Event:
    """A message that wants proof first has not failed for good."""
    is_challenge = event.name == "error" and isinstance(failure, ChallengeRequired)
    return replace(event, name="challenge") if is_challenge else event


def _reply_to(fields: Fields) -> Fields:
    """What every frame of the answer carries, so that the client knows which message it is for."""
    frame_id = fields.get("id")
    if frame_id is None:
        return {}
    if not isinstance(frame_id, str) or len(frame_id) > MAX_ID_CHARS:
        raise BadRequest("frame id", public=f'"id" must be a string of at most {MAX_ID_CHARS} characters.')
    return {"reply_to": frame_id}
