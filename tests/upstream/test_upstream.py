"""Every kind of upstream can be told apart, built, and treated like any other."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from proxy.upstream import UpstreamSettings, build
from proxy.upstream.breaker import BreakerSettings
from proxy.upstream.echo import Echo, EchoSettings
from proxy.upstream.n8n import N8n, N8nSettings
from proxy.upstream.openai import OpenAi, OpenAiSettings
from tests.upstream.script import owned

ADAPTER: TypeAdapter[N8nSettings | OpenAiSettings | EchoSettings] = TypeAdapter(UpstreamSettings)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"kind": "n8n", "url": "http://n8n:5678/webhook/chat"}, N8n),
        ({"kind": "openai", "url": "https://model/v1/chat/completions", "model": "small"}, OpenAi),
        ({"kind": "echo"}, Echo),
    ],
)
async def test_the_kind_tells_what_is_built(given: dict[str, object], kind: type) -> None:
    settings = ADAPTER.validate_python(given)
    assert settings.breaker == BreakerSettings()
    assert settings.fallback is None
    async with build(settings, owned) as upstream:
        assert isinstance(upstream, kind)


@pytest.mark.parametrize("given", [{}, {"kind": "grpc"}, {"kind": "echo", "url": "http://n8n/"}, {"kind": "n8n"}])
def test_an_unknown_kind_or_setting_stops_the_start(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(given)


def test_settings_are_read_from_plain_values() -> None:
    settings = ADAPTER.validate_python(
        {
            "kind": "n8n",
            "url": "http://n8n:5678/webhook/chat",
            "auth": "jwt",
            "timeouts": {"connect": 5, "first_byte": 120, "idle": 60, "total": 900},
            "breaker": {"failures": 5, "cooldown": 30, "probes": 1},
            "fallback": "We can't answer right now.",
        }
    )
    assert settings == N8nSettings(
        kind="n8n", url="http://n8n:5678/webhook/chat", fallback="We can't answer right now."
    )
