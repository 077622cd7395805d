"""scripts/: what they install, what they start, what they refuse; and the lock files they install from."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
LOCKS = ("requirements.txt", "requirements-build.txt", "requirements-dev.txt")
STRICTEST = {"ORIGIN": "https://shop.example", "HOSTS": "1", "STRICT": "1"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# test-security.sh


@contextmanager
def sidegate(*arguments: str, ops_port: int) -> Iterator[None]:
    """A Sidegate of its own process, alive when the block starts."""
    command = [sys.executable, "-m", "proxy", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 30
        while not is_alive(ops_port):
            assert process.poll() is None, "Sidegate ended"
            assert time.monotonic() < give_up, "Sidegate doesn't answer"
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def is_alive(ops_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/livez", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@dataclass(frozen=True)
class Checked:
    """What the script said, by check, and its exit code."""

    code: int
    verdicts: dict[str, bool]
    output: str


def security_checks(url: str, **settings: str) -> Checked:
    done = subprocess.run(
        [SCRIPTS / "test-security.sh", url], env=os.environ | settings,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
    )  # fmt: skip
    verdicts = re.findall(r"^(ok|FAIL) +(.*?)(?: \(status .*\))?$", done.stdout, re.MULTILINE)
    return Checked(done.returncode, {name: word == "ok" for word, name in verdicts}, done.stdout)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """The checks of a production configuration."""
    folder = tmp_path_factory.mktemp("production")
    port, ops_port = free_port(), free_port()
    config = folder / "sidegate.yaml"
    config.write_text(f"""
        environment: production
        listen: {{host: 127.0.0.1, port: {port}, allowed_hosts: [127.0.0.1]}}
        ops: {{port: {ops_port}}}
        session: {{key: {{file: session_key}}}}
        signing: {{key: {{file: jwt_key}}}}
        upstreams: {{echo: {{kind: echo}}}}
        sites: {{shop: {{origins: ["https://shop.example"], upstream: echo}}}}
        """)
    for name in ("session_key", "jwt_key"):
        (folder / name).write_text(os.urandom(32).hex())
    with sidegate("serve", "--config", str(config), ops_port=ops_port):
        return security_checks(f"http://127.0.0.1:{port}", SITE="shop", **STRICTEST)


def test_the_demo_passes_the_security_checks() -> None:
    port, ops_port = free_port(), free_port()
    with sidegate("demo", "--port", str(port), "--ops-port", str(ops_port), ops_port=ops_port):
        checked = security_checks(f"http://127.0.0.1:{port}", HOSTS="1")
    assert checked.code == 0, checked.output
    assert len(checked.verdicts) > 60


def test_a_production_configuration_passes_the_stricter_security_checks(production: Checked) -> None:
    assert production.code == 0, production.output
    assert "HSTS" in production.verdicts


class OpenDoor(BaseHTTPRequestHandler):
    """Lets everybody do everything, and talks too much."""

    def answer(self) -> None:
        told = self.rfile.read(int(self.headers.get("Content-Length", 0)))[:100].decode(errors="replace")
        chosen = re.search(r'"session_id":"([^"]*)"', told)
        session = chosen[1] if chosen else "s1"
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(
            f'{{"access_token": "aa.bb.cccccc", "session_id": "{session}", "refresh_token": "r", "ticket": "t"}} '
            f'redis root: {told} {self.headers.get("X-Probe")} Traceback (most recent call last): File "x.py"'.encode()
        )

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # any method
            return self.answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


class ShutDoor(OpenDoor):
    """Lets nobody do anything."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response_only(418)
        self.end_headers()


@contextmanager
def serving(door: type[OpenDoor]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), door)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_security_check_can_fail(production: Checked) -> None:
    failing: set[str] = set()
    for door in (OpenDoor, ShutDoor):
        with serving(door) as url:
            checked = security_checks(url, LIMIT="3", **STRICTEST)
        assert checked.code == 1
        assert checked.verdicts.keys() == production.verdicts.keys()
        failing |= {name for name, is_ok in checked.verdicts.items() if not is_ok}
    assert production.verdicts.keys() - failing == set()


def test_the_security_checks_say_when_nothing_answers() -> None:
    checked = security_checks(f"http://127.0.0.1:{free_port()}")
    assert (checked.code, checked.verdicts) == (2, {})
    assert checked.output.startswith("nothing answers at")


# The virtual environment


class Checkout:
    """A copy of the scripts with lock files of its own, and a pip that only writes down what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(SCRIPTS, folder / "scripts")
        for name in (*LOCKS, "pyproject.toml"):
            (folder / name).write_text("")
        self._calls = folder / "calls"
        (folder / "fake/pip").mkdir(parents=True)
        (folder / "fake/pip/__init__.py").write_text("")
        (folder / "fake/pip/__main__.py").write_text(
            "import os, sys\n"
            "print(*sys.argv[1:], file=open(os.environ['CALLS'], 'a'))\n"
            "if os.environ.get('BROKEN'): sys.exit('no network')\n"
        )

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"PYTHONPATH": str(self.folder / "fake"), "CALLS": str(self._calls), "PYTHON": sys.executable}
        return subprocess.run(
            command, cwd=self.folder, env=os.environ | own | environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def use(self, kind: str, **environment: str) -> list[str]:
        """What pip is asked for by `use_venv KIND`."""
        self._calls.write_text("")
        self.run("bash", "-c", f"set -euo pipefail; source scripts/lib/venv.sh; use_venv {kind}", **environment)
        return self._calls.read_text().splitlines()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.use("run")
    return checkout


@pytest.fixture
def checkout(ready: Checkout) -> Checkout:
    """A checkout whose environment is ready to run."""
    (ready.folder / "requirements.txt").write_text("# one\n")
    ready.use("run")
    return ready


def test_what_is_installed_is_what_the_lock_says_hash_by_hash(checkout: Checkout) -> None:
    (checkout.folder / "requirements.txt").write_text("# two\n")
    packages, project = checkout.use("run")
    assert "--require-hashes --only-binary :all:" in packages
    assert f"--requirement={checkout.folder}/requirements.txt" in packages
    assert "--no-deps --no-build-isolation --editable" in project


def test_the_second_start_installs_nothing(checkout: Checkout) -> None:
    assert checkout.use("run") == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt", "pyproject.toml"])
def test_a_changed_lock_or_project_is_installed_anew(checkout: Checkout, name: str) -> None:
    with (checkout.folder / name).open("a") as file:
        file.write("# changed\n")
    assert len(checkout.use("run")) == 2


def test_an_installation_that_failed_is_tried_again(checkout: Checkout) -> None:
    (checkout.folder / "requirements.txt").write_text("# three\n")
    assert len(checkout.use("run", BROKEN="1")) == 1
    assert len(checkout.use("run")) == 2


def test_an_environment_for_tests_is_good_for_running_too(checkout: Checkout) -> None:
    assert len(checkout.use("dev")) == 2
    assert checkout.use("run") == []


def test_too_old_a_python_is_refused_in_words(checkout: Checkout) -> None:
    shutil.rmtree(checkout.folder / ".venv")
    said = checkout.run("scripts/run", PYTHON="/bin/false").stderr
    assert "needs Python 3.11 or newer" in said


@pytest.mark.parametrize(
    ("arguments", "environment", "started"),
    [
        (["--port", "1"], {}, "demo --port 1"),
        ([], {"N8N_WEBHOOK_URL": "http://n8n/webhook/x"}, "serve"),
        (["--config", "a b.yaml"], {}, "serve --config a b.yaml"),
        (["--config=x.yaml"], {}, "serve --config=x.yaml"),
    ],
)
def test_run_starts_the_demo_unless_there_is_something_to_serve(
    checkout: Checkout, arguments: list[str], environment: dict[str, str], started: str
) -> None:
    program = checkout.folder / ".venv/bin/sidegate"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text('#!/bin/sh\necho "started $*"\n')
    program.chmod(0o755)
    checkout.use("run")
    assert f"started {started}\n" in checkout.run("scripts/run", *arguments, **environment).stdout


# The lock files


def locked(name: str) -> dict[str, str]:
    """Package name to version."""
    text = (ROOT / name).read_text()
    return {canonicalize_name(m[1]): m[2] for m in re.finditer(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_has_hashes_and_no_source(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[a-z0-9-]+==\S+ .*\\\n +--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert not re.search(r"://|^-|@|/", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("requirements.txt", PROJECT["project"]["dependencies"]),
        ("requirements-build.txt", PROJECT["build-system"]["requires"]),
        ("requirements-dev.txt", PROJECT["project"]["optional-dependencies"]["dev"]),
    ],
)
def test_the_lock_files_keep_up_with_the_project(name: str, wanted: list[str]) -> None:
    versions = locked(name)
    for requirement in map(Requirement, wanted):
        assert versions.get(canonicalize_name(requirement.name), "") in requirement.specifier, "run scripts/lock"


def test_tests_run_with_the_versions_that_are_shipped() -> None:
    dev = locked("requirements-dev.txt")
    assert {name: dev.get(name) for name in locked("requirements.txt")} == locked("requirements.txt")
    assert {name: dev.get(name) for name in locked("requirements-build.txt")} == locked("requirements-build.txt")


def test_the_coverage_gate_names_what_is_there() -> None:
    listed = re.search(r"COVERED_WHOLLY=\((.*?)\n\)", (SCRIPTS / "test").read_text(), re.DOTALL)
    assert listed
    patterns = set(listed[1].replace("'", "").split())
    planned = {"proxy/content/*"}
    assert {pattern for pattern in patterns - planned if not list(ROOT.glob(pattern))} == set()
