"""What a webhook answers with, as text. The bytes tell what it is: n8n calls its stream of lines application/json too.

n8n's stream    one JSON object a line: begin, item, end, error, keepalive. It ends with the body; after `error`, n8n
                may never close. Several begin/end pairs are normal.
a document      `{`, `[` or `"` comes first: read to its end, then parsed as one JSON document, or as one object a line
text            anything else, as it comes

Pages are told by their bytes, too: n8n labels every plain text as HTML. What that stops: pages of n8n or a proxy about
their troubles. What it doesn't: a text with HTML in it, which is the filters' to judge.
"""

from __future__ import annotations

import re

from proxy.errors import UpstreamError
from proxy.wire.ndjson import LineSplitter
from proxy.wire.text import Halves, Utf8, answer_text, find_text, json_text, loads
from proxy.wire.waiting import waiting_execution

_LEADING = re.compile(rb"\A(?:\s|\xef\xbb\xbf)+")  # blanks, byte order marks
_MARK_BYTES = 3
# n8n says it, with status 200, to every request between opening its port and being there. In lower case.
STARTING = b"n8n is starting up."
# What no answer begins with, in lower case, and what it is then.
_NO_ANSWER = {STARTING: "n8n is still starting", b"<!doctype html": "a page", b"<html": "a page"}
_JSON = b'{["'
_KINDS = frozenset(("begin", "item", "end", "error", "keepalive"))
_MEANT_AS_JSON = re.compile(r'[\[{\s]*\{\s*"')


class WebhookAnswer:
    """A Decoder. Bounded: `max_bytes` are read of it, whatever they are. Where it `may_wait`, it may be that there is
    no answer, but `waiting`: the id and token of an execution that asks back.
    """

    def __init__(self, max_bytes: int, *, may_wait: bool = False) -> None:
        self.waiting: tuple[str, str] | None = None
        self._may_wait = may_wait
        self._left = max_bytes
        self._too_long = UpstreamError(f"an answer over {max_bytes} bytes")
        self._mode: _Stream | _Document | _Text | None = None
        self._parts: list[bytes] = []  # until the mode is known
        self._size = 0
        self._has_text = False

    @property
    def has_begun(self) -> bool:
        return self._mode.has_begun if self._mode else bool(self._parts)

    @property
    def is_over(self) -> bool:
        return self._left < 0 or (self._mode is not None and self._mode.error is not None)

    def feed(self, data: bytes) -> str:
        self._left -= len(data)
        text = self._mode.feed(data) if self._mode else self._begin(data)
        if text:
            self._has_text = True
        return text

    def finish(self) -> str:
        text = ""
        if self._left < 0 and (self._mode is None or self._mode.error is None):
            raise self._too_long
        if self._mode is None and self._parts:
            text = self._choose()
        if self._may_wait and isinstance(self._mode, _Document) and (waiting := self._mode.waiting()):
            self.waiting = waiting
            return ""
        if self._mode is not None:
            text += self._mode.finish()
        if not text and not self._has_text:
            raise UpstreamError("empty answer")
        return text

    def _begin(self, data: bytes) -> str:
        """Skip blanks and byte order marks; keep what doesn't tell yet what it is, which takes a whole first line."""
        if self._size < _MARK_BYTES:
            data = _LEADING.sub(b"", b"".join(self._parts) + data)
            self._parts.clear()
            self._size = 0
        if data:
            self._parts.append(data)
            self._size += len(data)
        if self._size < _MARK_BYTES:
            return ""
        if self._parts[0][:1] in _JSON and b"\n" not in data:
            return ""
        if any(self._size < len(start) and start.startswith(b"".join(self._parts).lower()) for start in _NO_ANSWER):
            return ""
        return self._choose()

    def _choose(self) -> str:
        data = b"".join(self._parts)
        self._parts.clear()
        for start, what in _NO_ANSWER.items():
            if data[: len(start)].lower() == start:
                raise UpstreamError(what)
        if data[:1] not in _JSON:
            self._mode = _Text()
        elif _is_event(data.partition(b"\n")[0]):
            self._mode = _Stream()
        else:
            self._mode = _Document()
        return self._mode.feed(data)


def _is_event(line: bytes) -> bool:
    try:
        value = loads(line)
    except ValueError:
        return False
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    return value["type"] in _KINDS or "metadata" in value


class _Stream:
    def __init__(self) -> None:
        self.has_begun = False
        self.error: UpstreamError | None = None
        self._runs = 0  # begun and not ended
        self._lines = LineSplitter()
        self._halves = Halves()

    def feed(self, data: bytes) -> str:
        contents: list[str] = []
        try:
            for line in self._lines.feed(data):
                self._line(line, contents)
        except UpstreamError as error:
            self.error = error
        if not contents:
            return ""
        self.has_begun = True
        return self._halves.feed("".join(contents))

    def finish(self) -> str:
        if self.error is None:
            text = self.feed(b"\n") + self._halves.flush()  # the last line may lack its end
        if self.error is not None:
            raise self.error
        if self._runs:
            raise UpstreamError("cut: the stream ended inside a run")
        return text

    def _line(self, line: bytes, contents: list[str]) -> None:
        if not line or line.isspace():
            return
        try:
            event = loads(line)
        except ValueError as error:
            raise UpstreamError("a line of the stream is not JSON") from error
        if not isinstance(event, dict):
            raise UpstreamError("a line of the stream is not an object")
        kind = event.get("type")
        if kind == "item":
            content = event.get("content")
            if content is not None:
                contents.append(content if isinstance(content, str) else json_text(content))
        elif kind == "keepalive":
            self.has_begun = True
        elif kind == "begin":
            self._runs += 1
        elif kind == "end":
            self._runs = max(0, self._runs - 1)
        elif kind == "error":
            raise UpstreamError("n8n reported an error in the workflow")


class _Document:
    has_begun = True
    error = None

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> str:
        self._parts.append(data)
        return ""

    def waiting(self) -> tuple[str, str] | None:
        """See waiting_execution."""
        try:
            return waiting_execution(loads(b"".join(self._parts)))
        except ValueError:
            return None

    def finish(self) -> str:
        return _document_text(b"".join(self._parts))


def _document_text(data: bytes) -> str:
    try:
        return answer_text(loads(data))
    except ValueError:
        pass  # not one document
    try:
        documents = [loads(line) for line in data.split(b"\n") if line.strip()]
    except ValueError:
        documents = []
    objects = [document for document in documents if isinstance(document, dict)]
    if objects and len(objects) == len(documents):
        texts = [find_text(value) for value in objects]
        return "".join(filter(None, texts)) if any(texts) else answer_text(objects)
    text = data.decode("utf-8", "replace")
    if _MEANT_AS_JSON.match(text):
        # Most likely cut, and shown as it is it would show what is around the text too.
        raise UpstreamError("a document that is not valid JSON")
    if any(map(_is_event, data.split(b"\n"))):
        raise UpstreamError("a stream with something in front of it")  # its error texts would show
    return text


class _Text:
    has_begun = True
    error = None

    def __init__(self) -> None:
        self._utf8 = Utf8()

    def feed(self, data: bytes) -> str:
        return self._utf8.feed(data)

    def finish(self) -> str:
        return self._utf8.flush()
