"""n8n's webhooks and chat triggers: its stream of JSON lines, a plain JSON answer, or just text.

Only `content` and known text fields are read: node names, run data and error texts of a workflow stay here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Literal

import aiohttp

from proxy.model import Request
from proxy.upstream.answer import WebhookAnswer
from proxy.upstream.headers import Auth, authorization, request_headers, visitor_headers
from proxy.upstream.http import HttpSettings, encode, exchange, pieces
from proxy.upstream.retries import RetryBudget


class N8nSettings(HttpSettings):
    kind: Literal["n8n"]
    auth: Auth = "jwt"


class N8n:
    """An Upstream. `owned` names the session as n8n shall know it: its memory is never keyed by the client's own id."""

    def __init__(self, settings: N8nSettings, pool: aiohttp.ClientSession, owned: Callable[[Request], str]) -> None:
        self._settings = settings
        self._pool = pool
        self._retries = RetryBudget()
        self._owned = owned

    def encode(self, request: Request) -> bytes:
        metadata: dict[str, object] = {"site": request.site.name, "requestId": request.id}
        if request.message.context:
            metadata["context"] = request.message.context
        return encode(
            {
                "action": "sendMessage",
                "sessionId": self._owned(request),
                "chatInput": request.message.text,
                "metadata": metadata,
            }
        )

    @asynccontextmanager
    async def open(self, request: Request, body: bytes, token: str) -> AsyncIterator[AsyncIterator[str]]:
        headers = request_headers(request) | visitor_headers(request) | authorization(self._settings.auth, token)
        headers["Accept"] = "application/json, text/plain;q=0.9, */*;q=0.8"
        answer = WebhookAnswer(self._settings.max_answer_bytes)
        async with (
            exchange(self._pool, self._settings, body, headers, self._retries) as reply,
            aclosing(pieces(reply, answer)) as texts,
        ):
            yield texts
