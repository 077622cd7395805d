"""How pictures are taken apart, and what is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.content import images
from proxy.content.images import WALKERS, Malformed, Piece
from tests.forms import EXIF, FRAME, JFIF, SCAN, gif, jpeg, png, png_chunk, segment


def look(content: bytes) -> Callable[[int, int], bytes]:
    return lambda at, size: content[at : at + size]


def walk(kind: str, content: bytes) -> list[Piece]:
    return WALKERS[f"image/{kind}"](look(content), len(content))


def picture(kind: str, content: bytes) -> bytes:
    return b"".join(content[piece.start : piece.end] for piece in walk(kind, content) if piece.is_picture)


WEBP = b"RIFF\x08\0\0\0WEBPVP8 "


@pytest.mark.parametrize(("kind", "content"), [("png", png()), ("jpeg", jpeg()), ("gif", gif()), ("webp", WEBP)])
def test_a_picture_is_all_picture_and_its_beginning_alone_is_none(kind: str, content: bytes) -> None:
    assert picture(kind, content) == content
    for end in range(len(content)):
        with pytest.raises(Malformed):
            walk(kind, content[:end])


def test_metadata_is_no_part_of_the_picture() -> None:
    icc = segment(0xE2, b"ICC_PROFILE\0\1\1x")
    adobe = segment(0xEE, b"Adobe\0d\0\0\0\0\0")
    assert picture("jpeg", jpeg(EXIF, icc, segment(0xFE, b"hi"), b"\xff", adobe, segment(0xE2, b"MPF\0"))) == jpeg(
        icc, adobe
    )
    assert picture("jpeg", jpeg(behind=b"\xff\xd8 preview")) == jpeg()
    gamma = png_chunk(b"gAMA", b"\0\0\0\1")
    assert picture("png", png(gamma, png_chunk(b"tEXt", b"a\0b"), png_chunk(b"eXIf", b""))) == png(gamma)
    loop = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
    assert picture("gif", gif(loop, b"\x21\xfe\x02hi\0", b"\x21\xff\x0bXMP DataXMP\x01x\0")) == gif(loop)


def test_a_scan_that_is_longer_than_a_block_is_followed_to_its_end() -> None:
    for size in range(images.BLOCK - 4, images.BLOCK + 4):
        content = b"\xff\xd8" + JFIF + FRAME + SCAN + b"x" * size + SCAN + b"\xff\xd9"
        assert picture("jpeg", content) == content


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("png", png() + b"x"),
        ("png", png(width=0)),
        ("png", png(width=20_000, height=20_000)),
        ("png", png(png_chunk(b"IHDR", bytes(13)))),
        ("png", png(b"\0\0\0\0 x!!" + bytes(4))),
        ("png", png()[:8] + png()[33:]),
        ("jpeg", b"\xff\xd8" + JFIF + b"\xff\xd9"),
        ("jpeg", b"\xff\xd8" + SCAN + b"\xff\xd9"),
        ("jpeg", jpeg(segment(0xC0, b"\x08\xff\xff\xff\xff\x01\x01\x11\0"))),
        ("jpeg", jpeg(b"\xff\xd8")),
        ("jpeg", jpeg(b"\xff\xe1\0\0")),
        ("gif", gif(behind=b"x")),
        ("gif", gif(b"x")),
        ("gif", gif(size=b"/*\1\0")),
        ("gif", gif(size=b"\0\0\0\0")),
        ("webp", WEBP + b"abc"),
    ],
)
def test_what_is_put_together_otherwise_is_refused(kind: str, content: bytes) -> None:
    with pytest.raises(Malformed):
        walk(kind, content)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("png", png(*[png_chunk(b"tEXt", b"")] * 30)),
        ("jpeg", jpeg(b"\xff" * 30)),
        ("gif", gif(*[b"\x21\xfe\0"] * 30)),
        ("gif", gif(b"\x21\xfe" + b"\1x" * 300 + b"\0")),
    ],
)
def test_too_many_pieces_are_refused(kind: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert walk(kind, content)
    monkeypatch.setattr(images, "MAX_PIECES", 20)
    monkeypatch.setattr(images, "MAX_BLOCKS", 200)
    with pytest.raises(Malformed):
        walk(kind, content)


@given(
    st.sampled_from(sorted(WALKERS)),
    st.sampled_from([png(), jpeg(EXIF), gif()]),
    st.integers(0, 300),
    st.binary(max_size=8),
)
def test_arbitrary_bytes_are_refused_or_walked_from_end_to_end(kind: str, content: bytes, at: int, data: bytes) -> None:
    content = content[:at] + data + content[at + len(data) :]
    try:
        pieces = WALKERS[kind](look(content), len(content))
    except Malformed:
        return
    assert [piece.end for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]
    assert (pieces[0].start, pieces[-1].end) == (0, len(content))
