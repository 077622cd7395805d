"""What replicas tell each other of their upstreams' circuits. See Circuits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from proxy.store import Circuit, StoreDown
from proxy.store.redis.link import BROKEN, MICRO, Link, key

CIRCUITS = "sidegate:circuits"  # a channel


class RedisCircuits:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._script = link.script("circuit")

    async def trip(self, name: str, cooldown: float, after: int = 0) -> Circuit:
        return _circuit(await self._do("trip", name, round(cooldown * MICRO), after))

    async def probe(self, name: str, generation: int, probes: int, seconds: float, lease: str) -> bool:
        return bool(await self._do("probe", name, generation, probes, round(seconds * MICRO), lease))

    async def release(self, name: str, lease: str) -> None:
        await self._do("release", name, lease)

    async def good(self, name: str, generation: int, probes: int, lease: str) -> None:
        await self._do("good", name, generation, probes, lease)

    async def state(self, name: str) -> Circuit:
        return _circuit(await self._do("state", name))

    async def changes(self) -> AsyncGenerator[tuple[str, Circuit] | None, None]:
        try:
            async with self._link.redis.pubsub() as listening:
                await self._link.ask(lambda: listening.subscribe(CIRCUITS))
                while True:
                    message = await listening.get_message(timeout=None)  # whoever listens ends this
                    if message is None:
                        continue
                    if message["type"] == "message":
                        name, _, circuit = message["data"].partition(b" ")
                        yield name.decode(), _circuit(circuit)
                    else:
                        yield None
        except BROKEN as error:
            raise StoreDown(type(error).__name__) from error

    async def _do(self, what: str, name: str, *more: str | int) -> Any:  # Any: what the script answers
        keys = [key(name, "circuit"), key(name, "probes")]
        return await self._link.ask(lambda: self._script(keys, [what, name, CIRCUITS, *more]))


def _circuit(text: bytes) -> Circuit:
    generation, rest = map(int, text.split())
    return Circuit(generation, None if rest < 0 else rest / MICRO)
