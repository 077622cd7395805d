"""Who misbehaves is trusted less: refusals count points against an address and a session, which shrink its limits and,
past a threshold, block it for a growing time. Networks that are written down are never, or always, refused.

What it stops: one address that tries keys, attacks or pages again and again, at all replicas within a second. What it
doesn't: a distributed crowd, each of whom does little; and behind an address that many share, all of them are blocked
together. So it only observes unless told otherwise.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from proxy.background import Background
from proxy.config import Section
from proxy.errors import Blocked, Denied
from proxy.guard.subjects import ip_key
from proxy.model import Client, Mode, Request
from proxy.store import StoreDown
from proxy.store.reputation import Block, MemoryReputations, Reputations, Rule
from proxy.telemetry import audit

log = logging.getLogger(__name__)

# A refusal counts one point, these aside. A limit refuses clumsy visitors too, and says when to come back.
POINTS: Mapping[str, float] = {
    "rate_limited": 0.01, "too_many_connections": 0.01, "budget_exhausted": 0.0, "blocked": 0.0, "conflict": 0.0,
    "auth_required": 0.1, "session_invalid": 0.1, "bad_request": 0.1, "challenge_required": 0.1, "too_large": 0.1,
    "upstream_unavailable": 0.0,
}  # fmt: skip
GUESS = 1.0  # a forged credential, whatever its code
LEAST = 0.25  # of a limit, at the threshold
EVERY = 0.5  # seconds between two looks at what other replicas block
MAX_UNSAID = 10_000
ALL_AT_ONCE = 200


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("not a network; write an address or a CIDR, such as 192.0.2.0/24") from None


T = TypeVar("T", Client, Request)
Networks = tuple[Annotated[str, AfterValidator(_network)], ...]


class ReputationSettings(Section):
    """Points halve every `half_life` seconds; `block_after` of them block for `block_for`, then for twice as long."""

    mode: Mode = "observe"
    block_after: Annotated[float, Field(ge=1, le=10_000)] = 10
    block_for: Annotated[float, Field(ge=1, le=2_592_000)] = 900
    longest: Annotated[float, Field(ge=1, le=2_592_000)] = 86_400
    half_life: Annotated[float, Field(ge=1, le=86_400)] = 600
    allow: Networks = ()
    block: Networks = ()

    @property
    def rule(self) -> Rule:
        return Rule(self.half_life, self.block_after, self.block_for, max(self.longest, self.block_for))


class Reputation:
    """What one replica knows, and with `shared` what it tells and hears."""

    def __init__(
        self, settings: ReputationSettings, local: MemoryReputations, shared: Reputations | None = None
    ) -> None:
        self.mode = settings.mode
        self._rule = settings.rule
        self._allow = [ipaddress.ip_network(network) for network in settings.allow]
        self._block = [ipaddress.ip_network(network) for network in settings.block]
        self._local = local
        self._shared = shared
        self._state = -1
        self._heard: set[str] = set()  # whom the shared store blocks
        self._unsaid: dict[str, float] = {}
        self._has_unsaid = asyncio.Event()
        self._background = Background()

    def denied(self, denied: Denied, client: Client) -> None:
        """Somebody was refused. Doesn't wait, and never fails."""
        points = GUESS if denied.is_guess else POINTS.get(denied.code, 1.0)
        if points <= 0 or self._is_in(self._allow, client.ip):
            return
        for subject in _subjects(client):
            was_blocked = self._local.blocked(subject) > 0
            repute = self._local.note(subject, points, self._rule)
            if repute.blocked and not was_blocked:
                audit("BLOCKED" if self.mode == "enforce" else "WOULD_BLOCK", subject=subject, seconds=repute.blocked)
            if self._shared is not None and (subject in self._unsaid or len(self._unsaid) < MAX_UNSAID):
                self._unsaid[subject] = self._unsaid.get(subject, 0.0) + points
                self._has_unsaid.set()

    def check_list(self, client: Client) -> None:
        """Raises Blocked for networks that were written down, and for whom somebody's hand has blocked."""
        if self._is_in(self._allow, client.ip):
            return
        if self._is_in(self._block, client.ip):
            raise Blocked("the address is in reputation.block")
        for subject in _subjects(client):
            if self._local.is_by_hand(subject):
                raise Blocked(
                    f"{subject.partition(':')[0]} is blocked by hand", retry_after=self._local.blocked(subject)
                )

    def check(self, client: Client) -> None:
        """Raises Blocked for whom points have blocked."""
        if self._is_in(self._allow, client.ip):
            return
        for subject in _subjects(client):
            if left := self._local.blocked(subject):
                raise Blocked(f"{subject.partition(':')[0]} is blocked", retry_after=left)

    def trust(self, client: Client) -> float:
        """What part of its limits the client has: all of them up to half of the threshold, then less and less."""
        if self.mode == "observe":
            return 1.0
        half = self._rule.block_after / 2
        score = max(self._local.score(subject, self._rule.half_life) for subject in _subjects(client))
        return 1.0 if score <= half else max(LEAST, 1.0 - (1.0 - LEAST) * (score - half) / half)

    async def blocks(self) -> Sequence[Block]:
        """All of them. Raises StoreDown."""
        if self._shared is None:
            return self._local.blocks()
        found = await self._shared.blocks(-1)
        return found[1] if found else ()

    async def block(self, subject: str, seconds: float) -> None:
        """By hand. Raises StoreDown; here it is blocked all the same."""
        self._local.block(subject, seconds)
        if self._shared is not None:
            await self._shared.block(subject, seconds)

    async def unblock(self, subject: str) -> None:
        self._local.unblock(subject)
        self._unsaid.pop(subject, None)
        if self._shared is not None:
            await self._shared.unblock(subject)

    def start(self) -> None:
        """Tell and hear until close(), which ends these tasks."""
        if self._shared is not None:
            self._background.begin(self._keep_saying(self._shared), "reputation, said")
            self._background.begin(self._keep_hearing(self._shared), "reputation, heard")

    async def close(self) -> None:
        await self._background.end()

    async def _keep_saying(self, shared: Reputations) -> None:
        while True:
            await self._has_unsaid.wait()
            self._has_unsaid.clear()
            try:
                while self._unsaid:
                    said = dict(list(self._unsaid.items())[:ALL_AT_ONCE])
                    for subject, repute in (await shared.note(said, self._rule)).items():
                        self._local.raise_to(subject, repute.score)
                        self._unsaid[subject] = self._unsaid.get(subject, 0.0) - said[subject]
                        if self._unsaid[subject] <= 1e-9:
                            del self._unsaid[subject]
            except StoreDown as down:
                log.debug("points were not told (%s)", down)
                self._has_unsaid.set()
                await asyncio.sleep(EVERY)

    async def _keep_hearing(self, shared: Reputations) -> None:
        while True:
            try:
                await self._hear(shared)
            except StoreDown as down:
                log.debug("blocks were not heard of (%s)", down)
            await asyncio.sleep(EVERY)

    async def _hear(self, shared: Reputations) -> None:
        found = await shared.blocks(self._state)
        if found is None:
            return
        self._state, blocks = found
        named = {block.subject for block in blocks}
        for gone in self._heard - named:
            self._local.unblock(gone)
        for block in blocks:
            if self._local.blocked(block.subject) < block.left:
                self._local.block(block.subject, block.left, by_hand=block.by_hand)
        self._heard = named

    def _is_in(self, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network], ip: str) -> bool:
        if not networks:
            return False
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in networks)


class BlockList:
    """In front of everything that costs more: who is never served. Addresses at the connection, sessions with each
    message."""

    name = "block_list"
    mode: Mode = "enforce"

    def __init__(self, reputation: Reputation) -> None:
        self._reputation = reputation

    async def check(self, subject: T) -> T:
        self._reputation.check_list(_client(subject))
        return subject


class Repute:
    """The same for who was blocked by points."""

    name = "reputation"

    def __init__(self, reputation: Reputation) -> None:
        self.mode = reputation.mode
        self._reputation = reputation

    async def check(self, subject: T) -> T:
        self._reputation.check(_client(subject))
        return subject


def _client(subject: Client | Request) -> Client:
    return subject.client if isinstance(subject, Request) else subject


def _subjects(client: Client) -> list[str]:
    subjects = [f"ip:{ip_key(client.ip)}"]
    if client.session is not None:
        subjects.append(f"session:{client.session.site}/{client.session.id}")
    return subjects
