"""Forms are read alike however they are cut, and as the standard library reads them; what is unclear is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.wire.multipart import MAX_HEAD, FormReader, Part, boundary_of
from tests.forms import BOUNDARY, CONTENT_TYPE, file, form, part, read, text


def parts(*pieces: bytes, max_parts: int = 20) -> list[tuple[Part, bytes]]:
    reader = FormReader(BOUNDARY.encode(), max_parts)
    found: list[tuple[Part, bytes]] = []
    for piece in pieces:
        for item in reader.feed(piece):
            if isinstance(item, Part):
                found.append((item, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + item)
    reader.finish()
    return found


CONTENTS = st.binary(max_size=60) | st.sampled_from(
    [b"\r\n", b"\r\n--", b"--" + BOUNDARY.encode(), b"\r\n--" + BOUNDARY.encode()[:-1], b"\r\n\r\n"]
)


@given(st.lists(CONTENTS, max_size=5), st.lists(st.integers(0, 800), max_size=8))
def test_any_cutting_gives_the_same_parts(contents: list[bytes], cuts: list[int]) -> None:
    body = form(*[file(content, f"{n}.txt") for n, content in enumerate(contents)])
    places = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    cut = [body[start:end] for start, end in pairwise(places)]
    expected = [(Part("files", f"{n}.txt", "text/plain"), content) for n, content in enumerate(contents)]
    assert parts(*cut) == parts(*(bytes([byte]) for byte in body)) == expected


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_read_never_a_crash(data: bytes) -> None:
    reader = FormReader(BOUNDARY.encode(), 5)
    try:
        reader.feed(f"--{BOUNDARY}\r\n".encode() + data)
        reader.finish()
    except BadRequest:
        return


def test_it_reads_what_the_standard_librarys_parser_reads() -> None:
    body = form(text("message", "grüße"), file(b"x\r\ny", "a.txt"))
    ours = [(one.name, one.filename, content) for one, content in parts(body)]
    assert ours == [(one.name, one.filename, one.content) for one in read(body, CONTENT_TYPE)]


def test_names_are_unescaped_as_browsers_escape_them() -> None:
    ((one, _),) = parts(form(part('name="files"; filename="a%22b%0D%0Ac%41.txt"', b"")))
    assert one.filename == 'a"b\r\nc%41.txt'


def test_a_transfer_encoding_that_changes_nothing_is_no_harm() -> None:
    ((one, content),) = parts(form(part('name="a"', b"x", "Content-Transfer-Encoding: 8BIT", "Content-Length: 1")))
    assert (one.name, one.filename, one.media, content) == ("a", None, "", b"x")


GOOD = form(text("a", "b"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"\r\n" + GOOD,
        GOOD[:-4],
        GOOD + b"x",
        GOOD + GOOD,
        GOOD.replace(b"\r\n", b"\n"),
        f"--{BOUNDARY}x\r\n".encode(),
        f"--{BOUNDARY}\r\n\r\nx\r\n--{BOUNDARY}--".encode(),
        form(part('name="a"', b"", "X: y")),
        form(part('name="a"', b"", "content-disposition: form-data")),
        form(part('name="a"', b"", " folded")),
        form(part('name="a"', b"", "Content-Type: a\tb\x01")),
        form(part('name="a"', b"", "Content-Transfer-Encoding: quoted-printable")),
        form(part('name="a"', b"", "Content-Type: " + "a" * MAX_HEAD)),
        form(part("name=a", b"")),
        form(part('filename="a"; name="b"', b"")),
        form(part("name=\"a\"; filename*=utf-8''b", b"")),
        form(part('name="a\\"b"', b"")),
        form(part('name="a"; x="b"', b"")),
        form(text("a", "b")).replace(b'name="a"', b'name="\xff"'),
        form(*[text(str(n), "") for n in range(21)]),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parts(body)


def test_headers_without_an_end_are_refused_before_they_are_all_there() -> None:
    reader = FormReader(BOUNDARY.encode(), 5)
    reader.feed(f"--{BOUNDARY}\r\nContent-Type: ".encode() + b"a" * (MAX_HEAD - 50))
    with pytest.raises(BadRequest):
        reader.feed(b"a" * 50)


def test_boundaries() -> None:
    assert boundary_of('Multipart/Form-Data; boundary="ab"') == b"ab"
    assert boundary_of("multipart/form-data;boundary=----x") == b"----x"
    for wrong in (
        "",
        "multipart/mixed; boundary=a",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=é",
    ):
        with pytest.raises(BadRequest):
            boundary_of(wrong)
