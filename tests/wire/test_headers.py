from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.headers import HOP_BY_HOP, RELAYABLE, relayable

names = st.one_of(
    st.sampled_from(sorted(RELAYABLE | HOP_BY_HOP | {"host", "cookie", "authorization", "x-forwarded-for"})),
    st.text(string.ascii_letters + "-_", min_size=1, max_size=20),
).flatmap(lambda name: st.sampled_from([name, name.upper(), name.title()]))
headers = st.lists(st.tuples(names, st.text(max_size=30)), max_size=12)


def test_only_listed_headers_travel_and_keep_their_order() -> None:
    sent = [
        ("Host", "shop.example"),
        ("User-Agent", "Mozilla/5.0"),
        ("Cookie", "a=b"),
        ("Authorization", "Bearer x"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Accept-Language", "de, en;q=0.5"),
        ("X-Request-Id", "chosen-by-the-client"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "vendor=1"),
    ]
    assert relayable(sent) == [
        ("user-agent", "Mozilla/5.0"),
        ("accept-language", "de, en;q=0.5"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "vendor=1"),
    ]


@pytest.mark.parametrize("connection", ["user-agent", "close, User-Agent", "keep-alive ,\tUSER-AGENT ,, x"])
def test_a_header_named_in_connection_stays_here(connection: str) -> None:
    sent = [("User-Agent", "Mozilla/5.0"), ("Accept-Language", "de"), ("Connection", connection)]
    assert relayable(sent) == [("accept-language", "de")]


def test_every_connection_header_counts() -> None:
    sent = [("Connection", "close"), ("User-Agent", "a"), ("connection", "user-agent")]
    assert relayable(sent) == []


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\x00", "\x7f", "Zürich", "\udcff"])
def test_a_value_that_could_break_the_next_request_is_left_out(value: str) -> None:
    assert relayable([("User-Agent", value), ("Accept-Language", "de")]) == [("accept-language", "de")]


def test_an_empty_value_travels() -> None:
    assert relayable([("User-Agent", "")]) == [("user-agent", "")]


def test_no_hop_by_hop_header_can_ever_be_relayable() -> None:
    assert not RELAYABLE & HOP_BY_HOP


@given(headers)
def test_nothing_but_listed_clean_headers_ever_passes(sent: list[tuple[str, str]]) -> None:
    passed = relayable(sent)
    assert all(name in RELAYABLE and name.islower() for name, _ in passed)
    assert all(value.isascii() and not set(value) & {"\r", "\n", "\0"} for _, value in passed)
    nominated = {
        part.strip().lower() for name, value in sent if name.lower() == "connection" for part in value.split(",")
    }
    assert not {name for name, _ in passed} & nominated


@given(headers)
def test_relaying_what_was_relayed_changes_nothing(sent: list[tuple[str, str]]) -> None:
    once = relayable(sent)
    assert relayable(once) == once
