"""What a request to an upstream carries beside its body: who asks, and what may be told of the visitor."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from proxy.config import Secret, Section
from proxy.model import Request

_MAX_HEADER_CHARS = 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_OWN_HEADERS = frozenset(
    (
        *("accept", "accept-encoding", "content-encoding", "content-length", "content-type", "user-agent"),
        *("connection", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"),
        *("traceparent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"),
    )
)


class HeaderAuth(Section):
    """A header of the upstream's own, beside the token (instead of it, where it is Authorization)."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["header"]
    name: str = Field(max_length=100)
    value: Secret

    @model_validator(mode="after")
    def _sendable(self) -> HeaderAuth:
        if not _TOKEN.fullmatch(self.name) or self.name.lower() in _OWN_HEADERS:
            raise ValueError("name has to be a header's name, and not one that Sidegate sets itself")
        refuse_unprintable(self.value)
        return self


class BasicAuth(Section):
    """HTTP Basic (RFC 7617) in place of the token."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["basic"]
    user: str = Field(max_length=200)
    password: Secret

    @model_validator(mode="after")
    def _sendable(self) -> BasicAuth:
        if ":" in self.user:
            raise ValueError("user can't hold a colon (RFC 7617 section 2)")
        return self


Auth = Literal["jwt", "none"] | Annotated[HeaderAuth | BasicAuth, Field(discriminator="kind")]


def refuse_unprintable(secret: Secret) -> Secret:
    """Return the secret, if a header can carry it; raise ValueError, without it, if not."""
    value = secret.reveal()
    if not value or _NOT_PRINTABLE.search(value):
        raise ValueError("the secret is empty, or holds a line end or another character that no header can carry")
    return secret


def authorization(auth: Auth, token: str) -> dict[str, str]:
    """The headers that prove who asks."""
    if auth == "none":
        return {}
    if auth == "jwt":
        return {"Authorization": f"Bearer {token}"}
    if auth.kind == "header":
        return {"Authorization": f"Bearer {token}"} | {_canonical(auth.name): auth.value.reveal()}
    pair = f"{auth.user}:{auth.password.reveal()}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def _canonical(name: str) -> str:
    return "Authorization" if name.lower() == "authorization" else name


def request_headers(request: Request) -> dict[str, str]:
    """What every message carries, of our own."""
    return {"Content-Type": "application/json", **trace_headers(request.id, request.client.traceparent)}


def trace_headers(request_id: str, traceparent: str | None) -> dict[str, str]:
    """What every request carries, of our own."""
    return {
        "Accept-Encoding": "identity",
        "X-Request-Id": _printable(request_id),
        "traceparent": _traceparent(request_id, traceparent),
    }


def visitor_headers(request: Request) -> dict[str, str]:
    """What an upstream may know of the visitor: these, overwritten, and no other header of theirs.

    n8n drops calls of what looks like a bot, an HTTP library's default among them, so the browser's name goes along; a
    visitor without one has none upstream either, which n8n takes.
    """
    client = request.client
    headers = {
        "User-Agent": _printable(client.user_agent),
        "X-Forwarded-For": client.ip,
        "X-Forwarded-Proto": client.scheme,
        "X-Forwarded-Host": _printable(client.host),
    }
    return {name: value for name, value in headers.items() if value}


def _printable(text: str) -> str:
    return _NOT_PRINTABLE.sub("", text)[:_MAX_HEADER_CHARS].strip()


def _traceparent(request_id: str, given: str | None) -> str:
    """The client's trace (W3C Trace Context), or a new one, to be found again by the request id."""
    if given and _TRACEPARENT.fullmatch(given):
        return given
    digest = hashlib.sha256(request_id.encode("utf-8", "replace")).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"
