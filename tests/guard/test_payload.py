"""A webhook's body is what its type says, and poses as nothing."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import BadRequest, UnsupportedMedia
from proxy.guard.payload import FORM, JSON, judge, judge_media, texts

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "file"]), below),
    max_leaves=20,
)
NAMES = ["filepath", "files[0][filepath]", "files", "a[filepath]", "a.filepath", "files.x", "a[b][filepath]", " files"]
NAMES += ["[files]", "[files][0]", "[filepath]", "files\0", "[filepath\0]"]


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'[{"a":[1,2]}]', b'{"a":{"files":[1]},"file":"x"}', b"[" * 32 + b"]" * 32]
)
def test_ordinary_json_passes(body: bytes) -> None:
    judge(JSON, body)


@pytest.mark.parametrize("body", [b"", b"{", b"1", b'"a"', b"null", b"a=b", b"\xff", b"[" * 33 + b"]" * 33])
def test_what_is_no_json_object_or_is_too_deep_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        judge(JSON, body)


@pytest.mark.parametrize(
    "body", [b'{"files":[]}', b'{"a":{"filepath":1}}', b'[[{"b":[{"filepath":""}]}]]', b'{"\\u0066iles":1}']
)
def test_json_that_names_files_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="poses"):
        judge(JSON, body)


@given(VALUES.filter(lambda value: isinstance(value, dict | list)), st.data())
@settings(deadline=None)
def test_a_filepath_is_found_wherever_it_is_put(value: dict[str, object] | list[object], data: st.DataObject) -> None:
    objects = [value]
    for each in objects:
        below = each.values() if isinstance(each, dict) else each
        objects += [one for one in below if isinstance(one, dict | list)]
    judge(JSON, orjson.dumps(value))
    place = data.draw(st.sampled_from(objects))
    if isinstance(place, dict):
        place["filepath"] = "/etc/passwd"
    else:
        place.append({"filepath": "/etc/passwd"})
    with pytest.raises(BadRequest):
        judge(JSON, orjson.dumps(value))


@pytest.mark.parametrize("body", [b"", b"a=1&b=&c=%C3%BC", b"payload=%7B%22filepath%22%3A1%7D", b"myfiles=1"])
def test_ordinary_forms_pass(body: bytes) -> None:
    judge(FORM, body)


@pytest.mark.parametrize("body", [b"a", b"\xff=1", b"a=%FF", b"{}", b"&".join([b"a=1"] * 1001)])
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        judge(FORM, body)


@pytest.mark.parametrize("name", NAMES)
def test_forms_that_name_files_are_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="poses"):
        judge(FORM, urlencode({"a": "1", name: "/etc/passwd"}).encode())


@given(st.binary(max_size=200), st.sampled_from([JSON, FORM]))
@settings(deadline=None)
def test_any_bytes_pass_or_are_refused(body: bytes, media: str) -> None:
    with suppress(BadRequest):
        judge(media, body)


@pytest.mark.parametrize("media", ["", "multipart/form-data", "text/plain", FORM])
def test_another_type_is_refused(media: str) -> None:
    judge_media(JSON, (JSON,))
    with pytest.raises(UnsupportedMedia):
        judge_media(media, (JSON,))


def test_all_that_a_body_says_is_read_names_too() -> None:
    body = b'{"a": ["b", 1, {"c": null, "d": "e"}], "f": true}'
    assert sorted(texts(JSON, body)) == ["a", "b", "c", "d", "e", "f"]
    assert list(texts(FORM, b"a=b+c&d=")) == ["a", "b c", "d", ""]
