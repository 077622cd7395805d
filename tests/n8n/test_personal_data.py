"""What a visitor types of personal data is nowhere in a real n8n: not in its records and files, nor at its model."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from tests.n8n.fake_llm import FakeLlm, Plan
from tests.n8n.n8n import N8n
from tests.n8n.sidegate import sidegate

pytestmark = pytest.mark.n8n

CARD, MAIL = "4556 7375 8689 9855", "ann.visitor@shop-mail.org"
TEXT = f"Charge my card {CARD} and send the receipt to {MAIL}"
MASKED = "Charge my card [CARD_1] and send the receipt to [EMAIL_1]"
ANSWER = Plan(tokens=("The receipt for [CA", "RD_1] went to ", "[EMAIL", "_1", "]", ", as you wished."))


def executions(n8n: N8n) -> list[str]:
    """What n8n keeps of each finished execution: every node's input and output."""
    with contextlib.closing(sqlite3.connect(n8n.home / ".n8n/database.sqlite")) as database:
        found = database.execute(
            "SELECT data FROM execution_data JOIN execution_entity ON executionId = id WHERE finished ORDER BY id"
        )
        return [data for (data,) in found]


async def kept(n8n: N8n, known: int, number: int) -> list[str]:
    """So many executions since `known`, once n8n has written them."""
    give_up = time.monotonic() + 30
    while len(found := await asyncio.to_thread(executions, n8n)) < known + number:
        assert time.monotonic() < give_up, "n8n kept no record"
        await asyncio.sleep(0.1)
    return found[known:]


def holding(folder: Path, words: list[bytes]) -> list[str]:
    """Files in which any of the words is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(word in path.read_bytes() for word in words)]


async def test_card_and_address_are_nowhere_in_n8n_and_the_visitor_alone_reads_them(
    n8n: N8n, llm: FakeLlm, tmp_path: Path
) -> None:
    llm.plan = ANSWER
    known = len(executions(n8n))
    async with sidegate(n8n.webhook("sidegate-chat"), tmp_path) as server:
        async with server.browser() as visitor, server.browser() as stranger:
            answer = await visitor.ask(TEXT)
            assert answer.text == f"The receipt for {CARD} went to {MAIL}, as you wished."
            told = await stranger.ask("Where did the receipt of [CARD_1] go?")
            assert told.text == "The receipt for [CARD_1] went to [EMAIL_1], as you wished."
            again = await visitor.ask("Once more, please")
            assert again.text == answer.text
        records = await kept(n8n, known, 3)
    assert [seen.prompt for seen in llm.seen] == [
        MASKED,
        "Where did the receipt of [LITERAL_1] go?",
        "Once more, please",
    ]
    assert MASKED in records[0]  # so the records are those of these messages, and legible
    words = [MAIL, "ann.visitor", CARD, CARD.replace(" ", "")]
    assert [word for word in words for record in records if word in record] == []
    assert await asyncio.to_thread(holding, n8n.home, [word.encode() for word in words]) == []
    assert [word for word in words if word in server.log.read_text()] == []
    assert '"kinds":{"card":1,"email":1}' in server.log.read_text()
