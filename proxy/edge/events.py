"""How an answer's events are written by each transport. One call gives whole events, to be sent by one write."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from proxy.streams.event import Event, Fields
from proxy.wire import sse


def as_sse(answer_id: str, events: Sequence[Event]) -> bytes:
    return b"".join(
        sse.event(event.name, orjson.dumps(event.fields), f"{answer_id}:{event.number}") for event in events
    )


def as_ndjson(answer_id: str, events: Sequence[Event]) -> bytes:
    return b"".join(
        orjson.dumps(
            {"type": event.name, "id": f"{answer_id}:{event.number}", **event.fields},
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for event in events
    )


def as_frame(answer_id: str, event: Event, more: Fields) -> str:
    """One WebSocket text frame. `more` names the client's message."""
    head = {"type": event.name, "id": f"{answer_id}:{event.number}", "answer_id": answer_id}
    return orjson.dumps({**head, **event.fields, **more}).decode()


def as_push(event: Event) -> str:
    """One WebSocket text frame for what was sent later; its id is among the fields."""
    return orjson.dumps({"type": event.name, **event.fields}).decode()


def number_after(last_event_id: str | None, answer_id: str) -> int:
    """The number in `<answer_id>:<n>`; -1, which is the beginning, for anything else."""
    name, _, number = (last_event_id or "").rpartition(":")
    return int(number) if name == answer_id and number.isascii() and number.isdigit() and len(number) < 20 else -1
