"""Name, declared type and bytes have to agree."""

from __future__ import annotations

import struct

import pytest

from proxy.content.filetypes import KINDS, Refused, judge, kind_of_name
from proxy.content.images import BLOCK
from tests.forms import archive, gif, jpeg, pdf, png, segment


def reason(media: str, content: bytes, declared: str | None = None) -> str:
    try:
        judge(media, declared or media, lambda at, size: content[at : at + size], len(content))
    except Refused as refused:
        return refused.reason
    return ""


def test_every_extension_leads_to_its_type_and_to_no_other() -> None:
    extensions = [extension for kind in KINDS.values() for extension in kind.extensions]
    assert len(extensions) == len(set(extensions))
    for media, kind in KINDS.items():
        for extension in kind.extensions:
            assert kind_of_name(f"a.b.{extension.upper()}") == media


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a", "extension"),
        ("a.xyz", "extension"),
        ("a.exe", "executable"),
        ("a.PHP.png", "executable"),
        ("a.svg ", "executable"),
        ("a.jspx.png", "executable"),
        ("a.shop.com", "executable"),
        ("a.com. ", "executable"),
    ],
)
def test_other_names_are_refused(name: str, why: str) -> None:
    with pytest.raises(Refused) as refused:
        kind_of_name(name)
    assert refused.value.reason == why


def test_a_sites_name_in_a_name_is_no_program() -> None:
    assert kind_of_name("www.shop.com.png") == "image/png"


@pytest.mark.parametrize(
    ("media", "content"),
    [
        ("image/png", png()),
        ("image/jpeg", jpeg()),
        ("image/gif", gif()),
        ("application/pdf", pdf()),
        ("text/plain", "\ufeffGrüße\t1 < 2\r\n".encode()),
        ("text/csv", b"a;b\n1;\xfc\n"),
        ("application/json", b' [1, "a"]'),
        ("audio/mpeg", b"ID3\x03" + bytes(100)),
        ("audio/ogg", b"OggS\0" + bytes(100)),
        ("audio/wav", b"RIFF\0\0\0\0WAVEfmt " + bytes(100)),
        ("application/zip", archive({"a": b""})),
    ],
)
def test_files_of_each_kind_pass_and_under_other_names_they_do_not(media: str, content: bytes) -> None:
    assert reason(media, content) == ""
    for other in KINDS.keys() - {media}:
        if not (KINDS[media].is_text and KINDS[other].is_text):
            assert reason(other, content) in ("signature", "active") or KINDS[media].is_archive
    assert reason(media, content, "text/html") == "declared"
    assert reason(media, b"") == "empty"


@pytest.mark.parametrize("start", [b"#!/bin/sh", b"MZ", b"\x7fELF", b"\xca\xfe\xba\xbe"])
def test_programs_are_told_apart_from_other_wrong_files(start: bytes) -> None:
    assert reason("image/png", start) == "executable"


@pytest.mark.parametrize(
    "page",
    [
        "<html>",
        "\ufeff <!DOCTYPE html>",
        "<?php",
        "<?xml version='1.0'?><svg/>",
        "<SCRIPT>",
        "<svg/onload=x>",
        "<a href=x>",
        "<?= system($_GET[0]) ?>",
        " " * 1440 + "<html>",
    ],
)
def test_pages_are_no_text(page: str) -> None:
    assert reason("text/plain", page.encode()) == "active"


def test_scripts_and_control_characters_are_no_text_wherever_they_stand() -> None:
    assert reason("text/plain", b"#!/bin/sh\n") == "executable"
    assert reason("text/plain", b"x" * BLOCK + b"\x1b[2J") == "signature"


@pytest.mark.parametrize("place", [0, 30, BLOCK - 5, BLOCK, 2 * BLOCK - 3])
@pytest.mark.parametrize("foreign", [b"<ScRipt>", b"<?php ", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"%PDF-1.4"])
def test_something_else_in_a_sound_is_found_wherever_it_stands(place: int, foreign: bytes) -> None:
    assert reason("audio/ogg", b"OggS\0" + bytes(place) + foreign + bytes(BLOCK)) == "polyglot"


@pytest.mark.parametrize("foreign", [b"<?php system($_GET[0]);", b"<script>alert(1)</script>", b"Rar!\x1a\x07"])
def test_something_else_in_a_pdf_is_found(foreign: bytes) -> None:
    assert reason("application/pdf", pdf(foreign)) == "polyglot"


def test_a_picture_or_sound_that_is_javascript_is_found() -> None:
    """Its first letters are a name, and the length behind them opens a comment that ends further behind."""
    script = b"*/=1;alert(1)/*"
    assert reason("image/jpeg", jpeg(segment(0xE0, script + bytes(0x2F2A - 2 - len(script))), start=b"")) == "polyglot"
    riff = b"RIFF" + struct.pack("<I", 0x2A2F)
    assert reason("audio/wav", (riff + b"WAVEfmt " + script).ljust(0x2A2F + 8, b"\0")) == "polyglot"
    assert reason("image/webp", (riff + b"WEBPVP8 " + script).ljust(0x2A2F + 8, b"\0")) == "polyglot"


def test_an_archive_behind_anything_is_found() -> None:
    for media, content in (("application/pdf", pdf()), ("audio/ogg", b"OggS\0" + bytes(200_000))):
        assert reason(media, content + archive({"a": b"x"})) == "polyglot"


@pytest.mark.parametrize(
    "name", ["JavaScript", "J#61vaScript", "#4a#61#76#61#53#63#72#69#70#74", "Launch", "RichMedia", "XFA"]
)
@pytest.mark.parametrize("place", [0, BLOCK - 10, BLOCK - 40])
def test_a_pdf_that_runs_something_is_found(name: str, place: int) -> None:
    assert reason("application/pdf", pdf(b" " * place + f"/S /{name}".encode())) == "active"


def test_a_pdf_has_an_end_and_a_broken_picture_is_damaged() -> None:
    assert reason("application/pdf", pdf()[:-8]) == "damaged"
    assert reason("image/png", png()[:-1]) == "damaged"
