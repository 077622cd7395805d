"""The shape of a webhook's body: what its Content-Type says, not too deep, and nothing that poses as an upload.

What it stops: bodies that n8n would read as another type than they are, and JSON or forms that name files on n8n's own
disk as if they had been uploaded (the class of CVE-2026-21858: `files`, `filepath`). What it doesn't: whatever else the
workflow does with fields of the sender's choosing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from urllib.parse import parse_qsl

import orjson

from proxy.errors import BadRequest, UnsupportedMedia
from proxy.wire.text import strings

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MAX_DEPTH = 32
Container = dict[str, object] | list[object]
MAX_FIELDS = 1000  # of a form


def judge_media(media: str, accepted: tuple[str, ...]) -> None:
    """Raises UnsupportedMedia."""
    if media not in accepted:
        text = f"This address takes {' or '.join(accepted)}."
        raise UnsupportedMedia(f"Content-Type {media[:100]!r}", public=text)


def judge(media: str, body: bytes) -> None:
    """Raises BadRequest. Of a megabyte that is all brackets this takes a second: know first whose it is."""
    if media == FORM:
        _judge_form(body)
    else:
        _judge_json(body)


def texts(media: str, body: bytes) -> Iterator[str]:
    """The names and values of a judged body."""
    if media == FORM:
        for pair in parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS):
            yield from pair
    else:
        yield from strings(orjson.loads(body))


def _judge_json(body: bytes) -> None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"JSON, line {error.lineno} column {error.colno}", public="The body is not JSON.") from None
    if not isinstance(value, dict | list):
        raise BadRequest("JSON, but neither object nor list", public="The body must be a JSON object or list.")
    for at, (depth, names) in enumerate(_objects(value)):
        if depth > MAX_DEPTH:
            raise BadRequest(f"JSON over {MAX_DEPTH} deep", public="The body is nested too deeply.")
        if "filepath" in names or (at == 0 and "files" in names):
            raise _posing()


def names_a_file(context: dict[str, object]) -> bool:
    """Does any object in it have what n8n says of the files that it keeps?"""
    return any("filepath" in names for _, names in _objects(context))


def _objects(value: Container) -> Iterator[tuple[int, Collection[object]]]:
    """The names in every object with its depth, the outermost first; a list has none."""
    todo = [(1, value)]
    while todo:
        depth, each = todo.pop()
        yield depth, each.keys() if isinstance(each, dict) else ()
        inside = each.values() if isinstance(each, dict) else each
        todo += [(depth + 1, below) for below in inside if isinstance(below, dict | list)]


def _judge_form(body: bytes) -> None:
    """Servers make objects of names such as `files[0][filepath]`."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), errors="strict",
            max_num_fields=MAX_FIELDS,
        )  # fmt: skip
    except ValueError:
        raise BadRequest("a form that can't be read", public="The body is not a form.") from None
    for name, _ in pairs:
        parts = [part.strip("\0 ]") for part in name.replace(".", "[").lstrip("\0 [").split("[")]
        if parts[0] == "files" or "filepath" in parts:
            raise _posing()


def _posing() -> BadRequest:
    return BadRequest("a body that poses as an upload", public="Files can't be named in a body.")
