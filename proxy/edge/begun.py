"""How an execution that waits is handed to the browser that began it, and how that one is known when it comes back.

n8n's widget sends no header with what it opens then, and pages of other origins no cookie: what it has is the token it
was given, or a link that it got later, and what tells browsers apart at `/chat/{site}`. That face's cookie isn't sent
to the root, so that pages of our own origin get one for what is opened there.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from proxy.edge.read import Reader
from proxy.guard.origin import own_origin
from proxy.guard.session import Sessions
from proxy.model import Client, Execution, Request
from proxy.streams.event import Fields
from proxy.streams.executions import Begun, Executions, digest_of

COOKIE = "sidegate_asked"
PATHS = ("/chat", "/webhook-waiting")
SECRET = re.compile(r"[A-Za-z0-9_-]{32}")


class Beginnings:
    def __init__(self, executions: Executions, sessions: Sessions, reader: Reader) -> None:
        self._executions = executions
        self._sessions = sessions
        self._reader = reader

    def hand_out(
        self, http: web.Request, request: Request, visitor: str, execution: Execution
    ) -> tuple[Fields, list[str]]:
        """What n8n answers then, with a name and a token of ours: n8n's numbers tell how busy it is. And cookies."""
        client = request.client
        session = replace(request.session, ends=min(request.session.ends, client.identity.ends))
        browser, cookies = self._sessions.browser(client), []
        if client.fetch_site == "same-origin":
            kept = http.cookies.get(COOKIE, "")
            secret = kept if SECRET.fullmatch(kept) else secrets.token_urlsafe(24)
            secure = "; Secure" if client.scheme == "https" else ""
            cookies = [f"{COOKIE}={secret}; Path={path}; HttpOnly; SameSite=Strict{secure}" for path in PATHS]
            browser = _by(secret)
        begun = Begun(session, browser, digest_of(visitor), own_origin(client) or "", execution)
        token = self._executions.token(begun)
        return {"executionStarted": True, "executionId": digest_of(token), "resumeToken": token}, cookies

    def named(self, query: Mapping[str, str]) -> Begun | None:
        """What the widget says of itself when it comes back: all three belong together."""
        token = query.get("token", "")
        begun = self._executions.begun(token)
        if begun is None or query.get("executionId") != digest_of(token):
            return None
        return begun if digest_of(query.get("sessionId", "")) == begun.visitor else None

    def client(self, http: web.Request, route: str, begun: Begun | None) -> Client:
        """With the session that began the execution, where this is the browser that did. No other credential counts."""
        client = self._reader.client(http, route)
        client = replace(client, site_name=None, credential=None, embed_key=None, conversation="", has_url_token=False)
        if begun is None or begun.browser not in (self._sessions.browser(client), _by(http.cookies.get(COOKIE, ""))):
            return client
        return replace(client, site_name=begun.session.site, session=begun.session)


def _by(secret: str) -> str:
    """What stands in a token for the browser that has this cookie."""
    return f"cookie {digest_of(secret)}"
