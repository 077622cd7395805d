"""/chat/{site}: where an unmodified @n8n/chat widget may be pointed (`webhookUrl`), streaming or not, by POST or GET.

What it stops: somebody else's `sessionId` is worth nothing. It counts within one browser only, and n8n sees an id that
is made of both. What it doesn't: on pages of other origins browsers send no cookie, so that there a browser is known by
its User-Agent, language and network; two that share all three and a visitor's id share its conversation.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

import orjson
from aiohttp import web

from proxy.edge.begun import Beginnings
from proxy.edge.chat import COMMIT_AFTER, new_request
from proxy.edge.headers import delivery
from proxy.edge.live import Live
from proxy.edge.memory import Memory
from proxy.edge.read import REQUEST_ID, Reader, json_object
from proxy.edge.sse import KEEPALIVE, NO_STORE, HttpStream, Pings, put
from proxy.edge.uploads import MULTIPART, Uploads
from proxy.errors import BadRequest, Draining, ProxyError
from proxy.flow import Flow, contained
from proxy.guard import limits
from proxy.guard.session import Sessions
from proxy.model import Client, Execution, Message, Request, Session, Site
from proxy.streams.answer import Answer, Transcript
from proxy.streams.answers import Answers
from proxy.streams.event import Event, Fields
from proxy.upstream.recall import Turn

log = logging.getLogger(__name__)

COOKIE = "sidegate_widget"
SECRET = re.compile(r"[A-Za-z0-9_-]{32}")
MAX_ID_CHARS = 256
ACTIONS = ("sendMessage", "loadPreviousSession")
# As n8n names the node that speaks: the widget tells by it what belongs together.
NODE: Fields = {"nodeId": "sidegate", "nodeName": "Sidegate", "itemIndex": 0, "runIndex": 0}
ASKS_BACK = "The assistant wants to ask you something, which this page can't show."
CLASSES = {"user": "HumanMessage", "assistant": "AIMessage"}  # LangChain's, which the widget looks for


@dataclass(frozen=True, slots=True)
class Said:
    """What the widget sends. `visitor` is the id that it made up."""

    action: str
    visitor: str
    message: Message


@dataclass(frozen=True, slots=True)
class Asked:
    """What a visitor said, and the answer to it with its headers."""

    visitor: str
    request: Request
    answer: Transcript
    headers: dict[str, str]


class WidgetEdge:
    def __init__(
        self,
        flow: Flow,
        reader: Reader,
        answers: Answers,
        sessions: Sessions,
        memory: Memory,
        pings: Pings,
        live: Live,
        uploads: Uploads,
        lifetime: int,
        beginnings: Beginnings,
    ) -> None:
        self._flow = flow
        self._reader = reader
        self._answers = answers
        self._sessions = sessions
        self._memory = memory
        self._pings = pings
        self._live = live
        self._uploads = uploads
        self._lifetime = lifetime  # seconds that the cookie lasts
        self._beginnings = beginnings

    async def handle(self, http: web.Request) -> web.StreamResponse:
        if http.method == "POST" and http.content_type == MULTIPART:
            asked = await self._ask_with_files(http)
        else:
            said = _said(await self._fields(http))
            if said.action == "loadPreviousSession":
                return await self._recall(http, said)
            client = await self._admit(http, "widget")
            request, headers = self._request(http, client, said)
            asked = Asked(said.visitor, request, await self._answers.ask(request, self._flow.answer), headers)
        answer = asked.answer
        with answer.listening():
            if streams(http):
                return await self._stream(http, answer, asked.headers)
            response = await _collected(http, answer, asked.headers)
            if (waiting := _waiting(answer)) is not None:
                fields, cookies = self._beginnings.hand_out(http, asked.request, asked.visitor, waiting)
                response = _json(fields, limits.headers(answer.counts) | asked.headers)
                for cookie in cookies:
                    response.headers.add("Set-Cookie", cookie)
            return response

    async def _ask_with_files(self, http: web.Request) -> Asked:
        """The texts of a form are the fields of its JSON, `metadata` being JSON within."""
        client = replace(await self._admit(http, "attach"), route="widget")  # it is a message of the widget's like any
        async with self._uploads.reading(http, client) as form:
            fields: Fields = dict(form.fields)
            if "metadata" in fields:
                fields["metadata"] = json_object(form.fields["metadata"])
            said = _said(fields)
            if said.action != "sendMessage":
                raise BadRequest("a form that asks for a history", public="Files come with a message.")
            said = replace(said, message=replace(said.message, files=form.files))
            request, headers = self._request(http, client, said)
            answer = await self._answers.ask(request, self._flow.answer)
            if answer.id == request.answer_id:  # else it is under way already, with files of its own
                form.hand_on()
            return Asked(said.visitor, request, answer, headers)

    def _request(self, http: web.Request, client: Client, said: Said) -> tuple[Request, dict[str, str]]:
        """What an admitted client says, and the headers that its answer has."""
        session, cookie = self._session(http, client, said)
        request = new_request(replace(client, session=session), said.message, client.request_id)
        return request, delivery(client) | cookie

    async def _fields(self, http: web.Request) -> Fields:
        if http.method == "POST":
            return await self._reader.json(http)
        fields: Fields = dict(http.query)
        return fields | {"metadata": None}  # which the widget writes into a query as [object Object]

    async def _admit(self, http: web.Request, route: str) -> Client:
        """Cookies of other faces have no say here: the widget sends them to pages of our own origin alone."""
        client = replace(self._reader.client(http, route), site_name=http.match_info["site"])
        if client.credential is not None and client.credential.kind == "cookie":
            client = replace(client, credential=None)
        return await self._flow.admit(client)

    def _session(self, http: web.Request, client: Client, said: Said) -> tuple[Session, dict[str, str]]:
        """The visitor's session in this browser, and the header that makes the browser known by a cookie, where it
        sends any.
        """
        site = _site(client)
        if client.identity.owner:
            conversation = hashlib.sha256(said.visitor.encode("utf-8", "replace")).hexdigest()
            return self._sessions.derive(replace(client, conversation=conversation), site), {}
        if client.fetch_site != "same-origin":
            return self._sessions.adopt(client, site, said.visitor), {}
        kept = http.cookies.get(COOKIE, "")
        secret = kept if SECRET.fullmatch(kept) else secrets.token_urlsafe(24)
        secure = "; Secure" if client.scheme == "https" else ""
        cookie = f"{COOKIE}={secret}; Max-Age={self._lifetime}; Path=/chat/{site.name}; HttpOnly; SameSite=Strict"
        return self._sessions.adopt(client, site, said.visitor, secret), {"Set-Cookie": cookie + secure}

    async def _recall(self, http: web.Request, said: Said) -> web.Response:
        """Never an error: without an answer to its first request the widget shows no field to write in."""
        turns: list[Turn] = []
        cookie: dict[str, str] = {}
        try:
            with contained(http[REQUEST_ID]):
                client = await self._admit(http, "recall")
                session, cookie = self._session(http, client, said)
                request = new_request(replace(client, session=session), said.message, client.request_id)
                turns = await self._memory.recall(request)
        except ProxyError as error:
            log.info("a widget begins without its history: %s (%s)", error.code, http[REQUEST_ID])
        return _json({"data": [_remembered(turn) for turn in turns]}, cookie)

    async def _stream(self, http: web.Request, answer: Transcript, headers: Mapping[str, str]) -> web.StreamResponse:
        stream = WidgetStream(http, answer, self._pings)
        with self._live.streaming(http):
            await answer.opened(COMMIT_AFTER)
            if answer.early is not None:
                return _refusal(http, answer.early, answer)
            stream.response.headers.update(headers)
            await stream.begin()
            await stream.relay(-1)
        return stream.response


class WidgetStream(HttpStream):
    """n8n's lines. The widget ignores those whose type it doesn't know."""

    def _response(self) -> web.StreamResponse:
        return web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": NO_STORE, "X-Accel-Buffering": "no"}
        )

    async def relay(self, after: int) -> None:
        with self._pings.to(self._http, self.response, KEEPALIVE):
            async with aclosing(self._answer.follow(after)) as batches:
                async for events in batches:
                    await put(self.response, b"".join(map(_line, events)))
            if _waiting(self._answer) is not None:
                await put(self.response, _line(Event(0, "error", {"message": ASKS_BACK})))


def _remembered(turn: Turn) -> Fields:
    return {"id": ["langchain_core", "messages", CLASSES[turn.role]], "kwargs": {"content": turn.text}}


def _line(event: Event) -> bytes:
    match event.name:
        case "start":
            fields: Fields = {"type": "begin"}
        case "delta":
            fields = {"type": "item", "content": event.fields["text"]}
        case "error":
            fields = {"type": "error", "content": event.fields["message"]}
        case _:
            fields = {"type": "end"}
    return orjson.dumps(fields | {"metadata": NODE | {"timestamp": int(time.time() * 1000)}}) + b"\n"


def _waiting(answer: Transcript) -> Execution | None:
    """There is no answer, but an execution that asks the visitor back."""
    return answer.request.bill.waiting if isinstance(answer, Answer) else None


async def _collected(http: web.Request, answer: Transcript, headers: dict[str, str]) -> web.Response:
    async for _ in answer.follow():
        pass
    if not answer.is_over:
        return _refusal(http, Draining("its listeners are sent away", retry_after=1), answer)
    if answer.failure is not None:
        return _refusal(http, answer.failure, answer)
    return _json({"output": answer.text}, limits.headers(answer.counts) | headers)


def streams(http: web.Request) -> bool:
    """So it says: `text/plain` where it reads lines, nothing where it waits for one document."""
    return "text/plain" in http.headers.get("Accept", "")


def refusal(http: web.Request, error: ProxyError, request_id: str) -> web.Response:
    """A sentence where the widget shows one: it hides the bodies of refused streams, and ignores statuses elsewhere."""
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if streams(http):
        line: Fields = {"type": "error", "content": error.public, "code": error.code, "request_id": request_id}
        body = orjson.dumps(line) + b"\n"
        headers["Cache-Control"] = NO_STORE
        return web.Response(body=body, headers=headers, content_type="application/x-ndjson")
    return _json({"message": error.public, "code": error.code, "request_id": request_id}, headers, error.status)


def _refusal(http: web.Request, error: ProxyError, answer: Transcript) -> web.Response:
    response = refusal(http, error, answer.request_id)
    response.headers.update(limits.headers(answer.counts))
    return response


def _said(fields: Fields) -> Said:
    """Raises BadRequest."""
    action, visitor = fields.get("action", "sendMessage"), fields.get("sessionId")
    text, metadata = fields.get("chatInput", ""), fields.get("metadata")
    if not isinstance(action, str) or action not in ACTIONS:
        raise BadRequest("action", public='The field "action" must be sendMessage or loadPreviousSession.')
    if not isinstance(visitor, str) or not 0 < len(visitor) <= MAX_ID_CHARS:
        raise BadRequest("sessionId", public=f'The field "sessionId" takes 1 to {MAX_ID_CHARS} characters.')
    if not isinstance(text, str):
        raise BadRequest("chatInput is no string", public='The field "chatInput" must be a string.')
    if metadata is not None and not isinstance(metadata, dict):
        raise BadRequest("metadata is no object", public='The field "metadata" must be an object.')
    if fields.get("files"):
        raise BadRequest("files are not accepted", public="Files come as multipart/form-data, not in JSON.")
    return Said(action, visitor, Message(text, metadata or {}))


def _json(fields: Fields, headers: Mapping[str, str], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store", **headers}
    return web.Response(body=orjson.dumps(fields), status=status, content_type="application/json", headers=headers)


def _site(client: Client) -> Site:
    if client.site is None:
        raise BadRequest("the site is not clear")
    return client.site
