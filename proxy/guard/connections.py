"""How many connections stay open at a time: of an address, a session, a site, and in this process.

What it stops: one visitor, or one address, that holds many sockets and event streams open. The count is shared by
replicas, and the connections of a process that died are forgotten after a minute. What it doesn't: many addresses
together below the process's total; connections of plain requests, which have deadlines instead (edge/runner.py).
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Annotated

from pydantic import Field

from proxy.config import Section
from proxy.errors import TooManyConnections
from proxy.guard.subjects import ip_key
from proxy.model import Client, Mode
from proxy.store.desk import LEASE, Desk
from proxy.store.ledger import Account
from proxy.telemetry import Metrics, tell_denied


class ConnectionSettings(Section):
    """WebSockets and event streams open at a time. `total` counts in each process, the others over all replicas."""

    per_ip: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    per_session: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    per_site: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    total: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    mode: Mode = "enforce"


class Connections:
    name = "connections"

    def __init__(self, settings: ConnectionSettings, desk: Desk, metrics: Metrics) -> None:
        self._settings = settings
        self._desk = desk
        self._metrics = metrics
        self._open = 0

    def one(self, client: Client) -> AbstractAsyncContextManager[None]:
        """Around a connection of an admitted client. Raises TooManyConnections before anything is sent."""
        return _One(self, client)

    async def enter(self, client: Client) -> str | None:
        """Returns what leave() takes."""
        name = None
        try:
            name = await self._hold(client)
        except TooManyConnections as denied:
            denied.stage = self.name
            tell_denied(self._metrics, denied, self._settings.mode, client.request_id, client.ip)
            if self._settings.mode == "enforce":
                raise
        self._open += 1
        return name

    def leave(self, name: str | None) -> None:
        self._open -= 1
        if name is not None:
            self._desk.settle(name)

    async def _hold(self, client: Client) -> str:
        if self._open >= self._settings.total:
            raise TooManyConnections(f"{self._open} are open in this process", retry_after=1)
        accounts = self._accounts(client)
        name, standings = await self._desk.hold(accounts)
        full = [one.key for one, standing in zip(accounts, standings, strict=True) if standing.retry_after > 0]
        if full:  # by then, those of a process that died are forgotten; the living ones end when they do
            kinds = ", ".join(key.split(":")[1] for key in full)
            raise TooManyConnections(f"too many of one {kinds}", retry_after=LEASE)
        return name

    def _accounts(self, client: Client) -> list[Account]:
        limits = self._settings
        site = client.site.name if client.site else ""
        accounts = [Account(f"{site}/connections:ip:{ip_key(client.ip)}", limits.per_ip)]
        if client.session is not None:
            accounts.append(Account(f"{site}/connections:session:{client.session.id}", limits.per_session))
        if limits.per_site is not None:
            accounts.append(Account(f"{site}/connections:site", limits.per_site))
        return accounts


class _One(AbstractAsyncContextManager[None]):
    """A class and no generator: each open connection has one."""

    __slots__ = ("_client", "_connections", "_name")

    def __init__(self, connections: Connections, client: Client) -> None:
        self._connections = connections
        self._client: Client | None = client
        self._name: str | None = None

    async def __aenter__(self) -> None:
        client, self._client = self._client, None  # it isn't kept for as long as the connection
        assert client is not None  # noqa: S101 - each is entered once; for the type checker
        self._name = await self._connections.enter(client)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.leave(self._name)
