"""What answers. An adapter turns one request into one call and the response into text: `str` is all it can yield.

settings    UpstreamSettings: one of the kinds below, told apart by `kind`; all are LineSettings
build       settings to a ready Upstream, as a context that owns its connections
n8n         a webhook or chat trigger     openai  chat completions     echo  no network at all
waiting     n8n's executions that ask their visitor back
breaker     stop asking what keeps failing      gossip  with all replicas together      slots  so much at a time
route       which of several      signing  the token that goes along
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import Field

from proxy.model import Request, Upstream
from proxy.upstream.echo import Echo, EchoSettings
from proxy.upstream.http import open_pool
from proxy.upstream.n8n import N8n, N8nSettings
from proxy.upstream.openai import OpenAi, OpenAiSettings
from proxy.upstream.waiting import open_waiting

UpstreamSettings = Annotated[N8nSettings | OpenAiSettings | EchoSettings, Field(discriminator="kind")]


@asynccontextmanager
async def build(
    settings: N8nSettings | OpenAiSettings | EchoSettings, owned: Callable[[Request], str]
) -> AsyncIterator[Upstream]:
    """The upstream that the settings describe; leaving the context closes its connections. `owned` is the Signer's."""
    if isinstance(settings, EchoSettings):
        yield Echo(settings, owned)
        return
    async with open_pool() as pool:
        if isinstance(settings, OpenAiSettings):
            yield OpenAi(settings, pool)
            return
        async with open_waiting(settings, settings.auth) as waiting:
            yield N8n(settings, pool, owned, waiting)
