"""n8n's chat frames: what is one, what is only a text, and which links belong to an execution."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import BadRequest, UpstreamError
from proxy.wire import waiting
from proxy.wire.waiting import Beat, Button, Failed, Frame, GoOn, Said

LINK = "https://n8n.example/webhook-waiting/49/n-1?approved=true&signature=ab"
BUTTONS = '{"type":"with-buttons","text":"Ok?","blockUserInput":true,"buttons":[{"text":"Yes","link":"/l","type":%s}]}'


@pytest.mark.parametrize(
    ("frame", "read"),
    [
        ("n8n|heartbeat", Beat("n8n|heartbeat-ack")),
        ('{"type":"heartbeat"}', Beat('{"type":"heartbeat-ack"}')),
        ("n8n|continue", GoOn()),
        ('{"type":"continue"}', GoOn()),
        ('{"type":"error","message":"inner"}', Failed()),
        ('{"type":"message","text":"hi \\ud83d"}', Said("hi \ufffd")),
        ('{"type":"message","text":1}', Said('{"type":"message","text":1}')),
        ("What is your name?", Said("What is your name?")),
        ("[1]", Said("[1]")),
        (BUTTONS % '"secondary"', Said("Ok?", (Button("Yes", "/l", "secondary"),), True)),
        (BUTTONS % '"x\\" onclick"', Said("Ok?", (Button("Yes", "/l"),), True)),
        (BUTTONS % "[]", Said("Ok?", (Button("Yes", "/l"),), True)),
        ('{"type":"with-buttons","text":"Ok?","buttons":[{"text":1,"link":"/l"},"x"]}', Said("Ok?")),
    ],
)
def test_a_frame_is_what_n8n_means_by_it(frame: str, read: Frame) -> None:
    assert waiting.read(frame) == read


def test_there_are_at_most_so_many_buttons() -> None:
    buttons = [{"text": str(number), "link": "/l"} for number in range(1000)]
    said = waiting.read(orjson.dumps({"type": "with-buttons", "text": "", "buttons": buttons}).decode())
    assert isinstance(said, Said)
    assert len(said.buttons) == waiting.MAX_BUTTONS


def test_a_question_is_written_as_n8n_writes_it() -> None:
    said = Said("Ok?", (Button("Yes", "/l", "secondary"),), is_closed=True)
    assert waiting.read(waiting.write(said)) == said
    assert waiting.write(Said("Ok?", (), is_closed=True)) == "Ok?"  # nothing is left to press, so typing must do


@settings(deadline=None)
@given(
    st.one_of(
        st.text(),
        st.sampled_from(["n8n|heartbeat", "n8n|continue", '{"type":"continue"}', ' \n{"type":"with-buttons"}']),
        st.recursive(st.none() | st.text(), lambda value: st.dictionaries(st.text(), value)).map(json.dumps),
    )
)
def test_whatever_a_text_is_it_stays_a_text(text: str) -> None:
    written = waiting.write(Said(text))
    assert waiting.read(written) == Said(text)
    if written == text:
        with pytest.raises((ValueError, AttributeError, TypeError)):  # what the widget would look at
            json.loads(written)["type"]


def test_a_failure_is_a_frame_that_the_widget_shows() -> None:
    frame = orjson.loads(waiting.failure(UpstreamError("inner-secret"), "r1"))
    assert frame == {
        "type": "error",
        "message": "The assistant failed to answer.",
        "code": "upstream_error",
        "request_id": "r1",
    }


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        ("n8n|heartbeat-ack", None),
        ('{"type":"heartbeat-ack"}', None),
        ('{"sessionId":"x","action":"sendMessage","chatInput":"Bob","files":[]}', "Bob"),
        ('{"action":"sendMessage","chatInput":""}', ""),
    ],
)
def test_what_the_visitor_types(frame: str, text: str | None) -> None:
    assert waiting.answer(frame) == text


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "Bob",
        "[]",
        '{"action":"loadPreviousSession","chatInput":"x"}',
        '{"action":"sendMessage"}',
        '{"action":"sendMessage","chatInput":["x"]}',
        '{"action":"sendMessage","chatInput":"x","files":[{"name":"a"}]}',
    ],
)
def test_other_frames_of_a_visitor_are_refused(frame: str) -> None:
    with pytest.raises(BadRequest):
        waiting.answer(frame)


@pytest.mark.parametrize(
    ("link", "place"),
    [
        (LINK, "49/n-1?approved=true&signature=ab"),
        ("/webhook-waiting/49?x=1", "49?x=1"),
        ("https://h/prefix/webhook-waiting/49/n-1", "49/n-1?"),
        (LINK.replace("/49/", "/50/"), None),
        (LINK.replace("/49/", "/49/../"), None),
        (LINK.replace("/n-1", "/n-1/more"), None),
        (LINK.replace("webhook-waiting", "form-waiting"), None),
        (LINK + "\r\nX: y", None),
        (LINK + '&a="', None),
        (LINK + "&a=" + "x" * 1000, None),
        ("https://[", None),
        ("javascript:alert(1)", None),
        ("", None),
    ],
)
def test_only_a_link_to_that_execution_has_a_place(link: str, place: str | None) -> None:
    assert waiting.place(link, "49") == place


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"executionStarted": True, "executionId": "49", "resumeToken": "ab"}, ("49", "ab")),
        ({"executionStarted": True, "executionId": 49}, ("49", "")),
        ({"executionStarted": True, "executionId": "4/9", "resumeToken": "ab"}, None),
        ({"executionStarted": True, "executionId": "49", "resumeToken": None}, None),
        ({"executionStarted": True, "executionId": "49", "resumeToken": "a b"}, None),
        ({"executionStarted": 1, "executionId": "49"}, None),
        ([], None),
    ],
)
def test_an_execution_that_waits_says_so(document: object, found: tuple[str, str] | None) -> None:
    assert waiting.waiting_execution(document) == found
