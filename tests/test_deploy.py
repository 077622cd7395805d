"""deploy/, the Dockerfile and the CI workflow: what they promise about security, held against the files and each other.

No container engine is needed. That the image builds and runs is the CI job `image`'s business.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import reading, settings
from proxy.store import Hits, Tier
from proxy.store.redis.counts import RedisStore
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from tests.servers import RedisServer
from tests.store.test_topologies import use_all_of_it

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# Any: YAML as it is written.
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
GROUP = 10001


# compose.yaml


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
def test_a_container_has_no_more_than_it_needs(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {
        "privileged",
        "cap_add",
        "devices",
        "network_mode",
        "pid",
        "ipc",
        "userns_mode",
        "env_file",
    }
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
def test_an_image_is_pinned_to_a_release(service: dict[str, Any]) -> None:
    image = re.fullmatch(r"\$\{[A-Z0-9_]+_IMAGE:-([^}:]+):([^}:]+)\}", service["image"])
    assert image
    assert re.match(r"v?\d+\.\d+\.\d+", image[2])


def test_nothing_but_sidegate_and_the_monitoring_is_published_and_only_to_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"sidegate", "prometheus"}
    assert SERVICES["prometheus"]["profiles"] == ["monitoring"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_only_sidegate_reaches_n8n_and_redis() -> None:
    members = {
        network: {name for name, s in SERVICES.items() if network in s["networks"]} for network in COMPOSE["networks"]
    }
    assert members == {
        "front": {"sidegate", "prometheus"},
        "workflow": {"sidegate", "n8n"},
        "state": {"sidegate", "redis"},
        "monitoring": {"sidegate", "prometheus"},
        "egress": {"n8n"},
    }


def test_only_n8n_reaches_the_internet() -> None:
    networks = COMPOSE["networks"]
    closed = {name for name, network in networks.items() if network.get("internal") is True}
    assert closed == {"workflow", "state", "monitoring"}
    assert networks["front"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}


def test_every_container_says_whether_it_is_well() -> None:
    for name, service in SERVICES.items():
        assert name == "sidegate" or service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert "HEALTHCHECK" in DOCKERFILE


def test_no_container_runs_as_root() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert SERVICES["redis"]["user"] == f"999:{GROUP}"
    # n8n's and Prometheus' images name users of their own, node and nobody.
    assert all("user" not in SERVICES[name] for name in ("sidegate", "n8n", "prometheus"))


def test_secrets_come_from_files_that_their_readers_may_read(tmp_path: Path) -> None:
    readers = {name for name, service in SERVICES.items() if service.get("secrets")}
    assert readers == {"sidegate", "n8n", "redis", "prometheus"}
    for name in readers - {"sidegate"}:
        groups = [*SERVICES[name].get("group_add", []), SERVICES[name].get("user", "").partition(":")[2]]
        assert str(GROUP) in groups
    named = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert named == COMPOSE["secrets"].keys()
    make_secrets(tmp_path)
    written = {entry["file"] for entry in COMPOSE["secrets"].values()}
    assert written == {f"./secrets/{file.name}" for file in tmp_path.iterdir()}


def test_no_secret_is_in_the_environment() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search(r"KEY|SECRET|TOKEN|PASSWORD", name) or value.startswith("/run/secrets/")


def test_the_editor_of_n8n_is_published_to_loopback_only() -> None:
    editor = yaml.safe_load((DEPLOY / "compose.editor.yaml").read_text())
    assert editor == {"services": {"n8n": {"ports": ["127.0.0.1:5678:5678"]}}}


def test_the_stack_runs_the_n8n_that_the_tests_run() -> None:
    tested = json.loads((ROOT / "tests/n8n/slim/package.json").read_text())["dependencies"]["n8n"]
    assert SERVICES["n8n"]["image"].endswith(f":{tested}}}")


# Secrets


def make_secrets(folder: Path) -> None:
    subprocess.run([DEPLOY / "make-secrets", folder], check=True, capture_output=True, timeout=30)


def test_secrets_are_unreadable_to_others_on_the_host(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        found = file.stat()
        wanted = (0o440, GROUP) if os.geteuid() == 0 else (0o444, os.getegid())
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == wanted


def test_secrets_are_made_once_and_differ(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    make_secrets(tmp_path)
    assert before == {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert len(set(before.values())) == len(before)


def test_a_missing_secret_is_made_anew(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    kept = (tmp_path / "jwt_key").read_text()
    (tmp_path / "redis_conf").unlink()
    make_secrets(tmp_path)
    assert (tmp_path / "jwt_key").read_text() == kept
    password = parse_url((tmp_path / "redis_url").read_text()).password
    assert password is not None
    assert f">{password.reveal()} " in (tmp_path / "redis_conf").read_text()


# Redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[RedisServer, str]]:
    """A Redis with the users of make-secrets, and Sidegate's address of it."""
    make_secrets(tmp_path)
    lines = (tmp_path / "redis_conf").read_text().splitlines()
    options = [word for line in lines if not line.startswith("bind") for word in f"--{line}".split()]
    with RedisServer(options=tuple("" if word == '""' else word for word in options)) as server:
        yield server, (tmp_path / "redis_url").read_text().replace("redis:6379", f"127.0.0.1:{server.port}")


async def test_sidegate_may_do_in_redis_what_it_does(redis: tuple[RedisServer, str]) -> None:
    store = RedisStore(Link(parse_url(redis[1])))
    try:
        hits = await store.hit([Tier("shop/limit:ip-60s:192.0.2.1", 2, 60, burst=5)])
        assert [hit.remaining for hit in hits] == [1]
        assert await store.add("ticket:1", 30)
        assert await store.has("ticket:1")
        assert (await store.beat("replica"))[0] == 1
        await store.restore([Hits("shop/limit", 60, [1.0], full_in=1.0)])
        await store.leave("replica")
    finally:
        await store.close()
    await use_all_of_it(redis[1])


def test_without_the_password_redis_only_answers_ping(redis: tuple[RedisServer, str]) -> None:
    server = redis[0]
    assert server.call("PING") == b"+PONG"
    for command in (["GET", "sidegate:x"], ["FLUSHALL"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["KEYS", "*"]):
        assert server.call(*command).startswith(b"-NOPERM")


# Sidegate's configuration


def loaded(tmp_path: Path) -> settings.Settings:
    """deploy/sidegate.yaml with secrets as make-secrets writes them."""
    make_secrets(tmp_path / "secrets")
    config = tmp_path / "sidegate.yaml"
    config.write_text((DEPLOY / "sidegate.yaml").read_text().replace("/run/secrets/", f"{tmp_path}/secrets/"))
    result = reading.load(config, {})
    assert result.warnings == ()
    return result.settings


def test_the_configuration_of_the_stack_is_fit_for_production(tmp_path: Path) -> None:
    assert loaded(tmp_path).environment == "production"


def test_the_configuration_fits_the_stack(tmp_path: Path) -> None:
    config, written = loaded(tmp_path), (DEPLOY / "sidegate.yaml").read_text()
    assert set(re.findall(r"/run/secrets/(\w+)", written)) == set(SERVICES["sidegate"]["secrets"])
    gateway = COMPOSE["networks"]["front"]["ipam"]["config"][0]["gateway"]
    assert config.listen.trusted_proxies == (gateway,)
    assert SERVICES["sidegate"]["ports"] == [f"127.0.0.1:${{SIDEGATE_PORT:-8080}}:{config.listen.port}"]
    assert f"EXPOSE {config.listen.port}\n" in DOCKERFILE
    assert f"'127.0.0.1', {config.ops.port}," in DOCKERFILE
    assert config.ops.token is not None
    workflow = json.loads((ROOT / "docs/n8n-integration/chat-workflow.json").read_text())
    path = next(node["parameters"]["path"] for node in workflow["nodes"] if node["type"] == "n8n-nodes-base.webhook")
    assert getattr(config.upstreams["n8n"], "url", "") == f"http://n8n:5678/webhook/{path}"


# Prometheus


def test_prometheus_reads_the_metrics_with_the_token(tmp_path: Path) -> None:
    assert PROMETHEUS.keys() == {"global", "scrape_configs"}
    (job,) = PROMETHEUS["scrape_configs"]
    assert job.keys() == {"job_name", "metrics_path", "authorization", "static_configs"}
    assert job["authorization"] == {"type": "Bearer", "credentials_file": "/run/secrets/ops_token"}
    assert job["static_configs"] == [{"targets": [f"sidegate:{loaded(tmp_path).ops.port}"]}]
    assert "ops_token" in SERVICES["prometheus"]["secrets"]


# Image


def test_the_base_image_is_pinned_and_the_same_in_both_stages() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+-slim-[a-z]+$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert "# syntax=" not in DOCKERFILE


def test_every_package_of_the_image_is_checked_by_hash() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install (.*)", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes --only-binary :all:" in line or "--no-deps --no-index" in line for line in installs)


def test_the_image_starts_sidegate_itself() -> None:
    last = DOCKERFILE.rstrip().splitlines()[-2:]
    assert last == ['ENTRYPOINT ["sidegate"]', 'CMD ["serve"]']
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE


def test_only_what_is_listed_gets_into_a_build() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    sources = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {word for line in sources for word in line.split()}
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


# CI


def test_ci_runs_what_developers_run() -> None:
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    assert {"run": "bash .ci/run"} in steps
    script = (ROOT / ".ci/run").read_text()
    assert re.findall(r"^scripts/\w+$", script, re.MULTILINE) == ["scripts/check", "scripts/test"]


def test_ci_trusts_no_moving_tag_and_may_change_nothing() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    uses = [step["uses"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", use) for use in uses)
    assert all("timeout-minutes" in job for job in WORKFLOW["jobs"].values())
