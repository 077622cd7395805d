"""The documentation names what the code has, and nothing else. Settings and variables: tests/test_settings.py."""

from __future__ import annotations

import re
from pathlib import Path

from proxy import errors
from proxy.__main__ import main
from proxy.telemetry import Metrics

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"


def codes() -> set[str]:
    found = {errors.ProxyError.code}
    todo = [errors.ProxyError]
    while todo:
        kind = todo.pop()
        found.add(kind.code)
        todo += kind.__subclasses__()
    return found


def rows(page: str, heading: str) -> list[str]:
    """First cells of the tables under a heading."""
    section = (DOCS / page).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]


def test_every_error_code_is_in_the_protocol_and_no_other() -> None:
    named = {code for row in rows("protocol.md", "Errors") for code in re.findall(r"`([a-z_]+)`", row)}
    assert named == codes()


def test_every_error_has_the_status_that_the_protocol_says() -> None:
    text = (DOCS / "protocol.md").read_text()
    for kind in errors.ProxyError.__subclasses__() + errors.Denied.__subclasses__():
        if kind not in (errors.Denied,):
            assert re.search(rf"\| `{kind.code}` \| {kind.status} \|", text), kind


def test_every_metric_is_in_operations_and_no_other() -> None:
    named = {name for row in rows("operations.md", "Metrics") for name in re.findall(r"`(sidegate_\w+)`", row)}
    collected = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in Metrics().registry.collect()
    }
    assert named == collected


def test_every_command_is_in_operations_and_no_other() -> None:
    named = [re.findall(r"`sidegate ([a-z-]+)`", row)[0] for row in rows("operations.md", "Command line")]
    assert sorted(named) == sorted(name for name, command in main.commands.items() if not command.hidden)


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [README, *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_public_path_is_in_the_protocol() -> None:
    text = (DOCS / "protocol.md").read_text()
    served = re.findall(r'add_(?:get|post)\("(/[^"{]*)"', (DOCS.parent / "proxy/edge/server.py").read_text())
    public = [path for path in served if path not in ("/livez", "/readyz", "/metrics", "/page/")]
    public = [path for path in public if not path.startswith("/admin")]
    assert public
    assert [path for path in public if path not in text] == []


def test_every_path_of_admin_is_in_operations() -> None:
    text = (DOCS / "operations.md").read_text()
    served = set(re.findall(r'"(/admin/[^"{]*)', (DOCS.parent / "proxy/edge/server.py").read_text()))
    assert served
    assert [path for path in served if path not in text] == []
