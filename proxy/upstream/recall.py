"""What a chat trigger remembers of a conversation: its answer to `loadPreviousSession`, as texts and who said them.

The texts are an upstream's, so they have to pass the filters like any answer. Whatever else is in it stays here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from proxy.errors import UpstreamError
from proxy.wire.text import loads

MAX_BYTES = 512 * 1024
MAX_TURNS = 100  # the latest ones


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


def turns(body: bytes) -> list[Turn]:
    """Those of LangChain's messages that a visitor or the assistant said. Raises UpstreamError."""
    try:
        document = loads(body)
    except ValueError as error:
        raise UpstreamError("a memory that is not JSON") from error
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise UpstreamError("a memory without data")
    return [turn for turn in map(_turn, data) if turn is not None][-MAX_TURNS:]


def _turn(item: object) -> Turn | None:
    match item:
        case {"id": [*_, "HumanMessage"], "kwargs": {"content": str(text)}} if text:
            return Turn("user", _whole(text))
        case {"id": [*_, "AIMessage" | "AIMessageChunk"], "kwargs": {"content": str(text)}} if text:
            return Turn("assistant", _whole(text))
    return None


def _whole(text: str) -> str:
    """Halves of characters can't be written as JSON again."""
    return text.encode("utf-8", "replace").decode()
