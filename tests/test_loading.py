"""How variables and secrets get into a tree, and how whatever is wrong with it is told, on a tree made for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, model_validator

from proxy.config import ConfigError, Problem, Secret, Section, Tree, parse_yaml
from proxy.forms import describe, field_form
from proxy.loading import Rules, apply_environment, validate


def _no_five(value: int) -> int:
    if value == 5:
        raise ValueError("five is taken; write another number")
    return value


def _long(secret: Secret) -> Secret:
    if len(secret.reveal()) < 4:
        raise ValueError(f"{secret.reveal()} is too short")
    return secret


class Rule(Section):
    name: str
    limit: Annotated[int, Field(ge=1, le=10)] = 3


class Header(Section):
    kind: Literal["header"]
    value: Secret


class Basic(Section):
    kind: Literal["basic"]
    user: Annotated[str, Field(max_length=5, pattern="^[a-z]+$")]


class Bounds(Section):
    low: float = 1
    high: float = 2

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.low > self.high:
            raise ValueError("low is above high; change one of them")
        return self


class Inner(Section):
    text: str = "text"
    count: Annotated[int, AfterValidator(_no_five)] = 1
    wait: Annotated[float, Field(gt=0, lt=10)] = 1
    on: bool = False
    mode: Literal["a", "b"] = "a"
    maybe: int | None = None


class Top(Section):
    inner: Inner = Inner()
    bounds: Bounds = Bounds()
    rules: tuple[Rule, ...] = (Rule(name="first"), Rule(name="second"))
    words: tuple[str, ...] = ("one", "two")
    numbers: tuple[int, ...] = ()
    auth: Literal["none"] | Annotated[Header | Basic, Field(discriminator="kind")] = "none"
    named: dict[str, Annotated[Header | Basic, Field(discriminator="kind")]] = Field(default_factory=dict)
    key: Secret | None = None
    url: Annotated[Secret, AfterValidator(_long)] = Secret("memory:")
    keys: dict[str, Secret] = Field(default_factory=dict)


RULES = Rules(plain=("url",), planned=("later", "inner.later", "named.*.later"))


def load(text: str = "", env: Mapping[str, str] | None = None, base: Path | None = None) -> tuple[Top, dict[str, str]]:
    tree = Tree(base=base or Path())
    values = parse_yaml(text, tree.report)
    tree.values = values if isinstance(values, dict) else {}
    apply_environment(tree, Top, env or {}, RULES)
    top = validate(tree, Top, env or {}, RULES)
    return top, {problem.path: problem.text for problem in tree.problems}


def good(text: str = "", **env: str) -> Top:
    top, problems = load(text, env)
    assert problems == {}
    return top


def bad(text: str = "", **env: str) -> dict[str, str]:
    _, problems = load(text, env)
    return problems


def test_nothing_is_the_defaults() -> None:
    assert good() == Top()


@pytest.mark.parametrize("text", ["0123", "true", "null", "[a]", "{a: b}", "a, b", "#", " a ", "*", "\N{SNOWMAN}"])
def test_text_is_taken_as_it_is(text: str) -> None:
    assert good(SIDEGATE__INNER__TEXT=text).inner.text == text
    assert good(SIDEGATE__KEY=text).key == Secret(text)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_text_is_taken_as_it_is(text: str) -> None:
    top = good(SIDEGATE__INNER__TEXT=text, SIDEGATE__KEY=text)
    assert (top.inner.text, top.key) == (text, Secret(text))


@given(st.integers(-(10**17), 10**17).filter(lambda number: number != 5))
def test_any_whole_number_is_taken(number: int) -> None:
    assert good(SIDEGATE__INNER__COUNT=str(number)).inner.count == number


@given(st.floats(1e-9, 9.99))
def test_any_number_is_taken(number: float) -> None:
    assert good(SIDEGATE__INNER__WAIT=str(number)).inner.wait == number


plain_words = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=","), min_size=1).filter(
    lambda word: word == word.strip() and word[0] not in "[{"
)


@given(st.lists(plain_words, min_size=1))
def test_lists_have_commas_between_their_entries(words: list[str]) -> None:
    assert good(SIDEGATE__WORDS=",".join(words)).words == tuple(words)
    assert good(SIDEGATE__WORDS=" , ".join(words)).words == tuple(words)


@pytest.mark.parametrize(
    ("text", "meant"), [('["a, b", "c"]', ("a, b", "c")), ("[]", ()), (" [a]", ("a",)), (",", ()), ("[1]", None)]
)
def test_lists_are_json_too(text: str, meant: tuple[str, ...] | None) -> None:
    if meant is None:
        assert bad(SIDEGATE__WORDS=text).keys() == {"words[0] (SIDEGATE__WORDS)"}
    else:
        assert good(SIDEGATE__WORDS=text).words == meant


@pytest.mark.parametrize(
    ("text", "meant"), [("true", True), ("on", True), ("1", True), ("no", False), ("False", False)]
)
def test_truth_has_its_usual_words(text: str, meant: bool) -> None:
    assert good(SIDEGATE__INNER__ON=text).inner.on is meant


def test_null_is_nothing_where_nothing_is_possible() -> None:
    assert good("inner: {maybe: 3}", SIDEGATE__INNER__MAYBE="null").inner.maybe is None


def test_a_mapping_is_written_as_json() -> None:
    top = good("inner: {text: old, count: 4}", SIDEGATE__INNER='{"count": 2}')
    assert (top.inner.count, top.inner.text) == (2, "text")


def test_parts_are_laid_on_wholes_whatever_their_order() -> None:
    env = {"SIDEGATE__INNER__COUNT": "3", "SIDEGATE__INNER": "{count: 2, text: x}"}
    for names in (list(env), list(reversed(env))):
        top, _ = load(env={name: env[name] for name in names})
        assert (top.inner.count, top.inner.text) == (3, "x")


def test_an_entry_of_a_list_is_changed_by_its_number() -> None:
    top = good("rules: [{name: a}, {name: b}]", SIDEGATE__RULES__1__LIMIT="7")
    assert top.rules == (Rule(name="a"), Rule(name="b", limit=7))


def test_an_entry_of_a_default_list_is_changed_by_its_number() -> None:
    assert good(SIDEGATE__RULES__0__LIMIT="7").rules == (Rule(name="first", limit=7), Rule(name="second"))
    assert good(SIDEGATE__WORDS__1="2").words == ("one", "2")


def test_the_number_after_the_last_adds_an_entry() -> None:
    env = {f"SIDEGATE__NUMBERS__{number}": str(number) for number in range(12)}
    assert load(env=env)[0].numbers == tuple(range(12))
    assert good(SIDEGATE__RULES__2__NAME="third").rules[2] == Rule(name="third")


def test_a_number_further_on_is_a_problem() -> None:
    problem = "no such entry; there are 2, so the next one is number 2"
    assert bad(SIDEGATE__RULES__3__NAME="x") == {"SIDEGATE__RULES__3__NAME": problem}
    assert bad("words: 5", SIDEGATE__WORDS__1="x")["SIDEGATE__WORDS__1"].startswith("no such entry; there are 0")


@pytest.mark.parametrize("name", ["My-Name", "my_name", "MY-NAME"])
def test_names_in_maps_are_found_in_any_case(name: str) -> None:
    text = f"named: {{{name}: {{kind: basic, user: a}}}}"
    assert good(text, SIDEGATE__NAMED__MY_NAME__USER="b").named == {name: Basic(kind="basic", user="b")}


def test_the_same_name_wins_over_a_similar_one() -> None:
    text = "named: {my-name: {kind: basic, user: a}, my_name: {kind: basic, user: a}}"
    assert good(text, SIDEGATE__NAMED__MY_NAME__USER="b").named["my_name"] == Basic(kind="basic", user="b")


def test_new_names_in_maps_are_small() -> None:
    env = {"SIDEGATE__NAMED__NEW__USER": "b", "SIDEGATE__NAMED__NEW__KIND": "basic"}
    assert good(**env).named == {"new": Basic(kind="basic", user="b")}


def test_a_section_of_no_known_kind_says_so_once() -> None:
    assert bad(SIDEGATE__NAMED__NEW__USER="b") == {
        "named.new.kind": "missing; write header or basic",
    }
    assert bad("named: {a: {kind: other, user: 5}}") == {"named.a.kind": "unknown; write header or basic"}


def test_a_secret_comes_from_the_file_that_a_variable_names(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    assert good(SIDEGATE__KEY_FILE=str(tmp_path / "key")).key == Secret("hunter2")
    assert good(SIDEGATE__KEYS__K0_FILE=str(tmp_path / "key")).keys == {"k0": Secret("hunter2")}
    found = bad(SIDEGATE__KEY_FILE=str(tmp_path / "other"))
    assert found["key (SIDEGATE__KEY_FILE)"].endswith("No such file or directory; check the path and the mount")


def test_a_secret_is_not_set_twice(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    found = bad(SIDEGATE__KEY_FILE=str(tmp_path / "key"), SIDEGATE__KEY="x")
    assert found == {"key (SIDEGATE__KEY_FILE)": "set twice, as itself and as a file; keep one of them"}


def test_a_variable_that_is_set_to_nothing_is_not_set() -> None:
    assert good("inner: {count: 3}", SIDEGATE__INNER__COUNT="", SIDEGATE__KEY="", SIDEGATE__WORDS="").inner.count == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SIDEGATE__INER__TEXT", "did you mean SIDEGATE__INNER?"),
        ("SIDEGATE__INNER__TXT", "did you mean SIDEGATE__INNER__TEXT?"),
        ("SIDEGATE__INNER__TEXT_FILE", "did you mean SIDEGATE__INNER__TEXT?"),
        ("SIDEGATE__INNER__TEXT__MORE", "no such setting; inner.text is text"),
        ("SIDEGATE__RULES__0__NAM", "did you mean SIDEGATE__RULES__0__NAME?"),
        ("SIDEGATE__RULES__FIRST", "no such setting; rules is a list of mappings with name, limit"),
        ("SIDEGATE__LATER", "not available in this version; remove it"),
        ("SIDEGATE__NAMED__", "no such setting; named is a mapping of names to"),
        ("SIDEGATE__", "no such name; possible are SIDEGATE__AUTH"),
        ("SIDEGATE__NAMED__A__USR", "did you mean SIDEGATE__NAMED__A__USER?"),
    ],
)
def test_a_variable_that_leads_nowhere_is_a_problem_even_when_empty(name: str, text: str) -> None:
    for value in ("x", ""):
        found = bad("named: {a: {kind: basic, user: a}}", **{name: value})
        assert list(found) == [name]
        assert text in found[name]


def test_bytes_that_are_no_text_are_a_problem() -> None:
    assert bad(SIDEGATE__INNER__TEXT="\udcff") == {
        "inner.text (SIDEGATE__INNER__TEXT)": "not UTF-8 text; write it as UTF-8"
    }
    assert "not UTF-8" in bad("key: {env: SECRET}", SECRET="\udcff")["key"]


def test_json_with_a_key_twice_is_a_problem() -> None:
    found = bad(SIDEGATE__INNER='{"count": 1, "count": 2}')
    assert found["inner (SIDEGATE__INNER)"].startswith("count: written twice")


def test_a_secret_comes_from_a_file_or_a_variable(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    assert load("key: {file: key}", base=tmp_path)[0].key == Secret("hunter2")
    assert good(f"key: {{file: {tmp_path}/key}}").key == Secret("hunter2")
    assert good("key: {env: SECRET}", SECRET="hunter2").key == Secret("hunter2")
    assert good("key: null").key is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key: hunter2", "the secret itself doesn't belong here; write {file: PATH} or {env: NAME}"),
        ("key: 2222222", "the secret itself doesn't belong here; write {file: PATH} or {env: NAME}"),
        ("key: {file: /hunter/2, env: B}", "not a secret; write {file: PATH} or {env: NAME}"),
        ("key: {value: hunter2}", "not a secret; write {file: PATH} or {env: NAME}"),
        ("key: [hunter2]", "not a secret; write {file: PATH} or {env: NAME}"),
        ("key: {env: UNSET}", "the variable UNSET is not set; set it, or write another one"),
        (
            "key: {file: /nowhere/key}",
            "/nowhere/key can't be read: No such file or directory; check the path and the mount",
        ),
    ],
)
def test_what_is_no_secret_is_told_once_and_not_shown(text: str, said: str) -> None:
    assert bad(text, UNUSED="x") == {"key": said}
    required = bad(f"auth: {{kind: header, {text.replace('key', 'value', 1)}}}")
    assert required == {"auth.value": said}


def test_a_secret_that_is_named_as_plain_may_be_written_in_the_file() -> None:
    assert good("url: redis://host").url == Secret("redis://host")
    assert bad("url: 12345").keys() == {"url"}


def test_a_message_about_a_secret_does_not_repeat_it() -> None:
    assert bad("url: xyz") == {"url": "*** is too short"}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("inner: {cont: 1}", {"inner.cont": "no such name; did you mean count?"}),
        ("inner: {zzz: 1}", {"inner.zzz": "no such name; possible are count, maybe, mode, on, text, wait"}),
        ("inner: {later: {a: b}}", {"inner.later": "not available in this version; remove it"}),
        ("named: {x: {kind: basic, user: a, later: 1}}", {"named.x.later": "not available in this version; remove it"}),
        ("inner: {count: x}", {"inner.count": "not a whole number; write a whole number"}),
        ("inner: {count: 1.5}", {"inner.count": "not a whole number; write a whole number"}),
        ("inner: {count: true}", {"inner.count": "not a number; write a whole number"}),
        ("inner: {count: null}", {"inner.count": "not a whole number; write a whole number"}),
        ("inner: {count: 5}", {"inner.count": "five is taken; write another number"}),
        ("inner: {wait: 10}", {"inner.wait": "out of range; write a number above 0, below 10"}),
        ("inner: {wait: [1]}", {"inner.wait": "not a number; write a number above 0, below 10"}),
        ("inner: {wait: inf}", {"inner.wait": "not a number; write a number above 0, below 10"}),
        ("inner: {on: maybe}", {"inner.on": "neither true nor false; write true or false"}),
        ("inner: {mode: c}", {"inner.mode": "not one of the words for it; write a or b"}),
        ("inner: {text: 5}", {"inner.text": "not text (numbers and true or false need quotes); write text"}),
        (
            "inner: [1]",
            {"inner": "not a mapping; write a mapping with text, count, wait, on, mode, maybe"},
        ),
        ("rules: {a: b}", {"rules": "not a list; write a list of mappings with name, limit"}),
        ("rules: [5]", {"rules[0]": "not a mapping; write a mapping with name, limit"}),
        ("rules: [{limit: 3}]", {"rules[0].name": "missing; write text"}),
        (
            "rules: [{name: a}, {name: b, limit: 11}]",
            {"rules[1].limit": "out of range; write a whole number from 1 to 10"},
        ),
        ("words: [a, 5]", {"words[1]": "not text (numbers and true or false need quotes); write text"}),
        ("numbers: [1, true]", {"numbers[1]": "not a number; write a whole number"}),
        ("keys: [a]", {"keys": "not a mapping; write a mapping of names to {file: PATH} or {env: NAME}"}),
        (
            "auth: {kind: basic, user: abcdef}",
            {"auth.user": "too long or too short; write text, at most 5 characters or entries"},
        ),
        (
            "auth: {kind: basic, user: A}",
            {"auth.user": "has a character that is not allowed; write text, matching ^[a-z]+$"},
        ),
        ("auth: {kind: basic}", {"auth.user": "missing; write text"}),
        ("auth: {kind: other}", {"auth.kind": "unknown; write header or basic"}),
        ("auth: {user: a}", {"auth.kind": "missing; write header or basic"}),
        (
            "auth: some",
            {
                "auth": "not one of the words for it; write none; or a mapping with kind, value;"
                " or a mapping with kind, user"
            },
        ),
        ("bounds: {low: 3}", {"bounds": "low is above high; change one of them"}),
        ("bounds: {low: 3, high: x}", {"bounds.high": "not a number; write a number"}),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_what_to_write(text: str, problems: dict[str, str]) -> None:
    assert bad(text) == problems


def test_problems_of_every_kind_are_told_together() -> None:
    text = """
    inner: {cont: 1, count: x, wait: 11, on: maybe}
    rules: [5, {name: a, limit: 0}, 6, {limit: 3}]
    key: hunter2
    later: 1
    named: {x: {kind: header, value: {env: UNSET}}, y: {kind: z}}
    """
    env = {"SIDEGATE__INER__X": "1", "SIDEGATE__INNER__MODE": "c"}
    assert bad(text, **env).keys() == {
        *("inner.cont", "inner.count", "inner.wait", "inner.on", "inner.mode (SIDEGATE__INNER__MODE)"),
        *("rules[0]", "rules[1].limit", "rules[2]", "rules[3].name"),
        *("key", "later", "named.x.value", "named.y.kind", "SIDEGATE__INER__X"),
    }


def test_what_could_be_used_is_still_there() -> None:
    top, problems = load(
        "inner: {count: x, text: kept}\nrules: [{name: a, limit: 99}, 5, {name: c}]\nnamed: {a: {kind: x}}"
    )
    assert len(problems) == 4
    assert top.inner == Inner(text="kept")
    assert top.rules == (Rule(name="a"), Rule(name="c"))
    assert top.named == {}


keys = st.sampled_from(
    [*Top.model_fields, *Inner.model_fields, *Rule.model_fields, "kind", "value", "user", "file", "env", "zzz"]
)
words = st.sampled_from(["a", "basic", "header", "none", "5", "hunter2", "", "PATH"])
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=25,
)
segments = st.sampled_from(
    ["INNER", "COUNT", "RULES", "0", "2", "NAMED", "AUTH", "KIND", "VALUE_FILE", "KEY", "KEYS", "X", ""]
)
names = st.lists(segments, min_size=1, max_size=4).map(lambda parts: "__".join(["SIDEGATE", *parts]))
texts = st.sampled_from(["1", "x", "[1]", "{kind: basic}", "[", "{}", "null", "header"])


@given(st.dictionaries(keys, trees, max_size=6), st.dictionaries(names, texts, max_size=4))
@example({"key": "hunter2", "auth": {"kind": "header", "value": "hunter2"}}, {})
@example({"keys": {"k0:hunter2": ["hunter2"]}, "url": ["hunter2"]}, {})
def test_any_tree_gives_settings_or_problems_and_never_shows_a_secret(
    values: dict[str, object], env: dict[str, str]
) -> None:
    tree = Tree(values)
    apply_environment(tree, Top, env, RULES)
    top = validate(tree, Top, env, RULES)
    assert isinstance(top, Top)
    assert all(problem.text for problem in tree.problems)
    assert "hunter2" not in repr((tree, tree.problems))


def test_the_process_environment_is_not_read() -> None:
    os.environ["SIDEGATE__INNER__COUNT"] = "9"
    try:
        assert good().inner.count == 1
    finally:
        del os.environ["SIDEGATE__INNER__COUNT"]


def test_a_tree_that_nothing_can_be_made_of_is_an_error() -> None:
    class Needy(Section):
        name: str

    with pytest.raises(ConfigError, match=r"^name: missing; write text$"):
        validate(Tree(), Needy, {}, RULES)
    with pytest.raises(ConfigError, match=r"^name: not text"):
        validate(Tree({"name": 5}), Needy, {}, RULES)


def test_a_problem_is_told_once_whatever_pydantic_says_of_it_later() -> None:
    tree = Tree({"key": "x"})
    validate(tree, Top, {}, RULES)
    validate(tree, Top, {}, RULES)
    assert tree.problems == [Problem("key", "the secret itself doesn't belong here; write {file: PATH} or {env: NAME}")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rules", "a list of mappings with name, limit"),
        ("numbers", "a list of a whole number"),
        ("named", "a mapping of names to a mapping with kind, value; or a mapping with kind, user"),
        ("key", "{file: PATH} or {env: NAME}"),
    ],
)
def test_what_may_be_written_is_said_in_words(name: str, words: str) -> None:
    assert describe(field_form(Top.model_fields[name])) == words
