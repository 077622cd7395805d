"""A detector behind HTTP has its say, in time or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from proxy.config import Secret
from proxy.errors import ContentBlocked
from proxy.guard.content import ContentSettings, Detectors
from proxy.guard.detectors import MAX_ANSWER_BYTES, PAUSE, DetectorSettings, HttpDetector
from proxy.model import Message, Mode, Verdict
from tests.clients import Clock, request
from tests.sidegate import sidegate
from tests.upstreams import Script, Step, Webhook, plain, webhook


def scored(score: object) -> Script:
    return plain(orjson.dumps({"score": score}))


@asynccontextmanager
async def asked(
    script: Script, mode: Mode = "enforce", clock: Clock | None = None, **settings: Any
) -> AsyncIterator[tuple[Detectors, Webhook]]:  # Any: of the detector, as in a file
    content = ContentSettings.model_validate({"mode": mode, "rules": settings.pop("rules", {})})
    async with webhook(lambda _: script) as hook, aiohttp.ClientSession() as http:
        detector = HttpDetector(DetectorSettings(http=hook.url, **settings), http, clock or Clock())
        yield Detectors({"shop": content}, mode, {"shop": [detector]}), hook


async def test_a_score_at_the_threshold_is_a_detection() -> None:
    async with asked(scored(0.5)) as (stage, _):
        with pytest.raises(ContentBlocked, match="prompt_injection"):
            await stage.check(request())


async def test_a_lower_score_is_told_and_the_message_passes() -> None:
    async with asked(scored(0.25)) as (stage, hook):
        judged = await stage.check(request("hello"))
    assert judged.verdict.scores == {"prompt_injection": 0.5}
    assert judged.message.text == "hello"
    assert hook.asked[0].json == {"text": "hello", "context": {}}
    assert "authorization" not in hook.asked[0].headers


async def test_nothing_is_nothing() -> None:
    async with asked(scored(0)) as (stage, _):
        assert await stage.check(request()) == request()


async def test_a_categorys_action_is_taken_and_earlier_findings_stay() -> None:
    before = replace(request(), verdict=Verdict({"bot": 1.0}, ("bot",), {"email": 1}))
    async with asked(scored(7), category="spam", threshold=7, token=Secret("abc")) as (stage, hook):
        judged = await stage.check(before)
    assert judged.verdict == Verdict({"bot": 1.0, "spam": 1.0}, ("bot", "spam"), {"email": 1})
    assert hook.asked[0].headers["authorization"] == "Bearer abc"


async def test_a_flag_is_named_once() -> None:
    async with asked(scored(1), category="bot") as (stage, _):
        judged = await stage.check(replace(request(), verdict=Verdict({"bot": 1.0}, ("bot",))))
    assert judged.verdict.flags == ("bot",)


UNUSABLE = [
    plain(b"no"),
    plain(b"[]"),
    scored("high"),
    scored(True),
    plain(b"{}", "500 Internal Server Error"),
    plain(b"", "302 Found", "Location: http://127.0.0.1:1/"),
    plain(b"x" * (MAX_ANSWER_BYTES + 1)),
    [Step(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")],
]


@pytest.mark.parametrize("script", UNUSABLE, ids=["text", "list", "word", "truth", "status", "redirect", "long", "cut"])
async def test_an_answer_that_is_none_counts_as_none(script: Script) -> None:
    async with asked(script) as (stage, _):
        with pytest.raises(ContentBlocked, match="unavailable") as refused:
            await stage.check(request())
    assert refused.value.retry_after == PAUSE
    assert "can't be checked" in refused.value.public
    async with asked(script, when_unavailable="allow") as (stage, _):
        assert await stage.check(request()) == request()


async def test_a_detector_that_failed_is_left_in_peace_for_a_while() -> None:
    clock = Clock()
    async with asked(plain(b"no"), clock=clock, when_unavailable="allow") as (stage, hook):
        await stage.check(request())
        await stage.check(request())
        assert len(hook.asked) == 1
        clock.advance(PAUSE)
        await stage.check(request())
        assert len(hook.asked) == 2


async def test_a_detector_that_takes_too_long_is_not_waited_for() -> None:
    async with asked([], timeout=0.05) as (stage, _):
        with pytest.raises(ContentBlocked, match="TimeoutError"):
            await stage.check(request())


async def test_sites_of_another_mode_and_without_detectors_ask_nobody() -> None:
    async with asked(scored(1), mode="observe") as (stage, hook):
        other = Detectors({"shop": ContentSettings()}, "observe", {})
        assert await other.check(request()) == request()
        assert await Detectors({}, "enforce", {"shop": []}).check(request()) == request()
        with pytest.raises(ContentBlocked):
            await stage.check(request())
        assert len(hook.asked) == 1


@pytest.mark.parametrize("url", ["guard.example/score", "ftp://guard.example/", "https://me:secret@guard.example/"])
def test_an_address_that_cant_be_asked_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="write a whole address"):
        DetectorSettings(http=url)


async def test_the_context_goes_along() -> None:
    async with asked(scored(0)) as (stage, hook):
        await stage.check(replace(request(), message=Message("hi", {"page": "/"})))
    assert hook.asked[0].json == {"text": "hi", "context": {"page": "/"}}


async def test_a_detector_sees_what_goes_upstream() -> None:
    async with webhook(lambda _: scored(0.9)) as hook:
        content = {"detectors": [{"http": hook.url}]}
        async with sidegate({"kind": "echo"}, content=content) as visitor:
            await visitor.session()
            status, problem = await visitor.problem("write to ann@shop-mail.com")
    assert (status, problem["code"]) == (422, "content_blocked")
    assert hook.asked[0].json == {"text": "write to [EMAIL_1]", "context": {}}
