"""What configuration is made of: secrets that don't show, files that are read within bounds, plain YAML."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path

import orjson
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy import config
from proxy.config import (
    ConfigError,
    Place,
    Problem,
    Secret,
    Section,
    Tree,
    parse_yaml,
    read_secret,
    read_text,
    read_tree,
)

WORD = "hunter2-hunter2"


class Holder(Section):
    secret: Secret | None = None


def read(text: str) -> tuple[object, dict[Place, str]]:
    problems: dict[Place, str] = {}
    return parse_yaml(text, problems.__setitem__), problems


def test_a_secret_shows_nowhere_but_where_it_is_asked_for() -> None:
    secret = Secret(WORD)
    holder = Holder(secret=secret)
    shown = [
        *(repr(secret), str(secret), f"{secret}", f"{[secret]!r}", repr(holder), str(holder)),
        *(holder.model_dump_json(), json.dumps(holder.model_dump(mode="json")), repr(holder.model_dump())),
        orjson.dumps({"it": secret}, default=str).decode(),
    ]
    assert not [text for text in shown if "hunter2" in text]
    assert secret.reveal() == WORD


def test_a_secret_is_not_dumped_by_accident() -> None:
    secret = Secret(WORD)
    for dump in (orjson.dumps, json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            dump(secret)
    assert not hasattr(secret, "__dict__")


def test_secrets_are_equal_when_what_they_hold_is() -> None:
    assert Secret(WORD) == Secret(WORD)
    assert hash(Secret(WORD)) == hash(Secret(WORD))
    assert Secret(WORD) != Secret("another")
    assert Secret(WORD) != WORD
    assert Secret("ключ").matches("ключ")
    assert not Secret(WORD).matches(WORD + " ")


def test_copies_of_a_section_share_its_secret() -> None:
    holder = Holder(secret=Secret(WORD))
    assert copy.copy(holder.secret) is holder.secret
    assert holder.model_copy(deep=True).secret is holder.secret


def test_a_section_takes_a_secret_and_no_text_for_it() -> None:
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"secret": WORD})
    assert "hunter2" not in str(caught.value)


def test_a_section_takes_no_infinite_number() -> None:
    class Times(Section):
        wait: float

    with pytest.raises(ValidationError):
        Times(wait=float("inf"))


def test_the_schema_of_a_secret_says_how_one_is_written() -> None:
    schema = Holder.model_json_schema()["properties"]["secret"]
    forms = next(form for form in schema["anyOf"] if "oneOf" in form)["oneOf"]
    assert [form["required"] for form in forms] == [["file"], ["env"]]


def test_an_error_holds_all_problems_once_and_says_one_a_line() -> None:
    error = ConfigError([Problem("a.b", "wrong"), Problem("c", "missing"), Problem("a.b", "wrong")])
    assert str(error) == "a.b: wrong\nc: missing"
    assert len(error.problems) == 2


def test_the_environment_is_the_process_own() -> None:
    assert config.environment() is os.environ


@pytest.mark.parametrize(
    ("written", "meant"), [("abc\n", "abc"), ("abc\r\n", "abc"), ("a\nb\n\n", "a\nb\n"), ("a ", "a ")]
)
def test_one_line_end_is_not_part_of_a_secret(tmp_path: Path, written: str, meant: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(written.encode())
    assert read_secret(file).reveal() == meant


def test_an_empty_secret_is_none(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ValueError, match="key is empty; write the secret into it"):
        read_secret(tmp_path / "key")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}/key can't be read: No such file or directory; check the path"):
        read_secret(tmp_path / "key")


def test_a_file_that_belongs_to_somebody_else_is_explained(tmp_path: Path) -> None:
    class Locked(type(Path())):  # type: ignore[misc]  # the platform's Path; root, who may run this, is never refused
        def open(self, *args: object, **more: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

    with pytest.raises(ValueError, match=rf"permission denied for uid {os.getuid()}.*\(chown\).*chmod 0440"):
        read_secret(Locked("key"))


def test_a_file_name_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        read_text(Path("a\0b"), 10)


def test_a_file_that_is_too_large_is_not_read_to_its_end() -> None:
    with pytest.raises(ValueError, match="/dev/zero is larger than 10 bytes"):
        read_text(Path("/dev/zero"), 10)


def test_a_file_may_be_as_large_as_the_bound(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a" * 10)
    assert read_text(tmp_path / "key", 10) == "a" * 10


def test_a_file_that_is_not_text_is_refused_without_quoting_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"hunter2\xff")
    with pytest.raises(ValueError, match=r"is not UTF-8 text \(byte 7\)") as caught:
        read_secret(tmp_path / "key")
    assert "hunter2" not in str(caught.value)


def test_plain_yaml_is_read() -> None:
    text = """
    a: {b: [1, -2.5, 1e3, true, false, null, ~, "3", 'true', text]}
    block: |
      two
      lines
    empty:
    """
    values, problems = read(text)
    block = {"block": "two\nlines\n", "empty": None}
    assert values == {"a": {"b": [1, -2.5, 1000.0, True, False, None, None, "3", "true", "text"]}} | block
    assert problems == {}


def test_words_that_older_yaml_takes_for_something_else_stay_words() -> None:
    values, _ = read(
        "{off: off, country: no, octal: 010, time: 1:30, hex: 0x1f, day: 2027-01-01, long: 1234567890123456789}"
    )
    assert values == {
        **{"off": "off", "country": "no", "octal": "010", "time": "1:30", "hex": "0x1f", "day": "2027-01-01"},
        "long": "1234567890123456789",
    }


def test_a_key_is_a_word_whatever_it_looks_like() -> None:
    assert read("{1: a, true: b, null: c}")[0] == {"1": "a", "true": "b", "null": "c"}


def test_a_key_that_is_written_twice_is_reported_with_its_line() -> None:
    values, problems = read("a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert values == {"a": {"b": 1, "c": 2}}
    assert problems == {("a", "b"): "written twice, the second time in line 4; keep one of them"}


def test_a_key_that_is_no_word_is_reported() -> None:
    assert read("? [a, b]\n: c")[1] == {(): "the key in line 1 is not a word; write NAME: VALUE"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "line 1, column 9"),
        ("a: b: c", "line 1, column 5"),
        ("a:\n\t- b", "line 2, column 1"),
        ("a: &x [1]\nb: *x", "line 1, column 4: anchors and aliases are not allowed"),
        ("b: *hunter2", "line 1, column 4: anchors and aliases are not allowed"),
        ("a: !!python/object:os.system x", "line 1, column 4: tags are not allowed"),
        ("a: !hunter2!word x", "line 1, column 4: found undefined tag handle$"),
        ("a: 1\n---\nb: 2", "line 2, column 1"),
        ("[" * 200, "line 1, column 25: nested too deeply"),
        ("a: \x07", "character number 4 is not allowed"),
        (r'a: "\U00110000"', "stands for no character"),
        (r'a: "\UFFFFFFFF"', "stands for no character"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_place_and_without_its_text(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read(text)
    assert "hunter2" not in str(caught.value)


def test_an_error_without_a_place_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise yaml.MarkedYAMLError

    monkeypatch.setattr(yaml.composer.Composer, "get_single_node", fail)
    with pytest.raises(ValueError, match="not valid YAML at its beginning: unreadable"):
        read("a: b")


def test_half_a_character_is_reported() -> None:
    assert read(r'a: ["\ud800"]')[1].keys() == {("a", 0)}
    assert read(r'a: {"\ud800": b}')[1].keys() == {("a",)}
    assert read(r'a: "\ud83d\ude00"') == ({"a": "\N{GRINNING FACE}"}, {})


def test_text_with_half_a_character_is_no_text() -> None:
    assert config.is_text("ключ \N{GRINNING FACE}")
    assert not config.is_text(b"\xff".decode(errors="surrogateescape"))


def test_an_empty_document_is_nothing() -> None:
    assert read("# a comment\n") == (None, {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc-_ .", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_is_yaml(value: object) -> None:
    assert read(json.dumps(value)) == (value, {})


@given(st.text())
@example("%YAML 1.1\n---\na")
@example("!<tag:yaml.org,2002:int> x")
@example('"\\x')
@example("- " * 50)
def test_any_text_is_read_or_refused(text: str) -> None:
    said = "not valid YAML"
    try:
        read(text)
    except ValueError as error:
        said = str(error)
    assert said.startswith("not valid YAML")


def test_no_file_is_an_empty_tree() -> None:
    assert read_tree(None) == Tree()


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}"])
def test_an_empty_file_is_an_empty_tree(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    tree = read_tree(tmp_path / "a.yaml")
    assert (tree.values, tree.problems, tree.base, tree.is_readable) == ({}, [], tmp_path, True)


@pytest.mark.parametrize(
    ("text", "said"), [("- a", "not a mapping"), ("a", "not a mapping"), ("a: [", "not valid YAML at")]
)
def test_a_file_that_holds_no_settings_is_one_problem_under_its_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    tree = read_tree(path)
    assert not tree.is_readable
    assert [(problem.path, said in problem.text) for problem in tree.problems] == [(str(path), True)]


def test_a_file_larger_than_a_megabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("#" * (config.MAX_FILE_BYTES + 1))
    assert "larger than 1048576 bytes" in read_tree(path).problems[0].text


def test_a_tree_is_written_and_read_by_place() -> None:
    tree = Tree()
    tree.put(("a", "b"), [1, {"c": 2}])
    tree.put(("a", "b", 1, "d"), 3, "VARIABLE")
    tree.put(("a", "b", 2, "e"), 4)
    tree.put(("a", "b", 0, "f"), "not possible below a number")
    assert tree.values == {"a": {"b": [1, {"c": 2, "d": 3}, {"e": 4}]}}
    assert tree.get(("a", "b", 1, "d")) == 3
    assert [tree.get(place) for place in (("x",), ("a", "b", 9), ("a", "b", "c"), ("a", "b", 0, "f"))] == [None] * 4


def test_what_was_left_out_of_a_tree_is_gone() -> None:
    tree = Tree({"a": {"b": [1, 2]}, "c": None})
    assert tree.drop(("a", "b", 0))
    assert tree.drop(("c",))
    assert [tree.drop(place) for place in (("c",), ("a", "b", 1), ("a", "b", "x"), ("a", "b", 0, "x"))] == [False] * 4
    assert tree.values == {"a": {"b": [2]}}


def test_a_problem_names_the_setting_and_the_variable_that_set_it() -> None:
    tree = Tree(sources={("limits", 2): "SIDEGATE__LIMITS__2"})
    tree.report(("limits", 2, "per"), "wrong")
    tree.report(("limits", 1, "per"), "wrong")
    assert [problem.path for problem in tree.problems] == ["limits[2].per (SIDEGATE__LIMITS__2)", "limits[1].per"]
    assert tree.reported == {("limits", 2, "per"), ("limits", 1, "per")}


@pytest.mark.parametrize("key", ["key:hunter2", "=hunter2", "key hunter2"])
def test_a_key_that_may_be_a_secret_is_not_shown_in_full(key: str) -> None:
    assert "hunter2" not in Tree().show(("session", key))


def test_a_tree_does_not_show_what_it_holds() -> None:
    assert "hunter2" not in repr(Tree({"key": "hunter2"}))


@pytest.mark.parametrize(
    ("name", "before", "said"),
    [
        ("max_char", "", "no such name; did you mean max_chars?"),
        ("max_char", "SIDEGATE__CONTENT__", "no such name; did you mean SIDEGATE__CONTENT__MAX_CHARS?"),
        ("xyz", "", "no such name; possible are max_chars, mode"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(name: str, before: str, said: str) -> None:
    assert config.unknown(name, ["mode", "max_chars"], before) == said
