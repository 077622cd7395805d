"""Executions that wait, as their browsers carry them: sealed, and good for what they were made for alone."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model import Execution, Session
from proxy.streams.executions import Begun, Executions, Press, digest_of
from proxy.streams.seal import Sealer

SESSION = Session("s1", "shop", "a.b", 1000.5, "key:bot", "api_key:bot", 7, True)
BEGUN = Begun(SESSION, "browser 192.0.2.0/24", digest_of("v1"), "https://chat.example", Execution("up", "49", "t0"))
PRESS = Press(BEGUN, "Approve", "49/n-1?approved=true&signature=ab")
MINE = Executions(Sealer(b"a secret that two replicas share"))


def end(link: str) -> str:
    assert link.startswith("https://chat.example/webhook-waiting/")
    return link.rpartition("/")[2]


def test_another_replica_reads_all_of_it() -> None:
    other = Executions(Sealer(b"a secret that two replicas share"))
    assert other.begun(MINE.token(BEGUN)) == BEGUN
    assert other.press(end(MINE.link(PRESS))) == PRESS


def test_with_another_key_it_is_nothing() -> None:
    other = Executions(Sealer(b"another secret"))
    assert other.begun(MINE.token(BEGUN)) is None
    assert other.press(end(MINE.link(PRESS))) is None


def test_a_token_is_no_link_and_a_link_no_token() -> None:
    assert MINE.press(MINE.token(BEGUN)) is None
    assert MINE.begun(end(MINE.link(PRESS))) is None


def test_nothing_shows_of_what_is_in_it() -> None:
    token = MINE.token(BEGUN)
    sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert not any(part in sealed for part in (b"shop", b"execution", b"chat.example"))
    assert token != MINE.token(BEGUN)


@settings(deadline=None)
@given(st.data())
def test_a_changed_one_is_nothing(data: st.DataObject) -> None:
    token = MINE.token(BEGUN)
    at = data.draw(st.integers(0, len(token) - 1))
    put = data.draw(st.text(max_size=2))
    changed = token[:at] + put + token[at + 1 :]
    assert (MINE.begun(changed) is None) is (changed != token)


@pytest.mark.parametrize("text", ["", "A", "====", "ü", "\ud800", "A" * 100_000])
def test_rubbish_is_nothing(text: str) -> None:
    assert MINE.begun(text) is None
    assert MINE.press(text) is None


def test_one_token_has_one_spelling() -> None:
    token = MINE.token(BEGUN)
    assert [MINE.begun(other) for other in (token + "=", token + "==", f" {token}", f"{token}\n")] == [None] * 4
