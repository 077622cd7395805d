"""An answer tells its listeners of a refusal only when what the message held can be had by the next one."""

from __future__ import annotations

import pytest

from proxy.errors import TooLarge
from proxy.model import Client, Message, Request, Session, Site
from proxy.streams import StreamSettings
from proxy.streams.answer import Answer

SITE = Site("shop", frozenset(), "support")
REQUEST = Request("r1", "a1", Client("r1", "::1", "messages"), SITE, Session("s1", "shop", "", 0), Message("hello"))


@pytest.mark.parametrize("is_admitted", [False, True])
async def test_only_a_refusal_gives_back_what_its_message_held_and_does_so_before_it_is_told(is_admitted: bool) -> None:
    answer = Answer(REQUEST, StreamSettings())
    was_over: list[bool] = []

    async def give_back() -> None:
        was_over.append(answer.is_over)

    answer.on_refusal(give_back)
    if is_admitted:
        answer.admit(REQUEST)
    await answer.fail(TooLarge("far too long"))
    assert was_over == ([] if is_admitted else [False])
    assert answer.is_over
