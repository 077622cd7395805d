"""The command line, as whoever types it sees it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy import __version__, app, workers
from proxy.__main__ import demo_settings, main
from proxy.config import parse_yaml
from proxy.reading import Loaded, load
from proxy.settings import Settings, json_schema
from proxy.weak import weakness

KEY = "Zk4vQ9xW2mB7hT1nC8sJ5dL0gR3fYpEa"
OTHER_KEY = "pX7cV2bN9mK4jH8gF3dS6aQ1wE5rT0yU"
FINE = {
    "N8N_WEBHOOK_URL": "http://n8n:5678/webhook/chat",
    "ALLOWED_ORIGINS": "https://shop.example",
    "SESSION_SECRET_KEY": KEY,
    "JWT_SECRET_KEY": OTHER_KEY,
}
SEVEN = """
environment: staging
debgu: true
session: {key: hunter2-hunter2, lifetime: soon}
upstreams: {support: {kind: n8n}}
sites: {shop: {origins: ["*"], upstream: suport}}
"""
DEADLINE = 60  # seconds that a process may take to start on a busy machine


def run(*arguments: str, **env: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("SIDEGATE"):
                patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        return CliRunner().invoke(main, arguments, prog_name="sidegate")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, str | None]]:
    """What would have been served."""
    calls: list[tuple[Settings, str | None]] = []
    monkeypatch.setattr(app, "run", lambda settings, *, banner=None: calls.append((settings, banner)))

    def supervise(loaded: Loaded, load: workers.Load) -> bool:
        calls.append((loaded.settings, None))
        return True

    monkeypatch.setattr(workers, "serve", supervise)
    return calls


def test_the_version_is_told() -> None:
    assert run("--version").output == f"sidegate, version {__version__}\n"


def test_help_names_the_commands() -> None:
    words = run("-h").output.split()
    assert {"serve", "demo", "check-config", "init"} <= set(words)
    assert "schema" not in words


def test_seven_mistakes_in_one_file_are_seven_lines(tmp_path: Path) -> None:
    path = tmp_path / "sidegate.yaml"
    path.write_text(SEVEN)
    result = run("check-config", "--config", str(path), SIDEGATE__LISTN__PORT="1")
    assert result.exit_code == 1
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == [
        *("SIDEGATE__LISTN__PORT", "debgu", "session.key", "environment", "session.lifetime"),
        *("upstreams.support.url", "sites.shop.origins[0]", "signing.key", "sites.shop.upstream"),
    ]
    assert all("; " in line for line in result.stdout.splitlines())
    assert "hunter2" not in result.output


def test_a_fine_configuration_is_told_in_words() -> None:
    result = run("check-config", **FINE, REDIS_URL="redis://:hunter2-hunter2@redis:6379")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "The configuration is fine.",
        "production, on 0.0.0.0:8080 (ops 127.0.0.1:9090), state in redis",
        "site default: https://shop.example -> default; limits: 60 per ip in 60 s, 1000 per ip in 3600 s,"
        " 30 per session in 60 s, 1000 per site in 60 s, 60 per api_key in 60 s",
        "upstream default: n8n http://n8n:5678/webhook/chat",
        "warning: listen.allowed_hosts: empty, so every Host is served; list the names of this service",
    ]


def test_a_site_without_pages_or_limits_is_told_so() -> None:
    env = {"ENVIRONMENT": "development", "SIDEGATE__UPSTREAMS__E__KIND": "echo", "SIDEGATE__SITES__A__PAGE": "true"}
    lines = run("check-config", **env, SIDEGATE__LIMITS="[]").stdout.splitlines()
    assert "site a: its own chat page -> e; limits: none" in lines
    assert "upstream e: echo" in lines
    assert (
        "site a: no page -> e; limits: none"
        in run(
            "check-config", **(env | {"SIDEGATE__SITES__A__PAGE": "false"}), SIDEGATE__LIMITS="[]"
        ).stdout.splitlines()
    )


def test_serve_starts_nothing_when_something_is_wrong(ran: list[tuple[Settings, str | None]]) -> None:
    result = run("serve", **FINE | {"SESSION_SECRET_KEY": "hunter2"})
    assert (result.exit_code, result.stdout, ran) == (2, "", [])
    assert result.stderr.splitlines() == [
        "session.key (SESSION_SECRET_KEY): shorter than 32 bytes; use what `openssl rand -base64 48` prints",
        "1 to put right; nothing was started.",
    ]


def test_serve_starts_what_the_configuration_says(tmp_path: Path, ran: list[tuple[Settings, str | None]]) -> None:
    (tmp_path / "sidegate.yaml").write_text("content: {max_chars: 7}")
    result = run("serve", "--config", str(tmp_path / "sidegate.yaml"), **FINE)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("warning: listen.allowed_hosts: empty")
    ((settings, banner),) = ran
    assert (settings.content.max_chars, banner) == (7, None)


def test_an_address_that_is_taken_is_told_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: Settings, *, banner: str | None = None) -> None:
        raise OSError(number, "address in use")

    monkeypatch.setattr(app, "run", fail)
    number = errno.EADDRINUSE
    result = run("demo")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "Error: can't listen: address in use")
    number = errno.EIO
    assert isinstance(run("demo").exception, OSError)


def test_serve_reads_the_same_configuration_again_with_the_keys_it_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sidegate.yaml"
    text = "environment: development\nupstreams: {e: {kind: echo}}\nsites: {shop: {page: true}}\n"
    seen: list[Settings] = []

    def supervise(loaded: Loaded, load: workers.Load) -> bool:
        path.write_text(f"{text}content: {{max_chars: 7}}\n")
        seen.extend([loaded.settings, load().settings])
        return False

    path.write_text(text)
    monkeypatch.setattr(workers, "serve", supervise)
    assert run("serve", "--config", str(path)).exit_code == 1  # not all workers ended in time
    before, after = seen
    assert (before.content.max_chars, after.content.max_chars) == (2000, 7)
    assert before.session.key == after.session.key
    assert before.signing.key == after.signing.key


def test_the_demo_is_for_this_computer_alone() -> None:
    settings = demo_settings("127.0.0.1", 8080, 9090)
    assert (settings.listen.host, settings.ops.host) == ("127.0.0.1", "127.0.0.1")
    assert settings.listen.allowed_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert settings.environment == "development"
    assert settings.store.url.reveal() == "memory:"
    assert demo_settings("0.0.0.0", 8080, 9090).listen.allowed_hosts == ()


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:81/"), ("::1", "http://[::1]:81/"), ("0.0.0.0", "http://localhost:81/")],
)
def test_the_demo_says_where_its_page_is(ran: list[tuple[Settings, str | None]], host: str, url: str) -> None:
    assert run("demo", "--host", host, "--port", "81").exit_code == 0
    ((_, banner),) = ran
    assert banner == f"The chat page is at {url} (Ctrl+C ends it)."


def test_a_port_that_is_none_is_refused() -> None:
    assert run("demo", "--port", "70000").exit_code == 2


def test_init_writes_what_serve_can_use(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    result = run(
        "init", "--dir", str(folder), "--origin", "https://Shop.example:443/", "--n8n-url", "https://n8n.example/x"
    )
    assert result.exit_code == 0
    loaded = load(folder / "sidegate.yaml", {})
    assert loaded.settings.sites["shop"].origins == ("https://shop.example",)
    assert getattr(loaded.settings.upstreams["support"], "url", "") == "https://n8n.example/x"
    assert loaded.settings.session.key is not None
    keys = {loaded.settings.session.key.reveal(), loaded.settings.signing.key.reveal()}
    assert len(keys) == 2
    assert [weakness(key) for key in keys] == [None, None]
    assert not [key for key in keys if key in result.output]


def test_init_gives_secrets_to_their_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert run("init", "--dir", str(tmp_path), "--origin", "https://a.example").exit_code == 0
    finally:
        os.umask(old)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.rglob("*")}
    assert modes == {"sidegate.yaml": "0o600", "secrets": "0o700", "session_key": "0o600", "jwt_key": "0o600"}


def test_init_says_what_comes_next(tmp_path: Path) -> None:
    lines = run("init", "--dir", str(tmp_path)).stdout.splitlines()
    assert f"  - list your pages in sites.shop.origins of {tmp_path}/sidegate.yaml" in lines
    assert f"  - sidegate serve --config {tmp_path}/sidegate.yaml" in lines
    result = run("check-config", "--config", str(tmp_path / "sidegate.yaml"))
    assert result.stdout == "sites.shop.origins: missing; list the pages' origins, such as https://shop.example\n"


@pytest.mark.parametrize("name", ["sidegate.yaml", "secrets/session_key", "secrets/jwt_key"])
def test_init_overwrites_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / name).symlink_to("nowhere")
    result = run("init", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / name} is there already; nothing was written. Choose another --dir.\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_init_says_what_it_cannot_write() -> None:
    result = run("init", "--dir", "/proc/nothing/here")
    assert result.exit_code == 1
    assert "/proc/nothing" in result.stderr
    assert "can't be written" in result.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--origin", "*"), ("--origin", "https://a.example/x"), ("--n8n-url", "n8n"), ("--n8n-url", "")],
)
def test_init_checks_what_it_is_told(tmp_path: Path, option: str, value: str) -> None:
    result = run("init", "--dir", str(tmp_path), option, value)
    assert result.exit_code == 2
    assert f"Invalid value for {option}" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_quotes_what_it_writes(tmp_path: Path) -> None:
    url = "http://n8n/webhook/a%22%7D:?a=b&c='#"
    url = url.rstrip("#")
    assert run("init", "--dir", str(tmp_path), "--n8n-url", url).exit_code == 0
    values = parse_yaml((tmp_path / "sidegate.yaml").read_text(), lambda place, text: pytest.fail(text))
    assert isinstance(values, dict)
    assert values["upstreams"]["support"]["url"] == url


def test_the_schema_is_printed() -> None:
    assert json.loads(run("schema").stdout) == json.loads(json.dumps(json_schema()))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def process(*arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "proxy", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIDEGATE")}
    with subprocess.Popen(
        command, env=clean | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def fetch(url: str) -> tuple[int, str]:
    """Asked again until somebody listens."""
    ends = time.monotonic() + DEADLINE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


def test_the_demo_serves_its_page_and_ends_when_asked() -> None:
    port, ops_port = free_port(), free_port()
    with process("demo", "--port", str(port), "--ops-port", str(ops_port)) as running:
        status, page = fetch(f"http://127.0.0.1:{port}/")
        assert (status, "<html" in page) == (200, True)
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=DEADLINE)
    assert out == f"The chat page is at http://127.0.0.1:{port}/ (Ctrl+C ends it).\n"
    assert running.returncode == 0


def test_variables_alone_start_a_server_without_a_page() -> None:
    ports = {"SIDEGATE__LISTEN__PORT": str(free_port()), "SIDEGATE__OPS__PORT": str(free_port())}
    with process("serve", **FINE, **ports, SIDEGATE__LISTEN__HOST="127.0.0.1") as running:
        assert fetch(f"http://127.0.0.1:{ports['SIDEGATE__LISTEN__PORT']}/")[0] == 404
        assert fetch(f"http://127.0.0.1:{ports['SIDEGATE__OPS__PORT']}/livez")[0] == 200
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=DEADLINE)
    assert (running.returncode, out) == (0, "")
    assert not [secret for secret in (KEY, OTHER_KEY) if secret in err]


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_a_port_that_is_taken_ends_the_start(command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        where = {"SIDEGATE__LISTEN__PORT": str(port), "SIDEGATE__LISTEN__HOST": "127.0.0.1"}
        options = ["--port", str(port), "--ops-port", str(free_port())] if command == "demo" else []
        with process(command, *options, **FINE, **where, SIDEGATE__OPS__PORT=str(free_port())) as running:
            out, err = running.communicate(timeout=DEADLINE)
    assert (running.returncode, out) == (1, "")
    assert "Error: can't listen" in err
    assert command == "demo" or f"127.0.0.1:{port}" in err
    assert "Traceback" not in err
