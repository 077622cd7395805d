"""docs/detection.md's figures are made, not written."""

from __future__ import annotations

from proxy.rates import Rate
from scripts.detection_page import BEGIN, END, PAGE, Tables, page

README = """
### Recall %, web attacks (rows labelled block)
| set | n | peer |
|---|---|---|
| LFI: PATT | 700 | 12.5 |
"""


def test_our_rates_stand_beside_the_peers() -> None:
    text = page([Rate("lfi_patt", "lfi", "found", 3, 4)], Tables(README))
    assert "| set | rows | Sidegate | peer |" in text
    assert "| LFI: PATT | 4 | **75.0** | 12.5 |" in text


def test_without_the_peers_table_ours_stands_alone() -> None:
    text = page([Rate("pi_patt", "injection", "found", 1, 2)], Tables(""))
    assert "| pi_patt | 2 | **50.0** |" in text


def test_the_page_has_a_place_for_them() -> None:
    text = PAGE.read_text()
    assert text.index(BEGIN) < text.index(END)
