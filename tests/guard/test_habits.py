"""What a session's way of writing says of who writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.guard.habits import HONEYPOT, MAX_SESSIONS, WITHIN, Habits
from proxy.model import Message, Session
from tests.clients import Clock, request

CURL = "curl/8.5.0"


def hits(habits: Habits, text: str = "where is my parcel now", user_agent: str = "Mozilla/5.0") -> dict[str, float]:
    return {hit.rule: hit.weight for hit in habits.judge(request(text, user_agent=user_agent)).hits}


def test_a_person_has_no_habits_worth_a_word() -> None:
    clock = Clock()
    habits = Habits(clock)
    for text in ("hello", "where is my parcel?", "it was sent on Monday", "thank you", "thank you"):
        assert hits(habits, text) == {}
        clock.advance(8)


def test_a_program_that_says_who_it_is_is_believed() -> None:
    assert hits(Habits(Clock()), user_agent=CURL) == {"bot-agent": 1.0}
    assert hits(Habits(Clock()), user_agent="") == {"bot-agent": 0.5}


def test_who_fills_in_the_hidden_field_saw_no_page() -> None:
    filled = replace(request(), message=Message("hi", {HONEYPOT: "x"}))
    left = replace(request(), message=Message("hi", {HONEYPOT: ""}))
    assert Habits(Clock()).judge(filled).scores == {"bot": 1.0}
    assert Habits(Clock()).judge(left).scores == {}


def test_saying_the_same_again_and_again_is_spam() -> None:
    clock = Clock()
    habits = Habits(clock)
    scores = []
    for number in range(4):
        scores.append(hits(habits, f"buy our wonderful golden rings {number}").get("spam-repeated", 0.0))
        clock.advance(5)
    assert scores == pytest.approx([0.0, 0.4, 0.8, 1.2])


def test_after_a_while_it_is_no_repetition() -> None:
    clock = Clock()
    habits = Habits(clock)
    hits(habits)
    clock.advance(WITHIN + 1)
    assert hits(habits) == {}


def test_other_sessions_repeat_nothing() -> None:
    habits = Habits(Clock())
    hits(habits)
    other = replace(request("where is my parcel now"), session=Session("s2", "shop", "", 2e9))
    assert habits.judge(other).scores == {}


def test_three_messages_within_two_seconds_are_a_programs() -> None:
    clock = Clock()
    habits = Habits(clock)
    found = []
    for text in ("one two three", "four five six", "seven eight nine"):
        found.append(hits(habits, text))
        clock.advance(0.5)
    assert found == [{}, {}, {"bot-haste": 0.5}]


def test_only_the_sessions_that_wrote_last_are_remembered() -> None:
    habits = Habits(Clock())
    for number in range(MAX_SESSIONS + 5):
        habits.judge(replace(request("hello there you"), session=Session(f"s{number}", "shop", "", 2e9)))
    assert len(habits._sessions) == MAX_SESSIONS
