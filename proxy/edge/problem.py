"""A refusal over plain HTTP: problem details (RFC 9457)."""

from __future__ import annotations

import math

import orjson
from aiohttp import web

from proxy.errors import ChallengeRequired, ProxyError


def problem(error: ProxyError, request_id: str) -> web.Response:
    """`title` belongs to the code, `detail` to this occurrence. Seconds are rounded up: waiting that long helps."""
    fields: dict[str, object] = {
        "type": "about:blank",
        "title": error.message,
        "status": error.status,
        "code": error.code,
        "request_id": request_id,
        "detail": error.public,
    }
    headers = dict(error.headers)
    if error.retry_after is not None:
        fields["retry_after"] = wait = max(1, math.ceil(error.retry_after))
        headers["Retry-After"] = str(wait)
    if isinstance(error, ChallengeRequired) and error.challenge is not None:
        fields["challenge"] = error.challenge
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 section 15.5.2 wants a challenge with every 401
    return web.Response(
        body=orjson.dumps(fields), status=error.status, headers=headers, content_type="application/problem+json"
    )
