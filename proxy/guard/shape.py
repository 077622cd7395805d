"""Is it a message at all: its fields, types and size. What it says is not judged here."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.errors import BadRequest, EmptyMessage, TooLarge
from proxy.guard.content import ContentSettings
from proxy.model import Mode, Request

MAX_CONTEXT_KEYS = 32
MAX_CONTEXT_CHARS = 4096
MAX_DEPTH = 6
MAX_HISTORY_CHARS = 65_536  # of a context that is a conversation, with the names in it; its edge bounds the text


class Shape:
    """`max_chars` counts Unicode code points of the message, as the client sent it."""

    name = "shape"

    def __init__(self, content: Mapping[str, ContentSettings], mode: Mode) -> None:
        self.mode = mode
        self._content = {site: settings for site, settings in content.items() if settings.mode == mode}

    async def check(self, request: Request) -> Request:
        settings = self._content.get(request.site.name)
        if settings is None:
            return request
        text = request.message.text
        if len(text) > settings.max_chars:
            raise TooLarge(
                f"{len(text)} characters, {settings.max_chars} are allowed",
                public=f"That message is too long. Please keep it under {settings.max_chars} characters.",
            )
        if not text.strip():
            raise EmptyMessage("an empty message")
        most = MAX_HISTORY_CHARS if request.client.route == "completions" else MAX_CONTEXT_CHARS
        bounded(request.message.context, "context", most)
        return request


def bounded(fields: Mapping[str, object], what: str, most: int = MAX_CONTEXT_CHARS) -> None:
    """Refuse what is deeper, longer or larger than a page's facts about a chat would be."""
    left = most
    values: list[tuple[object, int]] = [(fields, 0)]
    while values:
        value, depth = values.pop()
        if depth > MAX_DEPTH:
            raise BadRequest(f"{what} is nested deeper than {MAX_DEPTH}")
        match value:
            case dict():
                if len(value) > MAX_CONTEXT_KEYS:
                    raise BadRequest(f"{what} has an object of more than {MAX_CONTEXT_KEYS} keys")
                values.extend((item, depth + 1) for pair in value.items() for item in pair)
                left -= len(value)
            case list():
                values.extend((item, depth + 1) for item in value)
                left -= len(value)
            case str():
                left -= len(value)
            case _:
                left -= 8
        if left < 0:
            raise BadRequest(f"{what} is larger than {most} characters")
