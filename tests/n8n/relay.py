"""Sidegate's request to n8n, made by hand: to see what the workflow does with good and bad ones."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import aiohttp
import jwt

from tests.n8n.workflows import SECRET

SESSION = "b3duZWQtc2Vzc2lvbi1pZA"


def body(text: str = "Hello", session: str = SESSION) -> bytes:
    content = {"action": "sendMessage", "sessionId": session, "chatInput": text, "metadata": {}}
    return json.dumps(content, ensure_ascii=False).encode()


def token(signed: bytes, claims: dict[str, object] | None = None, key: str = SECRET) -> str:
    """The token for this body; a claim changed to None is left out."""
    now = int(time.time())
    made: dict[str, object] = {
        "iss": "sidegate",
        "aud": "n8n",
        "sub": SESSION,
        "iat": now,
        "exp": now + 60,
        "jti": "one-of-many",
        "site": "default",
        "route": "messages",
        "body_sha256": hashlib.sha256(signed).hexdigest(),
        "verdict": {"score": 0, "flags": [], "masked": {}, "remaining": 29},
    } | (claims or {})
    return jwt.encode({name: claim for name, claim in made.items() if claim is not None}, key, "HS256")


async def post(url: str, sent: bytes, bearer: str | None) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json", "User-Agent": "Mozilla/5.0", "Accept-Encoding": "identity"}
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.post(url, data=sent, headers=headers) as answer:
        return answer.status, await answer.read()


# Any: n8n's stream items, read only by tests.
def items(answer: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.splitlines() if line.strip()]


def text(answer: bytes) -> str:
    return "".join(item["content"] for item in items(answer) if item["type"] == "item")


def errors(answer: bytes) -> list[str]:
    return [item["content"] for item in items(answer) if item["type"] == "error"]
