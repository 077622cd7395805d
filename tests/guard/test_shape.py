"""What is a message, and what is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.errors import BadRequest, TooLarge
from proxy.guard.content import ContentSettings
from proxy.guard.shape import MAX_DEPTH, Shape
from proxy.model import Message, Request
from tests.clients import request

STAGE = Shape({"shop": ContentSettings(max_chars=10)}, "enforce")


def with_context(context: dict[str, object]) -> Request:
    return replace(request(), message=Message("hi", context))


def deep(levels: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


async def test_the_limit_counts_characters_not_bytes() -> None:
    assert (await STAGE.check(request("😀" * 10))).message.text == "😀" * 10
    with pytest.raises(TooLarge, match="11 characters"):
        await STAGE.check(request("😀" * 11))


@pytest.mark.parametrize("text", ["", " \n\t", " "])
async def test_an_empty_message_is_none(text: str) -> None:
    with pytest.raises(BadRequest, match="empty"):
        await STAGE.check(request(text))


async def test_a_pages_facts_pass() -> None:
    await STAGE.check(with_context({"page": "/cart", "items": [1, 2.5, None, True], "user": {"name": "Ann"}}))
    await STAGE.check(with_context(deep(MAX_DEPTH)))


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (deep(MAX_DEPTH + 1), "deeper"),
        ({"a": "x" * 5000}, "larger"),
        ({"a" * 5000: 1}, "larger"),
        ({"a": [[]] * 5000}, "larger"),
        ({str(number): 1 for number in range(33)}, "keys"),
    ],
    ids=["deep", "long value", "long key", "long list", "many keys"],
)
async def test_a_context_that_no_page_needs_is_refused(context: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        await STAGE.check(with_context(context))


async def test_each_mode_judges_its_own_sites() -> None:
    observed = Shape({"shop": ContentSettings(max_chars=10, mode="observe")}, "enforce")
    assert await observed.check(request("x" * 11)) == request("x" * 11)
