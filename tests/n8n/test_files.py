"""Files reach a real n8n as files, through Sidegate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import forms
from tests.n8n.n8n import N8n
from tests.n8n.sidegate import sidegate

pytestmark = pytest.mark.n8n


async def test_a_workflow_gets_the_text_and_every_file(n8n: N8n, tmp_path: Path) -> None:
    body = forms.said(
        forms.file(b"x" * 200_000, "Gr\u00fc\u00dfe.txt"), forms.file(forms.png(), "a.png", "image/png"), message="Look"
    )
    webhook = f"http://127.0.0.1:{n8n.port}/webhook/files"
    async with sidegate(webhook, tmp_path) as server, server.browser() as browser:
        answer = await browser.send(body, forms.CONTENT_TYPE)
    assert answer.startswith("Look Gr\u00fc\u00dfe.txt text/plain 200 kB a.png image/png ")
