"""POST /v1/messages: one message, its answer as Accept asks for it. /v1/answers/{id}: join it, look at it, stop it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import orjson
from aiohttp import web

from proxy.edge.events import number_after
from proxy.edge.headers import delivery
from proxy.edge.live import Live
from proxy.edge.problem import problem
from proxy.edge.read import Reader, json_object, message
from proxy.edge.sse import HttpStream, NdjsonStream, Pings, SseStream
from proxy.edge.uploads import MULTIPART, Uploads
from proxy.errors import BadRequest, Draining, ProxyError
from proxy.flow import Flow
from proxy.guard import limits
from proxy.guard.connections import Connections
from proxy.model import Client, Message, Request, Session
from proxy.streams import StreamSettings
from proxy.streams.answer import Answer, Transcript
from proxy.streams.answers import Answers
from proxy.streams.event import Fields

EVENT_STREAM, JSON, NDJSON = "text/event-stream", "application/json", "application/x-ndjson"
MAX_KEY_CHARS = 255
COMMIT_AFTER = 5.0  # seconds until the headers go out even though the upstream hasn't opened yet


class ChatEdge:
    def __init__(
        self,
        flow: Flow,
        reader: Reader,
        answers: Answers,
        streams: StreamSettings,
        live: Live,
        connections: Connections,
        uploads: Uploads,
    ) -> None:
        self._flow = flow
        self._reader = reader
        self._answers = answers
        self._pings = Pings(streams.heartbeat)
        self._live = live
        self._connections = connections
        self._uploads = uploads

    async def ask(self, http: web.Request) -> web.StreamResponse:
        if http.content_type == MULTIPART:
            answer, client = await self._ask_with_files(http)
        else:
            client = await self._flow.admit(self._reader.client(http, "messages"))
            key = idempotency_key(http.headers.get("Idempotency-Key"))
            request = new_request(client, message(await self._reader.json(http)), client.request_id, key)
            answer = await self._answers.ask(request, self._flow.answer)
        with answer.listening():
            if prefers_async(http.headers.getall("Prefer", ())):
                return await _accepted(answer)
            form = wanted(http.headers.getall("Accept", ()))
            if form == JSON:
                return await _collected(answer, delivery(client))
            return await self._relay(http, answer, form, after=-1, headers=delivery(client))

    async def _ask_with_files(self, http: web.Request) -> tuple[Transcript, Client]:
        client = await self._flow.admit(self._reader.client(http, "upload"))
        key = idempotency_key(http.headers.get("Idempotency-Key"))
        async with self._uploads.reading(http, client) as form:
            context = json_object(form.fields["context"]) if "context" in form.fields else {}
            said = message({"message": form.fields.get("message"), "context": context})
            request = new_request(client, replace(said, files=form.files), client.request_id, key)
            answer = await self._answers.ask(request, self._flow.answer)
            if answer.id == request.answer_id:  # else it was begun before, with files of its own
                form.hand_on()
            return answer, client

    async def join(self, http: web.Request) -> web.StreamResponse:
        client = await self._flow.admit(self._reader.client(http, "answers"))
        answer = await self._answers.find(session_of(client), http.match_info["id"])
        form = wanted(http.headers.getall("Accept", ()))
        if form == JSON:
            return _state(answer)
        after = number_after(http.headers.get("Last-Event-ID", http.query.get("after")), answer.id)
        if answer.is_over and after >= len(answer.events) - 1:
            if answer.failure is not None:  # who saw more than was journaled has not seen how it ended
                return _refusal(answer.failure, answer)
            return web.Response(status=204)  # either tells an EventSource not to come back
        async with self._connections.one(client):
            with answer.listening():
                return await self._relay(http, answer, form, after, delivery(client))

    async def stop(self, http: web.Request) -> web.Response:
        client = await self._flow.admit(self._reader.client(http, "stop"))
        await self._answers.stop(await self._answers.find(session_of(client), http.match_info["id"]))
        return web.Response(status=204)

    async def _relay(
        self, http: web.Request, answer: Transcript, form: str, after: int, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        kind: type[HttpStream] = SseStream if form == EVENT_STREAM else NdjsonStream
        stream = kind(http, answer, self._pings)
        with self._live.streaming(http):
            await answer.opened(COMMIT_AFTER)
            if answer.early is not None:
                return _refusal(answer.early, answer)
            stream.response.headers.update(headers)
            await stream.begin()
            await stream.relay(after)
        return stream.response


async def _collected(answer: Transcript, headers: dict[str, str]) -> web.Response:
    """The whole answer as one JSON object. The filters bound its length."""
    async for _ in answer.follow():
        pass
    if not answer.is_over:
        return _refusal(Draining("its listeners are sent away", retry_after=1, headers=place(answer)), answer)
    if answer.failure is not None:
        return _refusal(answer.failure, answer)
    fields: Fields = {"answer_id": answer.id, "text": answer.text}
    return _json(fields, limits.headers(answer.counts) | headers)


async def _accepted(answer: Transcript) -> web.Response:
    """RFC 7240 section 4.1: it is under way; ask at Location."""
    if isinstance(answer, Answer):  # another replica's was admitted there
        answer.detach()
        await answer.admitted()
    if answer.early is not None:
        return _refusal(answer.early, answer)
    headers = place(answer) | {"Preference-Applied": "respond-async"}
    fields: Fields = {"answer_id": answer.id, "status": "running"}
    return _json(fields, limits.headers(answer.counts) | headers, status=202)


def _state(answer: Transcript) -> web.Response:
    status = "running" if not answer.is_over else "done" if answer.failure is None else "failed"
    fields: Fields = {"answer_id": answer.id, "status": status, "text": answer.text}
    if answer.failure is not None:
        fields["error"] = answer.events[-1].fields
    return _json(fields, {})


def place(answer: Transcript) -> dict[str, str]:
    """Where it is had from now on."""
    return {"Location": f"/v1/answers/{answer.id}"}


def _refusal(error: ProxyError, answer: Transcript) -> web.Response:
    response = problem(error, answer.request_id)
    response.headers.update(limits.headers(answer.counts))
    return response


def _json(fields: Fields, headers: dict[str, str], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store", **headers}
    return web.Response(body=orjson.dumps(fields), status=status, content_type=JSON, headers=headers)


def prefers_async(prefer: tuple[str, ...] | list[str]) -> bool:
    return "respond-async" in {part.partition(";")[0].strip().lower() for part in ",".join(prefer).split(",")}


def new_request(client: Client, message: Message, request_id: str, key: str | None = None) -> Request:
    """A message of an admitted client, as the flow takes it."""
    if client.site is None:
        raise ProxyError("an admitted client has a site")
    answer_id = secrets.token_urlsafe(18)
    judged = replace(client, credential=None)  # it would be kept as long as the answer
    return Request(request_id, answer_id, judged, client.site, session_of(client), message, key)


def idempotency_key(value: str | None) -> str | None:
    """draft-ietf-httpapi-idempotency-key-header, with or without its quotes."""
    if value is not None and not 0 < len(value) <= MAX_KEY_CHARS:
        raise BadRequest("Idempotency-Key", public=f"Idempotency-Key takes 1 to {MAX_KEY_CHARS} characters.")
    return value


def session_of(client: Client) -> Session:
    if client.session is None:
        raise ProxyError("an admitted client has a session")
    return client.session


def wanted(accept: tuple[str, ...] | list[str]) -> str:
    """Which of our three forms an Accept header prefers (RFC 9110 section 12.5.1); events where it doesn't say."""
    ranges: list[tuple[float, str]] = []
    for part in ",".join(accept).split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        with suppress(ValueError):
            ranges.append((float(weight), media))
    for quality, media in sorted(ranges, key=lambda pair: -pair[0]):
        if quality > 0 and media in (EVENT_STREAM, JSON, NDJSON):
            return media
        if quality > 0 and media in ("*/*", "text/*"):
            return EVENT_STREAM
        if quality > 0 and media == "application/*":
            return JSON
    return EVENT_STREAM
