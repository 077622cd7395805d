"""Server-sent events, both ways (WHATWG HTML, section 9.2.6 "Interpreting an event stream").

Written with LF alone: clients are in use that don't take a lone CR for an end of line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.errors import UpstreamError
from proxy.wire.ndjson import LineSplitter

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


def event(name: str, data: bytes | str, id: str | None = None) -> bytes:  # noqa: A002 - the field's own name
    """One whole event. The name and the id hold no line end and no NUL; data may have any number of lines."""
    if isinstance(data, str):
        data = data.encode()
    head = f"event: {name}\ndata: " if id is None else f"id: {id}\nevent: {name}\ndata: "
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return head.encode() + data + b"\n\n"


def comment(text: str = "") -> bytes:
    """A line that clients skip: keeps a silent connection alive. The text holds no line end."""
    return f": {text}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was sent. Its data is UTF-8, still undecoded: what follows is mostly a JSON parser."""

    name: str
    data: bytes
    id: str


class EventParser:
    """Bytes, cut anywhere, to whole events. An event without a blank line after it is dropped, as the standard says.

    A line, or an event's data, over `max_bytes` raises UpstreamError, and so does every later call. Whole events that
    came before it are returned first: then the error is raised by the next call.
    """

    def __init__(self, max_bytes: int = 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._lines = LineSplitter(max_bytes)
        self._after_cr = False
        self._is_first_line = True
        self._name = ""
        self._id = ""
        self._data: list[bytes] = []
        self._size = 0
        self._is_over = False

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that are complete now."""
        events: list[Event] = []
        for line in self._lines.feed(self._with_lf(data)):
            if self._is_over:
                break
            if line:
                self._field(line)
            elif self._data:
                events.append(Event(self._name or "message", b"\n".join(self._data), self._id))
                self._clear()
            else:
                self._clear()
        if self._is_over and not events:
            raise UpstreamError(f"an event over {self._max_bytes} bytes")
        return events

    def _with_lf(self, data: bytes) -> bytes:
        """LF for every CR, LF and CRLF; a CRLF may be cut in two."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _field(self, line: bytes) -> None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BOM)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value) + 1
            self._is_over = self._size > self._max_bytes
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

    def _clear(self) -> None:
        self._is_first_line = False
        self._name = ""
        self._data.clear()
        self._size = 0
