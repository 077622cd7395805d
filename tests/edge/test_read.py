"""What is read off a request: whose address counts, which credential, what a message is."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.chat import wanted
from proxy.edge.read import REQUEST_ID, FrontSettings, ListenSettings, Reader, json_object, message
from proxy.errors import BadRequest
from proxy.model import Client, Credential, Facts, Message

TRUSTED = ("127.0.0.0/8", "10.0.0.0/8", "::1/128")


def read(
    headers: list[tuple[str, str]], *, peer: str = "127.0.0.1", path: str = "/v1/messages", **settings: Any
) -> Client:
    reader = Reader(ListenSettings(**{"trusted_proxies": TRUSTED} | settings), "chat_session_id")
    http = make_mocked_request("POST", path, headers=headers)
    http[REQUEST_ID] = "r1"
    return reader.client(http.clone(remote=peer) if peer else http, "messages")


FORWARDED: dict[str, tuple[str, list[str], str]] = {
    "no proxy": ("192.0.2.1", [], "192.0.2.1"),
    "a stranger claims an address": ("192.0.2.1", ["6.6.6.6"], "192.0.2.1"),
    "one proxy": ("127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
    "two proxies": ("127.0.0.1", ["192.0.2.7, 10.0.0.5"], "192.0.2.7"),
    "a client claims more": ("127.0.0.1", ["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
    "in two headers": ("127.0.0.1", ["6.6.6.6", "192.0.2.7, 10.0.0.5"], "192.0.2.7"),
    "with a port": ("127.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
    "IPv6": ("::1", ["2001:db8::1"], "2001:db8::1"),
    "IPv6 with a port": ("::1", ["[2001:DB8::1]:4711"], "2001:db8::1"),
    "a mapped address": ("::ffff:127.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
    "garbage": ("127.0.0.1", ["192.0.2.7, garbage"], "127.0.0.1"),
    "empty": ("127.0.0.1", [""], "127.0.0.1"),
    "only proxies": ("127.0.0.1", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
    "no address at all": ("", [], "unknown"),
}


@pytest.mark.parametrize(("peer", "headers", "ip"), FORWARDED.values(), ids=FORWARDED.keys())
def test_the_nearest_address_that_is_no_trusted_proxy_counts(peer: str, headers: list[str], ip: str) -> None:
    client = read([("X-Forwarded-For", value) for value in headers], peer=peer or "none")
    assert client.ip == ip


@given(st.text(st.characters(codec="ascii", exclude_characters="\r\n\0"), max_size=40))
def test_whatever_a_stranger_writes_his_own_address_counts(claim: str) -> None:
    assert read([("X-Forwarded-For", claim)], peer="192.0.2.1").ip == "192.0.2.1"


def test_the_scheme_is_believed_from_a_trusted_proxy_only() -> None:
    assert read([("X-Forwarded-Proto", "https")]).scheme == "https"
    assert read([("X-Forwarded-Proto", "gopher")]).scheme == "http"
    assert read([("X-Forwarded-Proto", "https")], peer="192.0.2.1").scheme == "http"


@pytest.mark.parametrize(
    ("headers", "path", "credential"),
    [
        ([], "/", None),
        ([("Authorization", "Bearer abc")], "/", Credential("bearer", "abc")),
        ([("Authorization", "bearer  abc ")], "/", Credential("bearer", "abc")),
        ([("Authorization", "Basic abc")], "/", Credential("bearer", "")),
        ([], "/?ticket=t", Credential("ticket", "t")),
        ([("Authorization", "Basic abc")], "/?ticket=t", Credential("ticket", "t")),
        ([("Authorization", "Basic abc"), ("Cookie", "chat_session_id=c")], "/", Credential("cookie", "c")),
        ([("Cookie", "chat_session_id=c; other=1")], "/", Credential("cookie", "c")),
        ([("Cookie", "chat_session_id=c; other=1; chat_session_id=d")], "/", Credential("cookie", "")),
        ([("Cookie", "xchat_session_id=c; chat_session_idx=d; chat_session_id")], "/", Credential("cookie", "")),
        ([("Cookie", "chat_session_id=c"), ("Authorization", "Bearer abc")], "/?ticket=t", Credential("bearer", "abc")),
    ],
)
def test_the_credential(headers: list[tuple[str, str]], path: str, credential: Credential | None) -> None:
    assert read(headers, path=path).credential == credential


def test_what_a_front_says_is_believed_from_a_trusted_one_alone() -> None:
    front = FrontSettings(tls="X-JA4", country="CF-IPCountry")
    said = [("X-JA4", "t13d"), ("CF-IPCountry", "DE"), ("X-ASN", "1"), ("Sec-CH-UA-Platform", "Linux")]
    said += [("X-Sidegate-Device", "d" * 600)]
    for trusted, facts in ((TRUSTED, ("t13d", "de", "")), ((), ("", "", ""))):
        found = read(said, trusted_proxies=trusted, front_headers=front).facts
        assert (found.tls, found.country, found.asn) == facts
        assert (found.hints, found.device) == ("\0Linux\0", "d" * 512)
    assert read([]).facts == Facts()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01; x", False),
        ("garbage", False),
    ],
)
def test_a_trace_goes_on_when_it_is_one(sent: str, kept: bool) -> None:
    assert (read([("traceparent", sent)]).traceparent == sent) is kept


def test_what_is_named_in_connection_goes_no_further() -> None:
    headers = [("User-Agent", "Mozilla"), ("Accept-Language", "de"), ("Connection", "keep-alive, User-Agent")]
    client = read(headers)
    assert (client.user_agent, client.language) == ("", "de")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"1", b'{"a": NaN}', b'{"a": "\xff"}', b'{"a":"\\ud800"}'])
def test_what_is_no_json_object_is_refused_with_a_reason(body: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        json_object(body)
    assert refused.value.public != BadRequest.message


def test_a_message_is_text_and_a_pages_facts() -> None:
    assert message({"message": "hi", "context": {"a": 1}, "more": 2}) == Message("hi", {"a": 1})
    assert message({"message": "hi", "context": None, "files": []}) == Message("hi")


@pytest.mark.parametrize(
    "fields", [{}, {"message": 1}, {"message": None}, {"message": "x", "context": []}, {"message": "x", "files": ["f"]}]
)
def test_other_shapes_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        message(fields)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ([], "text/event-stream"),
        (["*/*"], "text/event-stream"),
        (["text/event-stream"], "text/event-stream"),
        (["application/json"], "application/json"),
        (["application/json, text/plain, */*"], "application/json"),
        (["application/x-ndjson"], "application/x-ndjson"),
        (["application/json;q=0.5, text/event-stream"], "text/event-stream"),
        (["text/event-stream;q=0, application/*"], "application/json"),
        (["text/html, text/*;q=0.9"], "text/event-stream"),
        (["application/json;q=nonsense"], "text/event-stream"),
        (["text/html", "Application/JSON; charset=utf-8"], "application/json"),
        (["image/png"], "text/event-stream"),
    ],
)
def test_accept_chooses_the_form_of_the_answer(accept: list[str], form: str) -> None:
    assert wanted(accept) == form
