"""The settings tree: what it judges as a whole, and that examples, schema and page say what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic_core import PydanticUndefined

from proxy.coherence import MAKE_KEY, is_loopback
from proxy.config import A_SECRET, ConfigError, Problem, Secret, parse_yaml
from proxy.forms import Form, describe, field_form, forms, inside, is_section, items_of, values_of
from proxy.guard.budget import BudgetSettings
from proxy.guard.content import ContentSettings
from proxy.guard.detectors import DetectorSettings
from proxy.guard.limits import DEFAULT_LIMITS, LimitSettings
from proxy.reading import RULES, Loaded, load
from proxy.settings import Settings, json_schema
from proxy.starter import starter
from proxy.variables import VARIABLES

ROOT = Path(__file__).parent.parent
KEY = "Zk4vQ9xW2mB7hT1nC8sJ5dL0gR3fYpEa"
OTHER_KEY = "pX7cV2bN9mK4jH8gF3dS6aQ1wE5rT0yU"
KEYS = {"SESSION_SECRET_KEY": KEY, "JWT_SECRET_KEY": OTHER_KEY}
OVERRIDES = tuple(f"sites.NAME.{section}" for section in ("limits", "budgets", "content", "filters", "streams"))


GITHUB = {"provider": "github", "secret": {"env": "JWT_SECRET_KEY"}}


def tree(**sections: Any) -> dict[str, Any]:  # Any: configuration as written
    """The least that is fine in production, keys apart; sections as given replace or add."""
    return {
        "listen": {"allowed_hosts": ["chat.example"]},
        "upstreams": {"support": {"kind": "n8n", "url": "http://n8n/webhook/x"}},
        "sites": {"shop": {"origins": ["https://shop.example"]}},
        **sections,
    }


@pytest.fixture
def reading(tmp_path: Path) -> Any:  # Any: a function with two forms of arguments
    def read(sections: dict[str, Any] | None = None, env: dict[str, str] | None = None) -> Loaded:
        (tmp_path / "sidegate.yaml").write_text(json.dumps(tree() if sections is None else sections))
        return load(tmp_path / "sidegate.yaml", KEYS if env is None else env)

    return read


@pytest.fixture
def refused(reading: Any) -> Any:
    def read(sections: dict[str, Any] | None = None, env: dict[str, str] | None = None) -> dict[str, str]:
        with pytest.raises(ConfigError) as caught:
            reading(sections, env)
        return {problem.path: problem.text for problem in caught.value.problems}

    return read


def test_several_processes_are_fine_with_a_store_that_they_share(reading: Any, refused: Any) -> None:
    assert reading(tree(workers=4, store={"url": "redis://redis:6379/0"})).settings.workers == 4
    assert set(refused(tree(workers=4, store={"url": "reddis://redis"}))) == {"store.url"}


def development(**sections: Any) -> dict[str, Any]:
    return tree(environment="development", **sections)


def test_the_least_is_fine_in_production(reading: Any) -> None:
    loaded = reading()
    assert loaded.warnings == ()
    assert loaded.settings.environment == "production"
    assert loaded.settings.sites["shop"].upstream == "support"


def test_what_runs_by_itself_reads_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDEGATE__WORKERS", "7")
    with pytest.raises(ConfigError, match=r"SIDEGATE__WORKERS.*need a store that they share"):
        load(None)


def test_nothing_at_all_is_told_what_to_write() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    assert {problem.path: problem.text for problem in caught.value.problems} == {
        **dict.fromkeys(
            ("session.key", "signing.key"), f"missing; write {A_SECRET}, with what {MAKE_KEY} prints in it"
        ),
        "sites": "there is none; name one, or set ALLOWED_ORIGINS",
        "upstreams": "there is none; name one, or set N8N_WEBHOOK_URL",
    }


def test_a_file_that_cannot_be_read_is_told_together_with_wrong_variables(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yaml", KEYS | {"SIDEGATE__LISTN__PORT": "1"})
    assert [problem.path for problem in caught.value.problems] == [str(tmp_path / "none.yaml"), "SIDEGATE__LISTN__PORT"]


def test_a_secret_that_is_missing_is_named_once(refused: Any) -> None:
    sections = tree(session={"key": {"file": "none"}}, signing={"key": {"env": "NONE"}})
    assert refused(sections, {}).keys() == {"session.key", "signing.key"}


WEAK = [
    ({"SESSION_SECRET_KEY": "short"}, "session.key", "shorter than 32 bytes"),
    ({"JWT_SECRET_KEY": "changeme-changeme-changeme-changeme"}, "signing.key", "an example that was never replaced"),
    ({"JWT_SECRET_KEY": "your-super-secret-jwt-key-change-me"}, "signing.key", "an example that was never replaced"),
    ({"SESSION_SECRET_KEY": ""}, "session.key", "missing; write"),
    ({"JWT_SECRET_KEY": ""}, "signing.key", "missing; write"),
    ({"SIDEGATE__OPS__TOKEN": "short"}, "ops.token", "shorter than 32 bytes"),
    ({"SIDEGATE__SIGNING__PREVIOUS__K0": "short"}, "signing.previous.k0", "shorter than 32 bytes"),
    ({"WHATSAPP_WEBHOOK_SECRET": "short"}, "hooks.whatsapp.secret", "shorter than 32 bytes"),
    ({"DEBUG": "true"}, "debug", "not for production"),
    ({"SIDEGATE__SITES__SHOP__ORIGINS": "[]"}, "sites.shop.origins", "missing; list the pages' origins"),
    (
        {"SIDEGATE__LISTEN__TRUSTED_PROXIES": "0.0.0.0/0"},
        "listen.trusted_proxies[0]",
        "anybody could claim any address",
    ),
    ({"SIDEGATE__LISTEN__TRUSTED_PROXIES": "10.0.0.0/8,::/0"}, "listen.trusted_proxies[1]", "anybody could claim"),
]


@pytest.mark.parametrize(("env", "path", "text"), WEAK)
def test_production_refuses_what_development_warns_of(
    reading: Any, refused: Any, env: dict[str, str], path: str, text: str
) -> None:
    (said,) = [problem for problem in refused(None, KEYS | env).items() if problem[0].startswith(path)]
    assert text in said[1]
    warned = {problem.path: problem.text for problem in reading(development(), KEYS | env).warnings}
    assert said[1] in warned.values()
    assert "environment" in warned


DOUBTFUL = [
    ({"SESSION_SECRET_KEY": "a" * 40}, "session.key", "too few different characters"),
    ({"JWT_SECRET_KEY": KEY}, "signing.key", "the same as session.key"),
    ({"SIDEGATE__SESSION__COOKIE_EMBEDDED": "true"}, "session.cookie_embedded", "write session.cookie: true"),
    (
        {"SIDEGATE__SESSION__COOKIE_EMBEDDED": "true", "SIDEGATE__SESSION__COOKIE": "true"},
        "session.cookie_embedded",
        "write allow_credentials: true",
    ),
    (
        {"WHATSAPP_WEBHOOK_SECRET": OTHER_KEY, "SIDEGATE__HOOKS__WHATSAPP__ACK": "queue"},
        "hooks.whatsapp.ack",
        "set store.url to a Redis",
    ),
    ({"SIDEGATE__OPS__HOST": "0.0.0.0"}, "ops.token", "missing, while ops.host can be reached from outside"),
]


@pytest.mark.parametrize(("env", "path", "text"), DOUBTFUL)
def test_what_may_be_meant_is_warned_of_in_production_too(
    reading: Any, env: dict[str, str], path: str, text: str
) -> None:
    assert any(problem.path.startswith(path) and text in problem.text for problem in reading(None, KEYS | env).warnings)


def test_cookies_need_https_in_production(reading: Any, refused: Any) -> None:
    sites = {"shop": {"origins": ["http://shop.example"]}}
    found = refused(tree(session={"cookie": True}, sites=sites))
    assert found == {"sites.shop.origins[0]": "cookies need https; write https://…"}
    warned = reading(tree(sites=sites)).warnings
    assert warned == (Problem("sites.shop.origins[0]", "what visitors write can be read on the way; write https://…"),)


def test_keys_that_are_missing_in_development_are_made_up_at_each_start(reading: Any) -> None:
    first, second = (reading(development(), {}) for _ in range(2))
    made_up = [loaded.settings.session.key for loaded in (first, second)]
    made_up += [loaded.settings.signing.key for loaded in (first, second)]
    assert len({key.reveal() for key in made_up}) == 4
    assert min(len(key.reveal()) for key in made_up) >= 32
    assert {problem.path for problem in first.warnings} == {"session.key", "signing.key", "environment"}


@pytest.mark.parametrize(
    ("upstream", "needs_key"),
    [
        ({"kind": "n8n", "url": "http://n"}, True),
        ({"kind": "n8n", "url": "http://n", "auth": {"kind": "header", "name": "X-Key", "value": {"env": "V"}}}, True),
        (
            {
                "kind": "n8n",
                "url": "http://n",
                "auth": {"kind": "header", "name": "authorization", "value": {"env": "V"}},
            },
            False,
        ),
        ({"kind": "n8n", "url": "http://n", "auth": {"kind": "basic", "user": "a", "password": {"env": "V"}}}, False),
        ({"kind": "n8n", "url": "http://n", "auth": "none"}, False),
        ({"kind": "openai", "url": "http://n", "model": "m"}, True),
        ({"kind": "openai", "url": "http://n", "model": "m", "api_key": {"env": "V"}}, False),
        ({"kind": "echo"}, False),
        ({"kind": "n8n"}, True),
        ({"kind": "n8n", "auth": "none"}, False),
        ({"kind": "openai", "api_key": {"env": "V"}}, False),
        ({"kind": "echo", "delay": "x"}, False),
        ("support", True),
    ],
)
def test_a_signing_key_is_needed_where_an_upstream_gets_our_token(
    refused: Any, upstream: object, needs_key: bool
) -> None:
    env = {"SESSION_SECRET_KEY": KEY, "V": "value"}
    found = refused(tree(upstreams={"support": upstream}, workers=2), env)
    assert ("signing.key" in found) is needs_key


def test_without_need_a_signing_key_is_made_up(reading: Any) -> None:
    loaded = reading(tree(upstreams={"echo": {"kind": "echo"}}), {"SESSION_SECRET_KEY": KEY})
    assert len(loaded.settings.signing.key.reveal()) >= 32
    assert loaded.warnings == ()


def test_a_private_key_is_not_judged_as_a_shared_secret(reading: Any, refused: Any) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    sections = tree(signing={"algorithm": "EdDSA"})
    assert reading(sections, KEYS | {"JWT_SECRET_KEY": pem}).settings.signing.algorithm == "EdDSA"
    assert refused(sections, {"SESSION_SECRET_KEY": KEY})["signing.key"].startswith("missing; write {file: PATH}")


@pytest.mark.parametrize(
    ("sections", "path", "text"),
    [
        (tree(sites={"shop": {"origins": ["*"]}}), "sites.shop.origins[0]", "https://shop.example"),
        (tree(sites={"shop": {"origins": ["null"]}}), "sites.shop.origins[0]", "https://shop.example"),
        (tree(sites={"shop": {"origins": ["https://a.example/x"]}}), "sites.shop.origins[0]", "nothing behind"),
        (tree(sites={"shop": {"origins": ["https://bücher.example"]}}), "sites.shop.origins[0]", "https://xn--"),
        (
            tree(sites={"shop": {"origins": ["https://a.example:99999"]}}),
            "sites.shop.origins[0]",
            "not an origin; write",
        ),
        (
            tree(sites={"shop": {"origins": ["https://a"], "upstream": "suport"}}),
            "sites.shop.upstream",
            "did you mean support",
        ),
        (tree(sites={"shop": {"origins": ["https://a"], "auth": []}}), "sites.shop.auth", "at least 1"),
        (tree(sites={"shop": {"origins": ["https://a"], "auth": ["cert"]}}), "sites.shop.auth[0]", "write anonymous"),
        (tree(sites={"Shop": {"origins": ["https://a"]}}), "sites.Shop", "not a name"),
        (tree(sites={"-shop": {"origins": ["https://a"]}}), "sites.-shop", "not a name"),
        (tree(sites={"s" * 65: {"origins": ["https://a"]}}), f"sites.{'s' * 64}…", "not a name"),
        (tree(sites={}), "sites", "there is none"),
        (tree(upstreams={"my support": {"kind": "echo"}}), "upstreams.my…", "not a name"),
        (tree(listen={"allowed_hosts": ["*.example"]}), "listen.allowed_hosts[0]", "wildcards are not possible"),
        (tree(listen={"port": 9090}), "ops.port", "the same as listen.port"),
        (tree(limits=[{"per": "ip", "limit": 1, "window": 60}] * 2), "limits", "2 limits are both ip-60s (enforce)"),
        (
            tree(sites={"shop": {"origins": ["https://a"], "limits": [{"per": "site", "limit": 1, "window": 1}] * 3}}),
            "sites.shop.limits",
            "3 limits are both site-1s",
        ),
        (tree(hooks={"Git": GITHUB}), "hooks.Git", "not a name"),
        (tree(hooks={"git": GITHUB | {"upstream": "suport"}}), "hooks.git.upstream", "did you mean support"),
        (tree(hooks={"git": GITHUB}, upstreams={"support": {"kind": "echo"}}), "hooks.git.upstream", "of kind n8n"),
        (tree(workers=2), "workers", "set store.url to a Redis, or write 1"),
        (tree(workers=0), "workers", "out of range"),
        (tree(environment="test"), "environment", "write development or production"),
        (tree(environment=5), "environment", "write development or production"),
    ],
)
def test_what_is_wrong_in_every_environment_is_refused(
    refused: Any, sections: dict[str, Any], path: str, text: str
) -> None:
    found = refused(sections)
    assert list(found) == [path]
    assert text in found[path]


def test_the_same_limit_may_be_tried_out_beside_the_one_that_counts(reading: Any) -> None:
    rule = {"per": "ip", "limit": 60, "window": 60}
    assert len(reading(tree(limits=[rule, rule | {"limit": 30, "mode": "observe"}])).settings.limits) == 2


@pytest.mark.parametrize("path", RULES.planned)
def test_what_a_later_version_will_have_is_refused_as_that(refused: Any, path: str) -> None:
    sections = tree()
    node = sections
    *parents, last = path.replace("sites.*", "sites.shop").replace("upstreams.*", "upstreams.support").split(".")
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = {}
    assert refused(sections) == {".".join([*parents, last]): "not available in this version; remove it"}


def test_a_site_says_which_of_several_upstreams_answers(refused: Any, reading: Any) -> None:
    upstreams = {"a": {"kind": "echo"}, "b": {"kind": "echo"}}
    found = refused(tree(upstreams=upstreams))
    assert found == {"sites.shop.upstream": "missing, and there are several; write a or b"}
    chosen = reading(tree(upstreams=upstreams, sites={"shop": {"origins": ["https://a"], "upstream": "a"}}))
    assert chosen.settings.sites["shop"].upstream == "a"
    assert [problem.path for problem in chosen.warnings] == ["upstreams.b"]


def test_a_hook_says_which_of_several_upstreams_it_goes_to(refused: Any, reading: Any) -> None:
    two = {name: {"kind": "n8n", "url": "http://n8n/webhook/x"} for name in ("support", "orders")}
    site = {"shop": {"origins": ["https://shop.example"], "upstream": "support"}}
    assert refused(tree(upstreams=two, sites=site, hooks={"git": GITHUB})) == {
        "hooks.git.upstream": "missing, and there are several; write support or orders"
    }
    loaded = reading(tree(upstreams=two, sites=site, hooks={"git": GITHUB | {"upstream": "orders"}}))
    assert list(loaded.settings.relays()) == ["orders"]
    assert not [problem for problem in loaded.warnings if problem.path.startswith("upstreams")]


def test_a_site_may_have_several_upstreams_with_weights(reading: Any, refused: Any) -> None:
    def sections(upstream: object) -> dict[str, Any]:
        return tree(
            upstreams={"a": {"kind": "echo"}, "b": {"kind": "echo"}},
            sites={"shop": {"origins": ["https://a"], "upstream": upstream}},
        )

    assert reading(sections(["a", "b"])).settings.sites["shop"].weights == {"a": 1, "b": 1}
    mixed = reading(sections([{"name": "b", "weight": 9}, "a"]))
    assert list(mixed.settings.sites["shop"].weights.items()) == [("b", 9), ("a", 1)]
    assert mixed.warnings == ()
    assert refused(sections(["a", "c"])).keys() == {"sites.shop.upstream"}
    assert refused(sections([{"name": "a"}, {"name": "a", "weight": 2}])).keys() == {"sites.shop.upstream"}
    assert refused(sections([])).keys() == {"sites.shop.upstream"}
    by_variable = reading(sections("a"), KEYS | {"SIDEGATE__SITES__SHOP__UPSTREAM": '["b", {"name": "a"}]'})
    assert by_variable.settings.sites["shop"].weights == {"b": 1, "a": 1}


def test_an_upstream_with_a_mistake_of_its_own_is_still_there_for_its_sites(refused: Any) -> None:
    assert refused(tree(upstreams={"support": {"kind": "n8n"}})).keys() == {"upstreams.support.url"}


def test_no_upstream_is_one_problem(refused: Any) -> None:
    assert refused(tree(upstreams={})).keys() == {"upstreams"}
    assert refused(tree(upstreams=[])).keys() == {"upstreams"}


def test_origins_are_kept_as_browsers_say_them(reading: Any) -> None:
    found = reading(tree(sites={"shop": {"origins": ["HTTPS://Shop.Example:443/"]}}))
    assert found.settings.sites["shop"].origins == ("https://shop.example",)


def test_an_empty_list_of_hosts_is_worth_a_word(reading: Any) -> None:
    assert [problem.path for problem in reading(tree(listen={})).warnings] == ["listen.allowed_hosts"]


def test_a_variable_that_looks_like_ours_is_worth_a_word(reading: Any) -> None:
    assert [problem.path for problem in reading(None, KEYS | {"ALLOWED_ORIGIN": "x"}).warnings] == ["ALLOWED_ORIGIN"]


def test_debug_opens_the_log_unless_that_is_set(reading: Any) -> None:
    assert reading(development(debug=True)).settings.telemetry.log_level == "DEBUG"
    kept = reading(development(debug=True, telemetry={"log_level": "ERROR"}))
    assert kept.settings.telemetry.log_level == "ERROR"


def test_a_site_may_have_limits_content_and_filters_of_its_own(reading: Any) -> None:
    rule = {"per": "ip", "limit": 1, "window": 1}
    own = {"limits": [rule], "content": {"max_chars": 5}, "filters": {"max_chars": 6}}
    empty: dict[str, Any] = {"limits": [], "content": {}, "filters": {}, "streams": {}}
    sites = {
        "shop": {"origins": ["https://a"]},
        "own": {"origins": ["https://b"], **own},
        "empty": {"origins": ["https://c"], **empty},
    }
    content = {"max_chars": 7, "mode": "observe"}
    found: Settings = reading(tree(sites=sites, content=content)).settings
    assert found.site_limits("shop") == found.site_limits("empty") == DEFAULT_LIMITS
    assert found.site_limits("own") == (LimitSettings.model_validate(rule),)
    assert found.site_content("shop") == found.site_content("empty") == ContentSettings(max_chars=7, mode="observe")
    assert found.site_content("own") == ContentSettings(max_chars=5, mode="observe")
    assert found.site_streams("empty") == found.streams
    assert (found.site_filters("shop").max_chars, found.site_filters("own").max_chars) == (20_000, 6)


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("ops", False)],
)
def test_loopback_is_known(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one


MISTAKES = """
environment: staging
debgu: true
listen: {port: 99999}
session: {key: hunter2-is-not-written-here, lifetime: soon}
signing: {key: {file: /nowhere/jwt_key}}
upstreams:
  support: {kind: n8n, url: "ftp://n8n"}
sites:
  shop: {origins: ["*"], upstream: suport}
content: {max_chars: 10}
content: {max_chars: 20}
telemetry: {traces: "http://traces"}
"""


def test_mistakes_of_every_kind_are_named_at_once_and_no_secret_with_them(tmp_path: Path) -> None:
    (tmp_path / "sidegate.yaml").write_text(MISTAKES)
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path / "sidegate.yaml",
            {"SIDEGATE__LIMITS__0__LIMT": "5", "MAX_MESSAGE_LENGTH": "hunter2", "API_KEYS": "a"},
        )
    assert {problem.path for problem in caught.value.problems} == {
        *(
            "environment",
            "debgu",
            "listen.port",
            "session.key",
            "session.lifetime",
            "signing.key",
            "upstreams.support.url",
        ),
        *("sites.shop.origins[0]", "sites.shop.upstream", "content", "telemetry.traces", "keys.api[0] (API_KEYS)"),
        *("SIDEGATE__LIMITS__0__LIMT", "content.max_chars (MAX_MESSAGE_LENGTH)"),
    }
    assert "hunter2" not in repr(caught.value) + str(caught.value)


def test_secrets_do_not_show_in_loaded_settings(reading: Any) -> None:
    env = KEYS | {"REDIS_URL": "redis://:hunter2-hunter2@redis", "SIDEGATE__OPS__TOKEN": OTHER_KEY[::-1]}
    loaded = reading(None, env)
    shown = repr(loaded) + str(loaded.settings) + loaded.settings.model_dump_json()
    assert not [secret for secret in (KEY, OTHER_KEY, OTHER_KEY[::-1], "hunter2") if secret in shown]


# What is written elsewhere about the settings.


def settings_of(form: Form, path: str = "") -> Iterator[tuple[str, Form, object]]:
    """Each setting: its path with NAME and [] for names and numbers, what it may be, its default."""
    for member in forms(form):
        if is_section(member):
            for name, info in member.model_fields.items():
                here = f"{path}.{name}".lstrip(".")
                yield here, field_form(info), info.get_default(call_default_factory=True)
                if here not in OVERRIDES:
                    yield from settings_of(field_form(info), here)
        elif values_of(member) is not None:
            yield from settings_of(values_of(member), f"{path}.NAME")
        elif items_of(member) is not None:
            yield from settings_of(items_of(member), f"{path}[]")


def is_leaf(form: Form) -> bool:
    """Nothing below it has a place of its own."""
    return not list(settings_of(form))


def written(form: Form, value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The same paths for what a file holds."""
    if isinstance(value, dict) and Secret not in forms(form):
        is_map = inside(form, value, "") is not None  # a name nobody knows leads somewhere in a map only
        for name, below in value.items():
            here = f"{path}.{'NAME' if is_map else name}".lstrip(".")
            yield here, below
            yield from written(inside(form, value, name), below, here)
    if isinstance(value, list) and items_of(form) is not None:
        for item in value:
            yield from written(items_of(form), item, f"{path}[]")


def plain(value: object) -> object:
    """A default as a file would hold it."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, tuple):
        return [item if isinstance(item, str) else item.model_dump() for item in value]
    return value


def full() -> dict[str, Any]:
    values = parse_yaml(
        (ROOT / "config/sidegate.full.yaml").read_text(), lambda place, text: pytest.fail(f"{place} {text}")
    )
    assert isinstance(values, dict)
    return values


def test_the_full_file_has_every_setting_and_no_other() -> None:
    known = {path for path, _, _ in settings_of(Settings)}
    starts = tuple(f"{path}{mark}" for path in OVERRIDES for mark in ".[")
    found = {path for path, _ in written(Settings, full()) if not path.startswith(starts)}
    # Shown for one site: the default is empty.
    below = {f"filters.redact[].{name}" for name in ("pattern", "replacement", "whole")}
    below |= {f"budgets[].{name}" for name in BudgetSettings.model_fields}
    below |= {f"content.detectors[].{name}" for name in DetectorSettings.model_fields}
    assert found - {"upstreams.NAME", "sites.NAME", "hooks.NAME", "signing.previous.NAME"} == known - below
    assert {"sites.NAME." + path for path in below} <= {path for path, _ in written(Settings, full())}


def test_the_full_file_says_the_defaults() -> None:
    shown = list(written(Settings, full()))
    wrong = []
    for path, form, default in settings_of(Settings):
        values = [value for where, value in shown if where == path]
        empty = default in ({}, "", PydanticUndefined) or (default is None and path == "session.key")
        if is_leaf(form) and not empty and path != "sites.NAME.origins" and values and plain(default) not in values:
            wrong.append((path, default, values))
    assert wrong == []


def test_the_full_file_is_the_defaults(tmp_path: Path) -> None:
    for name in ("sidegate.full.yaml", "secrets/session_key", "secrets/jwt_key"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "sidegate.yaml").write_text((ROOT / "config/sidegate.full.yaml").read_text())
    (tmp_path / "secrets/session_key").write_text(KEY)
    (tmp_path / "secrets/jwt_key").write_text(OTHER_KEY)
    loaded = load(
        tmp_path / "sidegate.yaml",
        {"N8N_KEY": "a", "N8N_PASSWORD": "b", "META_APP_SECRET": KEY, "OWN_HOOK_SECRET": KEY},
    ).settings
    least = load(None, KEYS | {"N8N_WEBHOOK_URL": "http://n8n", "ALLOWED_ORIGINS": "https://shop.example"}).settings
    assert loaded.keys.model_copy(update={"api": ()}) == least.keys
    named: dict[str, object] = {"upstreams": {}, "sites": {}, "keys": None, "hooks": {}}
    assert loaded.model_copy(update=named) == least.model_copy(update=named)


def test_the_annotated_file_is_what_init_writes() -> None:
    shown = (ROOT / "config/sidegate.yaml").read_text()
    assert shown == starter(["https://shop.example"], "http://n8n:5678/webhook/chat")


def test_the_schema_for_editors_is_that_of_the_code() -> None:
    assert json.loads((ROOT / "config/sidegate.schema.json").read_text()) == json.loads(json.dumps(json_schema()))


@pytest.mark.parametrize("name", ["sidegate.yaml", "sidegate.full.yaml"])
def test_the_files_name_the_schema(name: str) -> None:
    assert (ROOT / "config" / name).read_text().startswith("# yaml-language-server: $schema=sidegate.schema.json\n")


def test_the_schema_takes_a_secret_by_its_place_only() -> None:
    schema: Any = json_schema()
    assert schema["additionalProperties"] is False
    key = schema["$defs"]["SigningSettings"]["properties"]["key"]
    assert [form["required"] for form in key["oneOf"]] == [["file"], ["env"]]
    assert schema["$defs"]["StoreSettings"]["properties"]["url"]["default"] == "memory:"


def test_the_example_of_the_environment_has_every_variable_and_no_other() -> None:
    lines = (ROOT / "config/.env.example").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines if line and not line.startswith("#")} == VARIABLES


def test_the_example_of_the_environment_is_the_defaults() -> None:
    lines = (ROOT / "config/.env.example").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    needed = KEYS | {"N8N_WEBHOOK_URL": "http://n8n", "ALLOWED_ORIGINS": "https://a.example"}
    assert load(None, env | needed) == load(None, needed)


def rows(page: str) -> dict[str, list[str]]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    assert len(cells) == len({row[0] for row in cells})
    return {row[0].strip("`"): row[1:] for row in cells}


def page() -> dict[str, list[str]]:
    return rows((ROOT / "docs/configuration.md").read_text())


def test_the_page_has_every_variable_and_every_setting_and_no_other() -> None:
    leaves = {path for path, form, _ in settings_of(Settings) if is_leaf(form)}
    shown = {*OVERRIDES, "limits", "budgets", "filters.redact", "upstreams.NAME.auth", "sites.NAME.upstream"}
    assert page().keys() == leaves | shown | VARIABLES


def test_the_page_says_what_may_be_written_and_the_default() -> None:
    table = page()
    for path, form, default in settings_of(Settings):
        if path not in table or path.endswith(".kind"):
            continue
        kind, shown, meaning = table[path]
        assert (path, kind) == (path, describe(form))
        assert meaning
        value = plain(default)
        if path == "limits":
            assert shown == "below"
        elif default is PydanticUndefined:
            assert (path, shown) == (path, "required")
        elif value is None or value == "":
            assert (path, shown) == (path, "none")
        else:
            assert (path, shown) == (path, f"`{value if isinstance(value, str) else json.dumps(value)}`")


def test_the_page_names_settings_of_the_code_only() -> None:
    known = {path for path, _, _ in settings_of(Settings)} | {
        "sites.default.origins",
        "sites.default.allow_credentials",
        "hooks.whatsapp.secret",
    }
    known |= {"upstreams.default.url", "upstreams.default.auth", "sites.NAME", "upstreams.NAME"}
    tops = "|".join(Settings.model_fields)
    words = re.findall(rf"`((?:{tops})\.[a-zA-Z_.\[\]]+)`", (ROOT / "docs/configuration.md").read_text())
    assert len(words) > 50
    assert set(words) <= known
