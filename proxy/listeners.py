"""The listening sockets of both listeners, bound before any worker starts and kept while workers change."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from proxy.settings import Settings

BACKLOG = 1024


class CantListen(Exception):
    """An address that can't be bound: which, and why."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """The sockets of both listeners; a name may stand for several addresses."""

    public: tuple[socket.socket, ...]
    ops: tuple[socket.socket, ...]

    def close(self) -> None:
        for listener in (*self.public, *self.ops):
            listener.close()

    def close_but(self, kept: Listeners) -> None:
        for listener in {*self.public, *self.ops} - {*kept.public, *kept.ops}:
            listener.close()

    def __str__(self) -> str:
        public, ops = (
            ", ".join("{}:{}".format(*one.getsockname()[:2]) for one in group) for group in (self.public, self.ops)
        )
        return f"{public}, ops on {ops}"


def bind(settings: Settings, known: Settings | None = None, listeners: Listeners | None = None) -> Listeners:
    """Both listeners; those whose address stays are kept. Raises CantListen, with nothing new left open."""
    opened: list[socket.socket] = []
    found = []
    for name in ("listen", "ops"):
        section = getattr(settings, name)
        host, port = section.host, section.port
        if known is not None and listeners is not None and (host, port) == _address(known, name):
            found.append(listeners.public if name == "listen" else listeners.ops)
            continue
        try:
            mine = _bound(host, port, opened)
        except OSError as error:
            for listener in opened:
                listener.close()
            raise CantListen(f"can't listen on {host}:{port} ({name}): {error.strerror}") from error
        found.append(mine)
    return Listeners(*found)


def _address(settings: Settings, name: str) -> tuple[str, int]:
    section = getattr(settings, name)
    return section.host, section.port


def _bound(host: str, port: int, opened: list[socket.socket]) -> tuple[socket.socket, ...]:
    mine = []
    addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, address in dict.fromkeys(addresses):
        listener = socket.socket(family, socket.SOCK_STREAM)
        opened.append(listener)
        mine.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(BACKLOG)
    return tuple(mine)
