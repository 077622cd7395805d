"""What a message may say, what happens to it otherwise, and what the upstream and the audit log learn of that."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from proxy.content.detect import Judgement, shipped
from proxy.errors import ContentBlocked
from proxy.guard.content import Content, ContentSettings, RuleSettings, texts, weigh
from proxy.model import Message, Mode, Request
from tests.clients import request

DETECTOR = shipped()
ATTACK = "<script>alert('x')</script>"


def stage(mode: Mode = "enforce", **rules: str) -> Content:
    settings = ContentSettings.model_validate({"mode": mode, "rules": rules})
    return Content({"shop": settings}, mode, DETECTOR)


def with_context(context: dict[str, object]) -> Request:
    return replace(request(), message=Message("hi", context))


@pytest.mark.parametrize(
    ("text", "category"),
    [
        (ATTACK, "xss"),
        ("1' or 1=1 --", "sql_injection"),
        ("; cat /etc/passwd", "command_injection"),
        ("{{ ''.__class__.__mro__ }}", "command_injection"),
        ("../../../../etc/passwd", "path_traversal"),
        ("%3Cscript%3Ealert(1)%3C/script%3E", "xss"),
    ],
)
async def test_an_attack_is_refused_and_the_log_says_why(text: str, category: str) -> None:
    with pytest.raises(ContentBlocked) as refused:
        await stage().check(request(text))
    assert refused.value.detail.startswith(category)
    assert text not in refused.value.detail
    assert refused.value.public == ContentBlocked.message


@pytest.mark.parametrize(
    "text",
    [
        "How do I write SELECT * FROM users WHERE id = 5?",
        "Traceback (most recent call last):\n  File \"app.py\", line 3, in <module>\n    main()\nKeyError: 'name'",
        "x<y && y>z, is that so? R&D says 100%",
        "run `ls -la | grep foo` and send me the output",
    ],
)
async def test_what_is_no_attack_goes_through_as_it_came(text: str) -> None:
    judged = await stage().check(request(text))
    assert judged.message.text == text
    assert judged.verdict.flags == ()


@pytest.mark.parametrize(
    "context", [{"page": ATTACK}, {ATTACK: 1}, {"a": [{"b": ["x", ATTACK]}]}], ids=["value", "name", "deep"]
)
async def test_the_context_is_judged_like_the_message(context: dict[str, object]) -> None:
    with pytest.raises(ContentBlocked):
        await stage().check(with_context(context))


def test_every_text_of_a_request_is_an_input() -> None:
    found = texts(with_context({"a": ["b", {"c": "d"}, 1, None, True], "e": 2.5}))
    assert sorted(found) == ["a", "b", "c", "d", "e", "hi"]


async def test_flagged_means_it_passes_and_the_token_names_it() -> None:
    judged = await stage(xss="flag").check(request(ATTACK))
    assert judged.message.text == ATTACK
    assert judged.verdict.flags == ("xss",)
    assert judged.verdict.scores["xss"] >= 1


async def test_sanitised_means_its_markup_is_text() -> None:
    judged = await stage(xss="sanitize").check(request(f"look: {ATTACK} x<y"))
    assert judged.message.text == "look: &lt;script&gt;alert('x')&lt;/script&gt; x<y"
    assert judged.verdict.flags == ("xss",)


async def test_the_contexts_values_are_sanitised_too() -> None:
    asked = with_context({"a": "<b>x</b>", "b": ["<i>", {"c": "<u>"}], "d": 1})
    judged = await stage(xss="sanitize").check(asked)
    assert judged.message.context == {"a": "&lt;b&gt;x&lt;/b&gt;", "b": ["&lt;i&gt;", {"c": "&lt;u&gt;"}], "d": 1}
    assert judged.message.text == "hi"


async def test_another_category_may_be_sanitised_when_it_is_detected() -> None:
    judging = stage(sql_injection="sanitize", xss="flag")
    assert (await judging.check(request("<b>x</b>"))).message.text == "<b>x</b>"
    assert (await judging.check(request("1' or 1=1 -- <b>"))).message.text == "1' or 1=1 -- &lt;b&gt;"


async def test_with_xss_sanitised_markup_that_is_no_attack_is_text_too() -> None:
    judged = await stage(xss="sanitize").check(request("a <b>word</b>"))
    assert judged.message.text == "a &lt;b&gt;word&lt;/b&gt;"
    assert judged.verdict.flags == ()


async def test_off_means_nobody_looks() -> None:
    judged = await stage(xss="off").check(request(ATTACK))
    assert judged == request(ATTACK)
    everything = dict.fromkeys(RuleSettings.model_fields, "off")
    blind = Content({"shop": ContentSettings(rules=RuleSettings.model_validate(everything))}, "enforce", DETECTOR)
    assert await blind.check(request(ATTACK)) == request(ATTACK)


async def test_observed_means_it_is_told_and_nothing_changes() -> None:
    with pytest.raises(ContentBlocked):  # the loop that runs the stages lets it go on
        await stage("observe").check(request(ATTACK))
    judged = await stage("observe", xss="sanitize").check(request(ATTACK))
    assert judged.message.text == ATTACK
    assert judged.verdict.flags == ("xss",)


async def test_a_site_of_another_mode_is_not_judged() -> None:
    other = Content({"shop": ContentSettings(mode="observe")}, "enforce", DETECTOR)
    assert await other.check(request(ATTACK)) == request(ATTACK)


async def test_the_audit_event_has_rules_and_scores_and_no_word_of_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sidegate.audit")
    with pytest.raises(ContentBlocked):
        await stage().check(request(ATTACK))
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert record.message == "CONTENT"
    assert fields["action"] == "block"
    assert fields["parts"]["xss-script-first"] == 1.0
    assert "alert" not in str(fields)


async def test_what_is_no_detection_is_no_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidegate.audit")
    judged = await stage().check(request("£500 for it?"))
    assert judged.verdict.scores == {"spam": 0.2}
    assert caplog.records == []


async def test_a_program_that_says_so_is_named_to_the_upstream() -> None:
    judged = await stage().check(request("where is my parcel?", user_agent="curl/8.5.0"))
    assert judged.verdict.flags == ("bot",)


def test_below_the_threshold_a_score_is_told_and_nothing_happens() -> None:
    finding = weigh("text", Judgement({"xss": 0.9}), RuleSettings().actions())
    assert (finding.action, finding.scores, finding.flags) == ("allow", {"xss": 0.9}, ())
