"""n8n's webhooks and chat triggers: its stream of JSON lines, a plain JSON answer, or just text.

Only `content` and known text fields are read: node names, run data and error texts of a workflow stay here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Literal

import aiohttp

from proxy.errors import UpstreamError
from proxy.model import Body, Execution, LargeBody, Request
from proxy.upstream.answer import WebhookAnswer
from proxy.upstream.body import encode, form
from proxy.upstream.headers import Auth, authorization, request_headers, visitor_headers
from proxy.upstream.http import HttpSettings, exchange, pieces
from proxy.upstream.recall import MAX_BYTES, Turn, turns
from proxy.upstream.retries import RetryBudget
from proxy.upstream.waiting import Waiting


class N8nSettings(HttpSettings):
    kind: Literal["n8n"]
    auth: Auth = "jwt"
    history: bool = False  # it is a chat trigger with a memory, which a widget may read again


class N8n:
    """An Upstream. `owned` names the session as n8n shall know it: its memory is never keyed by the client's own id."""

    def __init__(
        self,
        settings: N8nSettings,
        pool: aiohttp.ClientSession,
        owned: Callable[[Request], str],
        waiting: Waiting | None = None,
    ) -> None:
        self.waiting = waiting
        self._settings = settings
        self._pool = pool
        self._retries = RetryBudget()
        self._owned = owned

    @property
    def remembers(self) -> bool:
        return self._settings.history

    def encode(self, request: Request) -> Body:
        """JSON; with files a form, as n8n's own chat sends it."""
        metadata: dict[str, object] = {"site": request.site.name, "requestId": request.id}
        if request.client.route == "widget":  # its workflow looks for them where the widget itself would put them
            metadata = request.message.context | metadata
        elif request.message.context:
            metadata["context"] = request.message.context
        fields: dict[str, object] = {
            "action": "sendMessage",
            "sessionId": self._owned(request),
            "chatInput": request.message.text,
            "metadata": metadata,
        }
        return form(fields, request.message.files) if request.message.files else encode(fields)

    @asynccontextmanager
    async def open(self, request: Request, body: Body, token: str) -> AsyncIterator[AsyncIterator[str]]:
        headers = request_headers(request) | visitor_headers(request) | authorization(self._settings.auth, token)
        if isinstance(body, LargeBody):
            headers |= {"Content-Type": body.media, "Content-Length": str(body.length)}
        headers["Accept"] = "application/json, text/plain;q=0.9, */*;q=0.8"
        may_wait = self.waiting is not None and request.client.route == "widget"  # only it can go on with one
        answer = WebhookAnswer(self._settings.max_answer_bytes, may_wait=may_wait)
        async with (
            exchange(self._pool, self._settings, body, headers, self._retries) as reply,
            aclosing(pieces(reply, answer)) as texts,
        ):
            yield texts
            if answer.waiting is not None:
                request.bill.waiting = Execution(request.upstream, *answer.waiting)

    async def recall(self, request: Request, sign: Callable[[Request, bytes], str]) -> list[Turn]:
        """What its chat trigger remembers of the session. No workflow runs. Raises UpstreamError."""
        body = encode({"action": "loadPreviousSession", "sessionId": self._owned(request)})
        token = sign(request, body)
        headers = request_headers(request) | visitor_headers(request) | authorization(self._settings.auth, token)
        data = bytearray()
        async with exchange(self._pool, self._settings, body, headers, self._retries) as reply:
            while part := await reply.read(has_begun=True):
                data += part
                if len(data) > MAX_BYTES:
                    raise UpstreamError(f"a memory over {MAX_BYTES} bytes")
        return turns(bytes(data))
