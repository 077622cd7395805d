"""What import contracts can't say: who may know aiohttp's server side and the environment, and how large things are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROXY = ROOT / "proxy"
MOST_LINES = 400


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    for path in sorted(PROXY.rglob("*.py")):
        text = path.read_text()
        yield path.relative_to(PROXY).as_posix(), text, ast.parse(text)


def test_only_the_edge_and_the_composition_root_know_aiohttps_server_side() -> None:
    knowing = {
        name
        for name, _, tree in modules()
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and node.module == "aiohttp" and any(a.name == "web" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp.web"))
    }
    assert {name for name in knowing if not name.startswith("edge/")} == {"app.py"}


def test_only_the_configuration_reads_the_environment() -> None:
    reading = {
        name
        for name, _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    }
    assert reading == {"config.py"}


def test_there_is_one_catch_all_and_it_is_in_the_flow() -> None:
    catching = [
        name
        for name, _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
    ]
    assert catching == ["flow.py"]


def test_modules_stay_small_and_say_what_they_are_for() -> None:
    too_long = {name: text.count("\n") for name, text, _ in modules() if text.count("\n") > MOST_LINES}
    assert too_long == {}
    assert [name for name, _, tree in modules() if ast.get_docstring(tree) is None] == []


def test_the_flow_is_still_a_map() -> None:
    assert (PROXY / "flow.py").read_text().count("\n") <= 150


def test_every_module_of_the_path_has_its_test_or_is_covered_by_a_flow() -> None:
    mirrored = {"wire", "filters", "guard", "upstream", "store"}
    missing = [
        name
        for name, _, _ in modules()
        if name.split("/")[0] in mirrored
        and not name.endswith("__init__.py")
        and not (ROOT / "tests" / name.replace("/", "/test_", 1)).exists()
    ]
    covered_by_their_suites = {
        "filters/length.py": "filters/test_split.py",
        "guard/prefetch.py": "flows/test_avoided.py",
        "upstream/line.py": "flows/test_lines.py",
        "upstream/relay.py": "flows/test_hooks.py",
        "upstream/waiting.py": "flows/test_waiting.py",
        "store/memory.py": "store/test_contract.py",
        "store/redis/circuits.py": "store/test_circuits.py",
        "store/redis/counts.py": "store/test_contract.py",
        "store/redis/reputation.py": "store/test_reputation.py",
        "store/redis/jobs.py": "store/test_jobs.py",
        "store/redis/ledger.py": "store/test_ledger.py",
        "store/redis/journals.py": "streams/test_journal.py",
        "store/redis/link.py": "store/test_redis.py",
        "store/redis/posts.py": "streams/test_shared.py",
        "store/redis/revocations.py": "store/test_revocations.py",
        "store/redis/sessions.py": "store/test_sessions.py",
        "store/redis/vaults.py": "store/test_vaults.py",
    }
    assert set(missing) <= covered_by_their_suites.keys(), missing
    assert all((ROOT / "tests" / suite).exists() for suite in covered_by_their_suites.values())
