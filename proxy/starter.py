"""The first configuration: what `sidegate init` writes, and what config/sidegate.yaml shows."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

SCHEMA = "sidegate.schema.json"
KEYS = ("session_key", "jwt_key")

TEXT = """\
# yaml-language-server: $schema={schema}
#
# The least that Sidegate needs. Every other setting has a safe default: see sidegate.full.yaml and
# docs/configuration.md. Check this file with: sidegate check-config --config sidegate.yaml

environment: production # refuses weak secrets, missing origins and debug; the other one is development

listen:
  port: 8080
  # Proxies that may say whom they speak for (X-Forwarded-For), such as [10.0.0.0/8]. None: clients connect directly.
  trusted_proxies: []
  # The names under which this service is called, such as [chat.shop.example]. None: every name is served.
  allowed_hosts: []

# One replica keeps its state in memory. Several share a Redis: redis://redis:6379/0
store:
  url: "memory:"

# Secrets are never written here: {{file: PATH}}, from this file's folder on, or {{env: NAME}}.
session:
  key: {{file: secrets/session_key}} # signs the sessions of visitors
signing:
  key: {{file: secrets/jwt_key}} # signs requests to the workflow; n8n's JWT credential holds the same one

upstreams:
  support:
    kind: n8n
    url: {url} # the production URL of the workflow's Webhook node

sites:
  shop:
    # The pages that may talk to this site, exactly as browsers say it: scheme, host, and the port if it is unusual.
    origins: {origins}
    upstream: support
"""


def starter(origins: list[str], url: str, schema: str = SCHEMA) -> str:
    return TEXT.format(schema=schema, url=json.dumps(url), origins=json.dumps(origins))


def write_starter(folder: Path, text: str) -> list[Path]:
    """Write the file and two random keys that only their owner can read. Raises FileExistsError before writing any."""
    keys = folder / "secrets"
    files = [folder / "sidegate.yaml", *(keys / name for name in KEYS)]
    for file in files:
        if file.exists() or file.is_symlink():
            raise FileExistsError(str(file))
    folder.mkdir(parents=True, exist_ok=True)
    keys.mkdir(mode=0o700, exist_ok=True)
    keys.chmod(0o700)
    for file in files:
        content = text if file == files[0] else secrets.token_urlsafe(48) + "\n"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(content)
    return files
