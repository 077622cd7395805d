"""Which answer an Idempotency-Key began, known to all replicas: one operation of the store decides who is first.

What it stops: a message that is sent again, through whichever replica, from running the workflow again. What it
doesn't: that where the store has lost its memory, or where it is down and the first one went through another replica.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from proxy.errors import Conflict
from proxy.model import Message, Request
from proxy.store import Store
from proxy.streams.seal import Box, Broken, Sealer


@dataclass(frozen=True, slots=True)
class Held:
    """What another message with this key, and with the same words, has claimed."""

    value: bytes
    answer_id: str


class Claim:
    """One message's. Its value names the answer that it would begin, and knows its words; the store learns neither."""

    def __init__(self, store: Store, box: Box, request: Request, ttl: float) -> None:
        self._store = store
        self._box = box
        self._ttl = ttl
        self._digest = _digest(request.message)
        self._mine = box.wrap(f"{request.answer_id} {self._digest}".encode())

    async def take(self, instead: bytes = b"") -> Held | None:
        """None where the key is ours now: it was nobody's, or `instead` was its value. Raises Conflict."""
        value = await self._store.claim(self._box.name, self._mine, self._ttl, instead)
        if value == self._mine:
            return None
        try:
            answer_id, _, digest = self._box.unwrap(value).decode().partition(" ")
        except Broken:
            return Held(value, "")  # nobody will find an answer of that name
        if digest != self._digest:
            raise Conflict(
                "idempotency key with another message", public="This Idempotency-Key came with another message."
            )
        return Held(value, answer_id)

    async def release(self) -> None:
        """Nothing has come of it: the key is free for the next message."""
        await self._store.release(self._box.name, self._mine)


class Claims:
    """`ttl` by site: how long a key is remembered, which is at least as long as the answer runs and is kept."""

    def __init__(self, store: Store, sealer: Sealer, ttl: Mapping[str, float]) -> None:
        self._store = store
        self._sealer = sealer
        self._ttl = ttl

    def of(self, request: Request, key: str) -> Claim:
        session = request.session
        box = self._sealer.box(session.site, session.id, session.owner, "idempotency key", key)
        return Claim(self._store, box, request, self._ttl[session.site])


def _digest(message: Message) -> str:
    said: list[object] = [message.text, message.context]
    said += [[file.name, file.media, file.sha256] for file in message.files]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()
