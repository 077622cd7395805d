"""`sidegate keys`: what it prints is what the configuration takes, and no key is told twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from proxy.__main__ import main
from proxy.guard.keys import ApiKeySettings, EmbedKeySettings, hash_of, new_key


def run(*arguments: str, text: str | None = None, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["keys", *arguments], input=text)
    assert result.exit_code == code, result.output
    return result.output


def made(output: str) -> tuple[str, dict[str, object]]:
    """The key, and the configuration that is printed with it."""
    (key,) = [line.strip() for line in output.splitlines() if line.strip().startswith(("sgk_", "sge_"))]
    assert output.count(key) == 1
    written: dict[str, object] = yaml.safe_load(
        output.partition("For the configuration:")[2].replace(": 20", ": !!str 20")
    )
    return key, written


def test_a_new_api_key_is_shown_once_with_what_to_write() -> None:
    key, written = made(run("new", "--name", "bot"))
    assert written == {"keys": {"api": [{"name": "bot", "hash": hash_of(key), "scopes": ["chat"]}]}}
    options = ("--site", "shop", "--scopes", "chat, read", "--expires", "2027-01-31", "--owner", "ops")
    key, written = made(run("new", "--name", "bot", *options))
    (entry,) = written["keys"]["api"]  # type: ignore[index]  # YAML has no types
    assert ApiKeySettings.model_validate(entry) == ApiKeySettings(
        name="bot", hash=hash_of(key), site="shop", scopes=("chat", "read"), expires="2027-01-31", owner="ops"
    )


def test_a_new_embed_key_is_for_a_site() -> None:
    key, written = made(run("new", "--kind", "embed", "--name", "page", "--site", "shop", "--expires", "2027-01-31"))
    (entry,) = written["sites"]["shop"]["embed_keys"]  # type: ignore[index]  # YAML has no types
    expected = EmbedKeySettings(hash=hash_of(key), name="page", expires="2027-01-31")
    assert EmbedKeySettings.model_validate(entry) == expected
    _, written = made(run("new", "--kind", "embed", "--name", "page"))
    assert list(written["sites"]) == ["NAME"]  # type: ignore[call-overload]  # YAML has no types


@pytest.mark.parametrize(
    ("option", "value"), [("--name", "My Key"), ("--scopes", "admin"), ("--expires", "soon"), ("--owner", "a b")]
)
def test_a_mistake_is_told_by_its_option(option: str, value: str) -> None:
    arguments = {"--name": "bot", option: value}
    output = run("new", *(part for pair in arguments.items() for part in pair), code=2)
    assert option in output
    assert "sgk_" not in output


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_key_from_standard_input_is_hashed(end: str) -> None:
    key = new_key("api")
    assert run("hash", text=key + end) == hash_of(key) + "\n"


def test_at_a_terminal_the_key_is_asked_for_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.keys_command._is_terminal", lambda: True)
    key = new_key("api")
    output = run("hash", text=key + "\n")
    assert hash_of(key) in output
    assert key not in output


@pytest.mark.parametrize("text", ["", "\n", "a b", "a\nb", "ä" * 32, "k" * 513, "a.b.c"])
def test_what_can_be_no_key_is_not_hashed(text: str) -> None:
    assert "sha256" not in run("hash", text=text, code=1)


def test_a_weak_key_is_hashed_with_a_warning() -> None:
    output = run("hash", text="hunter2")
    assert "shorter than 32 bytes" in output
    assert hash_of("hunter2") in output
    assert "warning: hunter2" not in output


def test_the_keys_of_a_configuration_are_listed_and_no_hash_in_full(tmp_path: Path) -> None:
    sections = {
        "environment": "development",
        "upstreams": {"echo": {"kind": "echo"}},
        "sites": {
            "shop": {
                "auth": ["api_key", "embed_key"],
                "embed_keys": [{"hash": hash_of("a"), "name": "page", "expires": "2020-01-01"}, {"hash": hash_of("b")}],
            }
        },
        "keys": {"api": [{"name": "bot", "hash": hash_of("c"), "expires": "2999-12-31"}]},
    }
    (tmp_path / "sidegate.yaml").write_text(json.dumps(sections))
    output = run("list", "--config", str(tmp_path / "sidegate.yaml"))
    assert [line.split()[:5] for line in output.splitlines()] == [
        ["kind", "name", "site", "scopes", "expires"],
        ["api", "bot", "shop", "chat", "2999-12-31"],
        ["embed", "page", "shop", "-", "2020-01-01"],
        ["embed", hash_of("b")[7:15], "shop", "-", "never"],
    ]
    assert "(over)" in output
    assert not any(hash_of(key) in output for key in "abc")


def test_a_configuration_with_mistakes_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "sidegate.yaml").write_text("kees: 1")
    assert "did you mean keys" in run("list", "--config", str(tmp_path / "sidegate.yaml"), code=1)
