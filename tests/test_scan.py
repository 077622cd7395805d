"""`sidegate scan`: one text explained, many answered line by line, labelled sets measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.__main__ import main
from proxy.guard.content import ContentSettings
from proxy.rates import NoSets, rates
from proxy.scan import ALONE, BATCH, MAX_LINE_BYTES, SHOWN_CHARS, Scanner, shown

ATTACK = "<script>alert('x')</script>"


def run(*args: str, text: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["scan", *args], input=text)


def answers(*rows: dict[str, Any], args: tuple[str, ...] = ()) -> list[dict[str, Any]]:  # Any: JSON
    result = run("--jsonl", "-", *args, text="".join(f"{json.dumps(row)}\n" for row in rows))
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_a_text_is_explained_hit_by_hit() -> None:
    result = run(f"look: {ATTACK}")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "block"
    assert lines[1].startswith("  xss ")
    assert lines[1].endswith("(detected)")
    assert any(line.startswith("    xss-script-acts 1 at 6-20: A script element") for line in lines)
    assert any("<script>alert(" in line for line in lines)


def test_what_would_be_masked_is_told_by_place() -> None:
    assert run("mail ann@shop-mail.com").output == "allow\n  masked: email at 5-22\n"


def test_what_is_refused_is_still_told_to_hold_personal_data() -> None:
    (row,) = answers({"text": f"{ATTACK} ann@shop-mail.com"})
    assert (row["action"], row["text"], [span["kind"] for span in row["masked"]]) == ("block", "", ["email"])


@pytest.mark.parametrize(
    ("pii", "masked", "text"),
    [
        ("{mode: mask}", 1, "mail [EMAIL]"),
        ("{mode: off}", 0, "mail ann@shop-mail.com"),
        ("{kinds: [card]}", 0, "mail ann@shop-mail.com"),
    ],
)
def test_masking_is_what_the_configuration_says(tmp_path: Path, pii: str, masked: int, text: str) -> None:
    (tmp_path / "sidegate.yaml").write_text(
        f"environment: development\nupstreams: {{u: {{kind: echo}}}}\nsites: {{a: {{}}}}\ncontent: {{pii: {pii}}}\n"
    )
    (row,) = answers({"text": "mail ann@shop-mail.com"}, args=("--config", str(tmp_path / "sidegate.yaml")))
    assert (len(row["masked"]), row["text"]) == (masked, text)


def test_a_score_below_the_threshold_is_no_detection() -> None:
    assert run("it was £500").output.splitlines()[1] == "  spam 0.2"


def test_each_category_has_its_own_hits() -> None:
    output = run("'; drop table users-- <script>alert(1)</script>").output
    assert output.index("  sql_injection") != output.index("  xss")
    assert output.count("xss-script-acts") == 1


def test_a_file_is_scanned(tmp_path: Path) -> None:
    (tmp_path / "text").write_text(ATTACK)
    assert run("--file", str(tmp_path / "text")).output.startswith("block\n")


def test_each_line_has_its_answer_in_order() -> None:
    plain, attack, mail = answers({"text": "hello"}, {"text": ATTACK, "id": 7}, {"text": "mail ann@shop-mail.com"})
    assert plain == {"action": "allow", "scores": {}, "flags": [], "masked": [], "text": "hello"}
    assert (attack["action"], attack["text"], attack["masked"]) == ("block", "", [])
    assert attack["scores"]["xss"] >= 1
    assert mail["masked"] == [{"start": 5, "end": 22, "kind": "email"}]
    assert mail["text"] == "mail [EMAIL_1]"


def test_every_line_is_a_visitor_of_its_own() -> None:
    one, other = answers({"text": "mail ann@shop-mail.com"}, {"text": "mail bob@shop-mail.com"})
    assert one["text"] == other["text"] == "mail [EMAIL_1]"


def test_lines_come_from_a_file_too_and_empty_ones_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text('{"text": "a"}\n\n{"text": "b"}\n')
    assert len(run("--jsonl", str(tmp_path / "rows")).output.splitlines()) == 2


@pytest.mark.parametrize("line", ["no json", "[1]", '{"words": "x"}', '{"text": 1}', "x" * (MAX_LINE_BYTES + 1)])
def test_a_line_that_cant_be_read_ends_it_with_its_number(line: str) -> None:
    result = run("--jsonl", "-", text=f'{{"text": "a"}}\n{line}\n')
    assert result.exit_code == 1
    assert "line 2: write an object such as" in result.output


def test_many_lines_are_shared_among_processes_and_stay_in_order(tmp_path: Path) -> None:
    """With the settings of the site in all of them."""
    config = tmp_path / "sidegate.yaml"
    config.write_text(
        "environment: development\nupstreams: {e: {kind: echo}}\ncontent: {rules: {xss: flag}}\nsites: {a: {}}"
    )
    count = 3 * ALONE * BATCH + 7
    rows = [{"text": f"{number} {ATTACK}"} for number in range(count)]
    assert [row["text"] for row in answers(*rows, args=("--config", str(config)))] == [row["text"] for row in rows]


def test_a_bad_line_far_down_ends_it_behind_all_before_it() -> None:
    good = 2 * ALONE * BATCH + 3
    result = run("--jsonl", "-", text='{"text": "a"}\n' * good + "nothing\n" + '{"text": "a"}\n' * BATCH)
    assert result.exit_code == 1
    *answered, told = result.output.splitlines()
    assert len(answered) == good
    assert told.startswith(f"Error: line {good + 1}: ")


def test_a_sites_own_rules_apply(tmp_path: Path) -> None:
    path = tmp_path / "sidegate.yaml"
    text = "environment: development\nupstreams: {e: {kind: echo}}\ncontent: {rules: {xss: flag}}\nsites: {"
    path.write_text(text + "a: {page: true}}\n")
    (row,) = answers({"text": ATTACK}, args=("--config", str(path)))
    assert (row["action"], row["flags"], row["text"]) == ("allow", ["xss"], ATTACK)
    path.write_text(text + "a: {page: true}, b: {content: {rules: {xss: sanitize}}}}\n")
    (row,) = answers({"text": ATTACK}, args=("--config", str(path), "--site", "b"))
    assert (row["action"], row["text"]) == ("sanitize", "&lt;script&gt;alert('x')&lt;/script&gt;")
    assert "--site has to be one of a, b" in run("x", "--config", str(path)).output


def test_what_cant_be_meant_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sidegate.yaml"
    path.write_text("nonsense: 1\n")
    assert run().exit_code == 2
    assert run("x", "--file", str(path)).exit_code == 2
    assert "--site needs --config" in run("x", "--site", "a").output
    assert "nonsense" in run("x", "--config", str(path)).output


def test_sets_are_measured(tmp_path: Path) -> None:
    rows = [
        {"text": ATTACK, "label": "block", "category": "xss", "accept": ["block", "neutralise"]},
        {"text": "hello", "label": "block", "category": "xss"},
        {"text": "hello", "label": "allow", "category": "chat", "subset": "normal"},
        {"text": "hello", "label": "grey", "category": "chat"},
        {"text": "mail ann@shop-mail.com", "label": "mask", "category": "p", "spans": [[5, 22, "EMAIL"], [0, 1, "X"]]},
        {"text": "mail ann@shop-mail.com", "label": "mask", "category": "mail"},
        {"text": "Congratulations! You have won, call 09012345678", "label": "block", "category": "spam"},
        {"text": "curl/8.5.0", "label": "block", "category": "bot_ua"},
        {"text": "curl/8.5.0", "label": "grey", "category": "bot_ua"},
    ]  # fmt: skip
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "pii_chat.jsonl").write_text(
        json.dumps({"text": "ann@shop-mail.com", "label": "allow", "category": "n"})
    )
    (tmp_path / "http_x.jsonl").write_text("not read")
    result = run("--corpus", str(tmp_path))
    assert result.exit_code == 0, result.output
    measured = {tuple(line.split()) for line in result.output.splitlines()[1:]}
    assert measured == {
        ("chat", "xss", "found", "2", "1", "50.0"),
        ("chat", "normal", "false", "1", "0", "0.0"),
        ("chat", "email", "masked", "1", "1", "100.0"),
        ("chat", "mail", "masked", "1", "1", "100.0"),
        ("chat", "spam", "found", "1", "1", "100.0"),
        ("chat", "bot_ua", "found", "1", "1", "100.0"),
        ("pii_chat", "n", "false", "1", "1", "100.0"),
    }


def test_neutralised_counts_where_a_row_says_so(tmp_path: Path) -> None:
    row = {"text": ATTACK, "label": "block", "category": "xss", "accept": ["neutralise"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    scanner = Scanner(ContentSettings.model_validate({"rules": {"xss": "sanitize"}}))
    assert [rate.percent for rate in rates(tmp_path, scanner.judge)] == [100.0]


def test_a_folder_without_sets_is_an_error(tmp_path: Path) -> None:
    assert "no labelled sets" in run("--corpus", str(tmp_path)).output
    with pytest.raises(NoSets):
        rates(tmp_path, Scanner(ContentSettings()).judge)


def test_what_is_shown_fits_a_terminal() -> None:
    assert shown("a\x1b[31m\u202eb") == "'a\\x1b[31m\\u202eb'"
    assert len(shown("x" * 200)) == SHOWN_CHARS
