"""What a visitor and the assistant said before, for a page that shows it again: the upstream's memory, filtered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from proxy.errors import OutputBlocked
from proxy.filters.whole import filtered_text
from proxy.flow import Flow
from proxy.guard.masking import Keeper
from proxy.model import Request, Session
from proxy.upstream.n8n import N8n
from proxy.upstream.recall import Turn
from proxy.upstream.route import order

SECONDS = 10.0  # somebody looks at an empty page meanwhile


class Memory:
    """`owned` names a session as the upstream knows it."""

    def __init__(self, flow: Flow, keeper: Keeper, owned: Callable[[Session], str]) -> None:
        self._flow = flow
        self._keeper = keeper
        self._owned = owned

    async def recall(self, request: Request) -> list[Turn]:
        """The session's turns as its visitor may read them; none where its upstream has no memory to be asked for.

        Raises UpstreamError, UpstreamUnavailable, or TimeoutError after SECONDS. No failure counts for the circuit:
        this runs no workflow.
        """
        site = request.site
        line = self._flow.upstreams[order(site, request.session.id)[0]]
        if not isinstance(line.upstream, N8n) or not line.upstream.remembers:
            return []
        line.breaker.check()
        async with asyncio.timeout(SECONDS):
            async with line.slots.one():
                said = await line.upstream.recall(request, self._flow.signer.sign)
            values = await self._keeper.values(site.name, self._owned(request.session)) if said else {}
        turns = []
        for turn in said:
            with suppress(OutputBlocked):  # what may not be read again is left out
                turns.append(Turn(turn.role, filtered_text(turn.text, self._flow.chains[site.name](values, ""))))
        return turns
