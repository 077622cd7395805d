"""Programs that say who they are."""

from __future__ import annotations

import pytest

from proxy.content.bots import NAMELESS, agent_score


@pytest.mark.parametrize("agent", ["curl/8.5.0", "python-requests/2.32", "Mozilla/5.0 (compatible; Googlebot/2.1)"])
def test_a_program_is_known_by_its_name(agent: str) -> None:
    assert agent_score(agent) == 1.0


def test_a_browser_is_none() -> None:
    assert agent_score("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0") == 0.0


def test_no_name_is_a_hint() -> None:
    assert agent_score(" ") == NAMELESS


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert agent_score("\udcff") == 0.0
