"""POST /v1/chat/completions and GET /v1/models: a site as OpenAI's clients know their service.

Each request goes the way of every message; only how it is read and written is another. A client that names no
conversation has a new one each time, as with OpenAI: what was said before is what it sends along.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace

import orjson
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from proxy.edge.chat import COMMIT_AFTER, idempotency_key, new_request, place, session_of
from proxy.edge.completions import (
    Asked,
    Completion,
    CompletionSettings,
    asked,
    chunks,
    error_fields,
    finish_of,
    may_try_again,
)
from proxy.edge.headers import delivery
from proxy.edge.live import Live
from proxy.edge.read import Reader
from proxy.edge.sse import PING, HttpStream, Pings, event_source, put
from proxy.errors import BadRequest, Draining, NotFound, OutputBlocked, ProxyError
from proxy.flow import Flow
from proxy.guard import limits
from proxy.guard.session import Sessions
from proxy.model import Client, Site
from proxy.streams.answer import Transcript
from proxy.streams.answers import Answers


class OpenAiEdge:
    """`settings` by site; `clock` gives Unix time."""

    def __init__(
        self,
        flow: Flow,
        reader: Reader,
        answers: Answers,
        sessions: Sessions,
        settings: Mapping[str, CompletionSettings],
        pings: Pings,
        live: Live,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._flow = flow
        self._reader = reader
        self._answers = answers
        self._sessions = sessions
        self._settings = settings
        self._pings = pings
        self._live = live
        self._clock = clock

    async def complete(self, http: web.Request) -> web.StreamResponse:
        client = await self._flow.admit(self._reader.client(http, "completions"))
        site = _site(client)
        wanted = asked(await self._reader.json(http), self._settings[site.name])
        if wanted.model not in (site.name, *site.weights):
            raise NotFound("no such model", public=f"There is no such model. This service has: {site.name}.")
        key = idempotency_key(http.headers.get("Idempotency-Key"))
        client = self._conversing(client, site, wanted.user, key)
        request = new_request(client, wanted.message, client.request_id, key)
        answer = await self._answers.ask(request, self._flow.answer)
        completion = Completion(answer.id, site.name, int(self._clock()), wanted.message.text)
        with answer.listening():
            if not wanted.is_stream:
                return await _collected(http, answer, completion, delivery(client))
            return await self._stream(http, answer, completion, wanted, delivery(client))

    async def models(self, http: web.Request) -> web.Response:
        site = _site(await self._flow.admit(self._reader.client(http, "models")))
        return _json(orjson.dumps({"object": "list", "data": [_model(site)]}), {})

    async def model(self, http: web.Request) -> web.Response:
        site = _site(await self._flow.admit(self._reader.client(http, "models")))
        if http.match_info["id"] != site.name:
            raise NotFound("no such model", public=f"There is no such model. This service has: {site.name}.")
        return _json(orjson.dumps(_model(site)), {})

    def _conversing(self, client: Client, site: Site, user: str, key: str | None) -> Client:
        """Who speaks for many has a conversation for each: as it is named, or a new one each time, so that nobody
        gets what somebody else told the workflow's memory. Who came with a session has that.
        """
        if not client.identity.owner or client.conversation:
            return client
        name = f"user {user}" if user else f"key {key}" if key else secrets.token_urlsafe(24)
        conversation = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        return replace(client, session=self._sessions.derive(replace(client, conversation=conversation), site))

    async def _stream(
        self, http: web.Request, answer: Transcript, completion: Completion, wanted: Asked, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        stream = CompletionStream(http, answer, self._pings, completion, with_usage=wanted.wants_usage)
        with self._live.streaming(http):
            await answer.opened(COMMIT_AFTER)
            if answer.early is not None:
                return _refusal(http, answer.early, answer)
            stream.response.headers.update(headers)
            await stream.begin()
            await stream.relay(-1)
        return stream.response


class CompletionStream(HttpStream):
    """Server-sent events without names, ended by `[DONE]`; by an `error` where the answer failed."""

    def __init__(
        self, http: web.Request, answer: Transcript, pings: Pings, completion: Completion, *, with_usage: bool
    ) -> None:
        super().__init__(http, answer, pings)
        self._completion = completion
        self._with_usage = with_usage

    def _response(self) -> EventSourceResponse:
        return event_source()

    async def relay(self, after: int) -> None:
        with self._pings.to(self._http, self.response, PING):
            async with aclosing(self._answer.follow(after)) as batches:
                async for events in batches:
                    text = self._answer.text if self._with_usage and self._answer.is_over else ""
                    data = chunks(self._completion, events, with_usage=self._with_usage, text=text)
                    await put(self.response, data)


async def _collected(
    http: web.Request, answer: Transcript, completion: Completion, headers: dict[str, str]
) -> web.Response:
    """The whole answer as one document. Where a filter withheld the rest, what may be read and the reason."""
    async for _ in answer.follow():
        pass
    if not answer.is_over:
        return _refusal(http, Draining("its listeners are sent away", retry_after=1, headers=place(answer)), answer)
    is_withheld = isinstance(answer.failure, OutputBlocked)
    if answer.failure is not None and not is_withheld:
        return _refusal(http, answer.failure, answer)
    last = answer.events[-1]
    body = completion.document(answer.text, finish_of(last), last.fields.get("usage"))
    return _json(body, limits.headers(answer.counts) | headers)


def refusal(http: web.Request, error: ProxyError, request_id: str) -> web.Response:
    """An error as OpenAI's clients read it. `x-should-retry` is theirs."""
    headers = {"Cache-Control": "no-store", **error.headers}
    fields = error_fields(error.code, error.public, error.status) | {"request_id": request_id}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    headers["X-Should-Retry"] = "true" if may_try_again(error) else "false"
    return _json(orjson.dumps({"error": fields}), headers, error.status)


def _refusal(http: web.Request, error: ProxyError, answer: Transcript) -> web.Response:
    response = refusal(http, error, answer.request_id)
    response.headers.update(limits.headers(answer.counts))
    return response


def _model(site: Site) -> dict[str, object]:
    return {"id": site.name, "object": "model", "created": 0, "owned_by": "sidegate"}


def _json(body: bytes, headers: Mapping[str, str], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store", **headers}
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _site(client: Client) -> Site:
    session_of(client)
    if client.site is None:
        raise BadRequest("the site is not clear")
    return client.site
