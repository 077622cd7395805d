"""The flat variables, alone and on top of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.config import ConfigError, Secret
from proxy.guard.keys import hash_of
from proxy.reading import load
from proxy.settings import Settings
from proxy.upstream.headers import HeaderAuth
from proxy.upstream.n8n import N8nSettings
from proxy.variables import VARIABLES, near_misses

KEY = "Zk4vQ9xW2mB7hT1nC8sJ5dL0gR3fYpEa"
OTHER_KEY = "pX7cV2bN9mK4jH8gF3dS6aQ1wE5rT0yU"
NEEDED = {
    "N8N_WEBHOOK_URL": "http://n8n:5678/webhook/chat",
    "ALLOWED_ORIGINS": "https://shop.example",
    "SESSION_SECRET_KEY": KEY,
    "JWT_SECRET_KEY": OTHER_KEY,
}
TWO = """
upstreams: {a: {kind: echo}, b: {kind: n8n, url: "http://b"}}
sites: {x: {upstream: a, origins: ["https://x.example"]}, y: {upstream: b, origins: ["https://y.example"]}}
"""
ONE = """
upstreams: {support: {kind: n8n, url: "http://old"}}
sites: {shop: {origins: ["https://old.example"]}}
"""


def settings(path: Path | None = None, /, **variables: str) -> Settings:
    return load(path, NEEDED | variables).settings


def problems(path: Path | None = None, /, **variables: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(path, NEEDED | variables)
    return {problem.path: problem.text for problem in caught.value.problems}


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sidegate.yaml"
    path.write_text(text)
    return path


def only_n8n(found: Settings) -> N8nSettings:
    (upstream,) = found.upstreams.values()
    assert isinstance(upstream, N8nSettings)
    return upstream


def test_four_variables_configure_one_site() -> None:
    found = settings()
    assert list(found.sites) == list(found.upstreams) == ["default"]
    assert found.sites["default"].origins == ("https://shop.example",)
    assert found.sites["default"].upstream == "default"
    assert only_n8n(found).url == NEEDED["N8N_WEBHOOK_URL"]
    assert only_n8n(found).auth == "jwt"
    assert (found.session.key, found.signing.key) == (Secret(KEY), Secret(OTHER_KEY))
    assert found.environment == "production"


@pytest.mark.parametrize(
    ("variables", "path", "value"),
    [
        ({"JWT_ALGORITHM": "HS256"}, "signing.algorithm", "HS256"),
        ({"JWT_EXPIRATION_HOURS": "2"}, "session.access_lifetime", 7200),
        ({"JWT_EXPIRATION_HOURS": "0.5"}, "session.access_lifetime", 1800),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "30"}, "session.access_lifetime", 1800),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "30", "JWT_EXPIRATION_HOURS": "2"}, "session.access_lifetime", 1800),
        ({"SESSION_COOKIE_MAX_AGE": "3600"}, "session.lifetime", 3600),
        ({"SESSION_COOKIE_NAME": "sid"}, "session.cookie_name", "sid"),
        ({"ALLOWED_HOSTS": "a.example, b.example,"}, "listen.allowed_hosts", ("a.example", "b.example")),
        ({"ALLOWED_HOSTS": '["a.example"]'}, "listen.allowed_hosts", ("a.example",)),
        ({"REDIS_URL": "redis://redis:6379/0"}, "store.url", Secret("redis://redis:6379/0")),
        ({"MAX_MESSAGE_LENGTH": "500"}, "content.max_chars", 500),
        ({"ENABLE_MASKING": "no"}, "content.pii.mode", "off"),
        ({"ENABLE_MASKING": "1"}, "content.pii.mode", "restore"),
        ({"MASKING_LOG_ENABLED": "false"}, "content.pii.log", False),
        ({"ENVIRONMENT": "Development"}, "environment", "development"),
        ({"ENVIRONMENT": "development", "DEBUG": "true"}, "debug", True),
        ({"ENVIRONMENT": "development", "DEBUG": "1"}, "debug", True),
        ({"DEBUG": "no"}, "debug", False),
        ({"LOG_LEVEL": "warning"}, "telemetry.log_level", "WARNING"),
        ({"SECURITY_LOG_LEVEL": "ERROR"}, "audit.level", "ERROR"),
    ],
)
def test_a_variable_sets_its_setting(variables: dict[str, str], path: str, value: object) -> None:
    found: object = settings(**variables)
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("variable", "written", "mode"),
    [("true", "mask", "mask"), ("true", "restore", "restore"), ("true", "off", "restore"), ("false", "mask", "off")],
)
def test_masking_is_switched_on_the_way_the_file_says(tmp_path: Path, variable: str, written: str, mode: str) -> None:
    path = file(tmp_path, f"content: {{pii: {{mode: {written}}}}}")
    assert settings(path, ENABLE_MASKING=variable).content.pii.mode == mode


def test_masking_is_switched_on_or_off_and_nothing_else() -> None:
    assert problems(ENABLE_MASKING="maybe") == {"ENABLE_MASKING": "neither true nor false; write one of them"}


def test_credentials_are_allowed_for_the_site() -> None:
    assert settings(CORS_ALLOW_CREDENTIALS="true").sites["default"].allow_credentials


def test_the_api_key_of_n8n_is_a_header_beside_the_token() -> None:
    auth = only_n8n(settings(N8N_API_KEY="secret-of-n8n")).auth
    assert auth == HeaderAuth(kind="header", name="X-N8N-API-KEY", value=Secret("secret-of-n8n"))


def test_rate_limits_change_the_limits_per_address_and_leave_the_others() -> None:
    found = settings(RATE_LIMIT_PER_MINUTE="10", RATE_LIMIT_PER_HOUR="100", RATE_LIMIT_BURST="5").limits
    assert [(rule.per, rule.limit, rule.window, rule.burst) for rule in found] == [
        *(("ip", 10, 60, 5), ("ip", 100, 3600, 0)),
        *(("session", 30, 60, 0), ("site", 1000, 60, 0), ("api_key", 60, 60, 0)),
    ]


def test_a_rate_limit_is_added_where_the_file_has_none(tmp_path: Path) -> None:
    path = file(tmp_path, "limits: [{per: session, limit: 5, window: 60}]")
    found = settings(path, RATE_LIMIT_PER_MINUTE="10", RATE_LIMIT_BURST="2").limits
    assert [(rule.per, rule.limit, rule.burst) for rule in found] == [("session", 5, 0), ("ip", 10, 2)]


def test_a_burst_needs_a_limit_that_it_belongs_to(tmp_path: Path) -> None:
    path = file(tmp_path, "limits: []")
    assert "set RATE_LIMIT_PER_MINUTE too" in problems(path, RATE_LIMIT_BURST="5")["RATE_LIMIT_BURST"]


def test_rate_limits_on_top_of_something_that_is_no_list_are_one_problem(tmp_path: Path) -> None:
    assert problems(file(tmp_path, "limits: 5"), RATE_LIMIT_PER_HOUR="5").keys() == {"limits"}


@pytest.mark.parametrize(
    ("variables", "path", "text"),
    [
        (
            {"RATE_LIMIT_PER_MINUTE": "many"},
            "limits[0].limit (RATE_LIMIT_PER_MINUTE)",
            "not a whole number; write a whole",
        ),
        (
            {"RATE_LIMIT_PER_HOUR": "0"},
            "limits[1].limit (RATE_LIMIT_PER_HOUR)",
            "out of range; write a whole number from 1",
        ),
        ({"JWT_EXPIRATION_HOURS": "soon"}, "JWT_EXPIRATION_HOURS", "not a number"),
        ({"JWT_EXPIRATION_HOURS": "true"}, "JWT_EXPIRATION_HOURS", "not a number"),
        ({"ACCESS_TOKEN_EXPIRE_MINUTES": "9e99"}, "session.access_lifetime (ACCESS_TOKEN_EXPIRE_MINUTES)", "range"),
        ({"JWT_ALGORITHM": "none"}, "signing.algorithm (JWT_ALGORITHM)", "write HS256, RS256, ES256 or EdDSA"),
        ({"N8N_WEBHOOK_URL": "n8n"}, "upstreams.default.url (N8N_WEBHOOK_URL)", "give a whole address"),
        ({"ALLOWED_ORIGINS": "*"}, "sites.default.origins[0] (ALLOWED_ORIGINS)", "https://shop.example"),
        ({"ALLOWED_ORIGINS": "[a"}, "sites.default.origins (ALLOWED_ORIGINS)", "not valid YAML"),
        ({"ENVIRONMENT": "staging"}, "environment (ENVIRONMENT)", "write development or production"),
        ({"DEBUG": "*"}, "debug (DEBUG)", "neither true nor false"),
        ({"REDIS_URL": "http://:hunter2@redis"}, "store.url (REDIS_URL)", "redis://"),
        ({"ENCRYPTION_KEY": "hunter2"}, "store.encryption_key (ENCRYPTION_KEY)", "shorter than 32 bytes"),
        ({"N8N_API_KEY": "hunter2\r\n\r\nx"}, "upstreams.default.auth (N8N_API_KEY)", "no header can carry"),
        ({"SESSION_COOKIE_NAME": "\udcff"}, "SESSION_COOKIE_NAME", "not UTF-8"),
    ],
)
def test_a_bad_value_is_named_with_its_variable(variables: dict[str, str], path: str, text: str) -> None:
    found = problems(**variables)
    assert list(found) == [path]
    assert text in found[path]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_every_variable_can_come_from_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "value").write_text("\n")
    assert problems(**{name: "", f"{name}_FILE": str(tmp_path / "value")})[f"{name}_FILE"].endswith("secret into it")


def test_a_secret_comes_from_the_file_that_its_variable_names(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY[::-1] + "\n")
    found = settings(SESSION_SECRET_KEY="", SESSION_SECRET_KEY_FILE=str(tmp_path / "key"))
    assert found.session.key == Secret(KEY[::-1])


def test_a_variable_and_its_file_at_once_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    found = problems(SESSION_SECRET_KEY_FILE=str(tmp_path / "key"))
    assert found["SESSION_SECRET_KEY"] == "set twice, also by SESSION_SECRET_KEY_FILE; keep one of them"


def test_a_variable_that_is_set_to_nothing_is_not_set() -> None:
    assert load(None, NEEDED | dict.fromkeys(VARIABLES - NEEDED.keys(), "")) == load(None, NEEDED)


def test_blanks_are_part_of_a_secret_and_not_of_a_number() -> None:
    found = settings(SESSION_SECRET_KEY=f" {KEY} ", MAX_MESSAGE_LENGTH=" 500 ", SESSION_COOKIE_NAME=" ")
    assert (found.session.key, found.content.max_chars) == (Secret(f" {KEY} "), 500)
    assert found.session.cookie_name == "chat_session_id"


def test_the_secret_of_whatsapp_opens_its_hook() -> None:
    hook = settings(WHATSAPP_WEBHOOK_SECRET=KEY).hooks["whatsapp"]
    assert (hook.provider, hook.secret, hook.upstream) == ("whatsapp", Secret(KEY), "default")
    assert settings(WHATSAPP_WEBHOOK_SECRET="false") == settings(WHATSAPP_WEBHOOK_SECRET="[]") == settings()


def test_the_secret_of_whatsapp_may_be_that_of_a_hook_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sidegate.yaml"
    file.write_text("hooks: {whatsapp: {provider: whatsapp, limit: 7}}\n")
    hook = load(file, NEEDED | {"WHATSAPP_WEBHOOK_SECRET": KEY}).settings.hooks["whatsapp"]
    assert (hook.secret, hook.limit) == (Secret(KEY), 7)


def test_api_keys_are_hashed_and_taken_by_the_one_site() -> None:
    other = hash_of("x" * 32)
    found = settings(API_KEYS=f"{KEY},{other}")
    assert [(key.name, key.hash, key.site) for key in found.keys.api] == [
        ("api-keys-1", hash_of(KEY), "default"), ("api-keys-2", other, "default"),
    ]  # fmt: skip
    assert found.sites["default"].auth == ("anonymous", "api_key")
    assert KEY not in repr(found)
    for nothing in ("", "[]", "false"):
        assert settings(API_KEYS=nothing) == settings()


def test_api_keys_are_added_to_those_of_the_file(tmp_path: Path) -> None:
    sections = {
        "upstreams": {"u": {"kind": "echo"}},
        "sites": {"shop": {"origins": ["https://shop.example"], "auth": ["api_key"]}},
        "keys": {"api": [{"name": "bot", "hash": hash_of("bot")}]},
    }
    (tmp_path / "sidegate.yaml").write_text(json.dumps(sections))
    env = {name: value for name, value in NEEDED.items() if name.endswith("_KEY")}
    found = load(tmp_path / "sidegate.yaml", env | {"API_KEYS": KEY}).settings
    assert [(key.name, key.site) for key in found.keys.api] == [("bot", "shop"), ("api-keys-1", "shop")]
    assert found.sites["shop"].auth == ("api_key",)


def test_a_weak_api_key_is_refused_in_production_and_not_repeated() -> None:
    found = problems(API_KEYS="hunter2")
    assert found["keys.api[0] (API_KEYS)"] == "shorter than 32 bytes; use what `sidegate keys new` prints"
    assert "hunter2" not in repr(found)
    assert settings(API_KEYS="hunter2", ENVIRONMENT="development").keys.api[0].hash == hash_of("hunter2")


@pytest.mark.parametrize("text", ["{a: b}", "[1]", "[a", "a.b.c", f"{KEY},a.b"])
def test_api_keys_are_a_list_of_what_no_token_looks_like(text: str) -> None:
    assert problems(API_KEYS=text)["API_KEYS"].startswith("not a list of keys")


def test_with_several_sites_api_keys_belong_into_the_file(tmp_path: Path) -> None:
    found = problems(file(tmp_path, TWO), API_KEYS=KEY)
    assert "it isn't clear which of" in found["API_KEYS"]


def test_an_encryption_key_is_the_stores() -> None:
    assert settings(ENCRYPTION_KEY=KEY).store.encryption_key == Secret(KEY)
    assert settings().store.encryption_key is None


def test_cors_origins_are_another_name_for_the_origins() -> None:
    found = settings(ALLOWED_ORIGINS="", CORS_ALLOWED_ORIGINS='["https://a.example", "https://b.example:443"]')
    assert found.sites["default"].origins == ("https://a.example", "https://b.example")


def test_cors_origins_cannot_allow_more_than_the_origins_do() -> None:
    assert settings(CORS_ALLOWED_ORIGINS="https://SHOP.example:443/") == settings()
    found = problems(CORS_ALLOWED_ORIGINS="https://shop.example,https://evil.example,*")
    assert found["CORS_ALLOWED_ORIGINS"].startswith("*, https://evil.example is not in ALLOWED_ORIGINS")


@pytest.mark.parametrize("text", ["{}", "[a"])
def test_cors_origins_are_a_list(text: str) -> None:
    assert problems(CORS_ALLOWED_ORIGINS=text)["CORS_ALLOWED_ORIGINS"].startswith("not a list")
    found = problems(ALLOWED_ORIGINS=text, CORS_ALLOWED_ORIGINS="https://shop.example")
    assert [path for path in found if "ALLOWED_ORIGINS" in path] == ["sites.default.origins (ALLOWED_ORIGINS)"]


def test_variables_change_the_only_site_and_upstream_of_a_file(tmp_path: Path) -> None:
    found = settings(file(tmp_path, ONE))
    assert list(found.sites) == ["shop"]
    assert found.sites["shop"].origins == ("https://shop.example",)
    assert only_n8n(found).url == NEEDED["N8N_WEBHOOK_URL"]


def test_variables_do_not_guess_which_of_several_sites_is_meant(tmp_path: Path) -> None:
    found = problems(file(tmp_path, TWO))
    assert (
        found["ALLOWED_ORIGINS"]
        == "it isn't clear which of x, y is meant; write SIDEGATE__SITES__NAME__ORIGINS instead"
    )
    assert found["N8N_WEBHOOK_URL"].endswith("which of a, b is meant; write SIDEGATE__UPSTREAMS__NAME__URL instead")


def test_sites_and_upstreams_that_other_variables_name_count_too() -> None:
    found = settings(SIDEGATE__SITES__SHOP__PAGE="true", SIDEGATE__UPSTREAMS__SUPPORT__TIMEOUTS__TOTAL="30")
    assert found.sites["shop"].origins == ("https://shop.example",)
    assert found.upstreams.keys() == {"support"}
    assert only_n8n(found).timeouts.total == 30


def test_a_setting_own_variable_wins_over_a_flat_one() -> None:
    assert settings(MAX_MESSAGE_LENGTH="500", SIDEGATE__CONTENT__MAX_CHARS="600").content.max_chars == 600


def test_a_file_without_sites_gets_one_from_the_variables(tmp_path: Path) -> None:
    found = settings(file(tmp_path, "upstreams: {support: {kind: echo}}\nsites: null"), N8N_WEBHOOK_URL="")
    assert found.sites["default"].upstream == "support"


def test_an_upstream_alone_makes_a_site_that_lacks_its_origins() -> None:
    assert problems(ALLOWED_ORIGINS="").keys() == {"sites.default.origins"}


def test_names_that_look_like_a_variable_of_ours_are_told() -> None:
    found = near_misses({"ALLOWED_ORIGIN": "x", "JWT_SECRETS_KEY_FILE": "x", "LOG_LEVEL": "x", "PATH": "x"})
    assert [(problem.path, problem.text.rpartition(" ")[2]) for problem in found] == [
        ("ALLOWED_ORIGIN", "ALLOWED_ORIGINS"),
        ("JWT_SECRETS_KEY_FILE", "JWT_SECRET_KEY"),
    ]
    assert (
        near_misses({"SIDEGATE__LOG_LEVEL": "x", "REDIS_PORT": "tcp://10.0.0.1", "N8N_PORT": "1", "N8N_HOST": "a"})
        == []
    )
