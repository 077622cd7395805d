"""Whom a message is counted for, kind by kind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.guard.limits import Limits, LimitSettings
from proxy.guard.subjects import SUBJECTS, Per, ip_key, prefix_key
from proxy.store.memory import MemoryStore
from tests.clients import SESSION, Clock, request


@pytest.mark.parametrize(
    ("ip", "one", "neighbours"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::"),
        ("nonsense", "unknown", "unknown"),
    ],
)
def test_an_ipv6_subscriber_is_counted_as_one(ip: str, one: str, neighbours: str) -> None:
    assert (ip_key(ip), prefix_key(ip)) == (one, neighbours)


@pytest.mark.parametrize(
    ("per", "subject"),
    [
        ("ip", "192.0.2.7"),
        ("prefix", "192.0.2.0"),
        ("session", "s1"),
        ("owner", "jwt:idp#jane"),
        ("api_key", "bot"),
        ("embed_key", None),
        ("site", "shop"),
        ("domain", "shop.example"),
        ("route", "messages"),
    ],
)
def test_everybody_has_a_name_of_each_kind_or_none(per: Per, subject: str | None) -> None:
    known = replace(SESSION, owner="jwt:idp#jane", key="api_key:bot")
    assert SUBJECTS[per](request(session=known)) == subject


def test_without_an_origin_the_domain_is_the_host() -> None:
    assert SUBJECTS["domain"](request(origin=None)) == "chat.example"


def test_an_anonymous_visitor_has_neither_owner_nor_key() -> None:
    assert [SUBJECTS[per](request()) for per in ("owner", "api_key", "embed_key")] == [None, None, None]


async def test_who_a_limit_is_not_for_is_not_counted() -> None:
    rules = LimitSettings(per="api_key", limit=1, window=10), LimitSettings(per="owner", limit=1, window=10)
    stage = Limits({"shop": rules}, MemoryStore(clock=Clock()), "enforce")
    for _ in range(3):
        assert (await stage.check(request())).counts == ()
