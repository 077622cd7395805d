"""GET /widget.js: small, the same for everybody, not sent twice, loadable by other origins' pages."""

from __future__ import annotations

import gzip
import json
import re
from importlib import resources

import pytest

from proxy.edge.embed import script
from tests.sidegate import ORIGIN, sidegate

ECHO = {"kind": "echo", "delay": 0}


def test_it_is_under_25_kib_on_the_wire() -> None:
    assert len(gzip.compress(script().encode())) < 25 * 1024


def test_nothing_in_it_makes_markup_or_code_of_text() -> None:
    risky = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|^export "
    assert re.findall(risky, script(), re.MULTILINE) == []


def test_every_language_has_every_word() -> None:
    words = json.loads((resources.files("proxy.edge") / "embedded" / "words.json").read_bytes())
    assert {frozenset(each) for each in words.values()} == {frozenset(words["en"])}


async def test_it_may_be_cached_and_loaded_by_pages_of_other_origins() -> None:
    async with sidegate(ECHO) as visitor:
        async with visitor.http.get(f"{visitor.url}/widget.js", headers={"Origin": ORIGIN}) as response:
            assert (response.status, response.content_type) == (200, "text/javascript")
            assert await response.text() == script()
            assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert response.headers["Cache-Control"] == "public, max-age=300"
            assert response.headers["Vary"] == "Accept-Encoding, Origin"
            assert response.headers["Content-Encoding"] == "gzip"
            tag = response.headers["ETag"]
        for known in (tag, f'"other", {tag}', "*"):
            headers = {"If-None-Match": known}
            async with visitor.http.get(f"{visitor.url}/widget.js", headers=headers) as response:
                assert (response.status, await response.read()) == (304, b"")
                assert response.headers["ETag"] == tag
        headers = {"If-None-Match": '"other"', "Accept-Encoding": "identity", "Origin": "https://other.example"}
        async with visitor.http.get(f"{visitor.url}/widget.js", headers=headers) as response:
            assert response.status == 200
            assert "Content-Encoding" not in response.headers
            assert "Access-Control-Allow-Origin" not in response.headers
            assert await response.text() == script()


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip", "gzip"), ("br, GZIP;q=0.5", "gzip"), ("gzip;q=0", None), ("gzip; q=0.0, *", None), ("gzipped", None)],
)
async def test_it_is_packed_for_who_takes_that(accepted: str, coding: str | None) -> None:
    async with (
        sidegate(ECHO) as visitor,
        visitor.http.get(f"{visitor.url}/widget.js", headers={"Accept-Encoding": accepted}) as response,
    ):
        assert response.headers.get("Content-Encoding") == coding
        assert await response.text() == script()


async def test_it_is_served_under_our_hosts_alone() -> None:
    listen = {"host": "127.0.0.1", "port": 0, "allowed_hosts": ["chat.example"]}
    async with sidegate(ECHO, listen=listen) as visitor, visitor.http.get(f"{visitor.url}/widget.js") as response:
        assert response.status == 403
