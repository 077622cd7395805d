"""What upstreams send, as text: UTF-8 in any cut, JSON with its odd corners, and the text of a plain JSON answer.

No text from here holds a surrogate: encoding it later can't fail.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import NoReturn

import orjson

from proxy.errors import UpstreamError

REPLACEMENT = "\ufffd"
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_TEXT_KEYS = ("output", "text", "message", "response", "answer", "content", "reply", "result")
_WRAPPER_KEYS = ("data", "json")
_TOKEN_KEYS = ("executionStarted", "resumeToken")
_ERROR_KEYS = ("error", "errorMessage")
_WAITING = "the answer hands out the token of a waiting execution"
_ERROR = "the answer is the report of an error"
_PRETTY_BYTES = 16 * 1024  # indenting multiplies what is deeply nested


class Utf8:
    """Bytes, cut anywhere, to text; what isn't UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class Halves:
    """Joins surrogates that belong together, even when they come in two texts; the others become U+FFFD.

    JavaScript cuts strings between the two and escapes each half by itself.
    """

    def __init__(self) -> None:
        self._half = ""

    def feed(self, text: str) -> str:
        if self._half:
            text, self._half = self._half + text, ""
        elif text.isascii():
            return text
        if not _SURROGATE.search(text):
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def flush(self) -> str:
        half, self._half = self._half, ""
        return REPLACEMENT if half else ""


def loads(data: bytes) -> object:
    """A JSON document; strings in it may hold surrogates. Raises ValueError."""
    try:
        return orjson.loads(data)
    except ValueError:
        # orjson refuses escapes of single surrogates, which JSON allows (RFC 8259 section 8.2) and JavaScript writes.
        if not _ESCAPED_SURROGATE.search(data):
            raise
    try:
        return json.loads(data.decode(), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def json_text(value: object, *, indent: bool = False) -> str:
    """The value as JSON to be read by people. `indent` holds for small values only."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        if indent and len(text) <= _PRETTY_BYTES:
            text = json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError as error:
        raise UpstreamError("the answer is nested too deeply") from error
    return _whole(text)


def _whole(text: str) -> str:
    halves = Halves()
    return halves.feed(text) + halves.flush()


def answer_text(document: object) -> str:
    """The text of a plain JSON answer; what has none is shown as JSON, as n8n's own widget does. Nothing gives "".

    Raises UpstreamError for a report of an error, and for what would show a visitor the token of a waiting execution.
    """
    if isinstance(document, list):
        return "\n".join(filter(None, map(_item_text, document)))
    return _item_text(document)


def _item_text(item: object) -> str:
    if item is None or item == {}:
        return ""
    if isinstance(item, str):
        return _whole(item)
    text = find_text(item) if isinstance(item, dict) else None
    if text is None:
        text = json_text(item, indent=True)
        if any(f'"{key}"' in text for key in _TOKEN_KEYS):
            raise UpstreamError(_WAITING)
    return text


def find_text(item: dict[str, object]) -> str | None:
    """The text under the first key that is known to hold one, or "" if such keys are there but empty, or None.

    One level of objects and lists under these keys is searched as well. Raises as answer_text does.
    """
    text = _find(item, deeper=True)
    return None if text is None else _whole(text)


def _find(item: dict[str, object], *, deeper: bool) -> str | None:
    if any(key in item for key in _TOKEN_KEYS):
        raise UpstreamError(_WAITING)
    if item.get("type") == "error":
        raise UpstreamError(_ERROR)
    is_error = any(item.get(key) for key in _ERROR_KEYS)
    is_empty = False
    for key in _TEXT_KEYS:
        if key not in item or (is_error and key == "message"):  # a message beside an error is the error's
            continue
        value = item[key]
        text = value if isinstance(value, str) else _find_below(value) if deeper else None
        if text:
            return text
        is_empty = is_empty or value is None or text == ""
    for key in _WRAPPER_KEYS:
        if deeper and (text := _find_below(item.get(key))):
            return text
    if is_error:
        raise UpstreamError(_ERROR)
    return "" if is_empty else None


def _find_below(value: object) -> str | None:
    if isinstance(value, dict):
        return _find(value, deeper=False)
    if isinstance(value, list):
        texts = (part if isinstance(part, str) else _find_below(part) for part in value if isinstance(part, str | dict))
        return "\n".join(filter(None, texts)) or None
    return None


def strings(value: object) -> Iterator[str]:
    """Every text in decoded JSON, names of fields among them, in no particular order; however deep it is nested."""
    todo = [value]
    while todo:
        match todo.pop():
            case str() as text:
                yield text
            case dict() as fields:
                todo.extend(item for pair in fields.items() for item in pair)
            case list() as items:
                todo.extend(items)
