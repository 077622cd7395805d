"""Personal data and secrets of a message are replaced before it goes upstream, and in its answer put back.

What it stops: what content/pii.py finds never reaches the workflow, its records or its model. What it doesn't: what
isn't found; and in mode `restore` whoever has the store and its key has the values until the session ends. Where the
store can't keep a value, it is masked without a way back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Literal
from weakref import WeakValueDictionary

from pydantic import BeforeValidator, Field

from proxy.config import Section
from proxy.content.pii import KINDS, Exclusion, Kind
from proxy.content.vault import Broken, Masker, Safe, Vault
from proxy.model import Message, Mode, Request, Session
from proxy.store import Store, StoreDown, Vaults
from proxy.telemetry import audit

log = logging.getLogger(__name__)

ATTEMPTS = 10  # at keeping a vault that the same session's messages at other replicas change meanwhile
PATIENCE = 1.0  # seconds that a message waits for those of the same session here


class PiiSettings(Section):
    """mask: values become [EMAIL], for good. restore: [EMAIL_1], which the session's own answers have as it was."""

    # YAML reads a bare `off` as false.
    mode: Annotated[Literal["off", "mask", "restore"], BeforeValidator(lambda value: value or "off")] = "restore"
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = KINDS
    exclude: tuple[Exclusion, ...] = ()
    log: bool = True


class Keeper:
    """Sessions' vaults, wherever they are kept. `owned` names a session as the upstream knows it."""

    def __init__(self, vaults: Vaults, safe: Safe, store: Store) -> None:
        self._vaults = vaults
        self._safe = safe
        self._store = store

    async def fetch(self, site: str, owned: str, ttl: float = 0) -> tuple[int, Vault]:
        """The version that is kept, from now on for `ttl` seconds at least, and the vault; 0 and an empty one for none.

        Raises StoreDown.
        """
        self._must_be_up()
        kept = await self._vaults.read(self._safe.name(site, owned), ttl)
        if kept is None:
            return 0, Vault()
        try:
            return kept.version, self._safe.open(site, owned, kept.data)
        except Broken as broken:
            raise StoreDown(str(broken)) from broken

    async def keep(self, site: str, owned: str, version: int, vault: Vault, ttl: float) -> bool:
        """False when another message changed it meanwhile. Raises StoreDown."""
        sealed = self._safe.seal(site, owned, vault)
        return await self._vaults.write(self._safe.name(site, owned), version, sealed, ttl)

    async def values(self, site: str, owned: str) -> Mapping[str, str]:
        """What the session's placeholders stand for; nothing where that can't be known at the moment."""
        try:
            _, vault = await self.fetch(site, owned)
        except StoreDown:
            return {}
        return vault.values()

    async def forget(self, site: str, owned: str) -> None:
        """The session has ended before its time. While the store is away its vault is kept until then."""
        try:
            self._must_be_up()
            await self._vaults.delete(self._safe.name(site, owned))
        except StoreDown as down:
            log.info("the vault of a session that ended is still kept (%s)", down)

    def _must_be_up(self) -> None:
        if (reason := self._store.degraded()) is not None:
            raise StoreDown(reason)  # at once: every message of an outage would wait for its deadline


class Masking:
    """For the sites that want it. `clock` gives Unix time."""

    name = "masking"
    mode: Mode = "enforce"

    def __init__(
        self,
        settings: Mapping[str, PiiSettings],
        keeper: Keeper,
        owned: Callable[[Session], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = {site: one for site, one in settings.items() if one.mode != "off"}
        self._keeper = keeper
        self._owned = owned
        self._clock = clock
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = (
            WeakValueDictionary()
        )  # while messages use them

    async def check(self, request: Request) -> Request:
        """The request with placeholders in its message and context, what they stand for, and how many there are."""
        settings = self._settings.get(request.site.name)
        if settings is None:
            return request
        is_kept = False
        if settings.mode == "restore":
            try:
                message, masker, values = await self._restorable(request, settings)
                is_kept = True
            except StoreDown:
                pass
        if not is_kept:
            masker, values = Masker(settings.kinds, settings.exclude, None), {}
            message = _masked(request.message, masker)
        counts = {kind: count for kind, count in masker.counts.items() if count}
        if counts and settings.log:
            audit(
                "MASKED", site=request.site.name, kinds=counts, restorable=is_kept, request_id=request.id,
                ip=request.client.ip,
            )  # fmt: skip
        verdict = replace(request.verdict, masked=counts)
        return replace(request, message=message, verdict=verdict, values=values)

    async def _restorable(self, request: Request, settings: PiiSettings) -> tuple[Message, Masker, dict[str, str]]:
        """One message of a session after another. Raises StoreDown."""
        site, owned = request.site.name, self._owned(request.session)
        ttl = max(request.session.ends - self._clock(), 1.0)
        turn = self._turns.setdefault((site, owned), asyncio.Lock())
        try:
            async with asyncio.timeout(PATIENCE):
                await turn.acquire()
        except TimeoutError as error:
            raise StoreDown("too many messages of one session at once") from error
        try:
            for _ in range(ATTEMPTS):
                version, vault = await self._keeper.fetch(site, owned, ttl)
                masker = Masker(settings.kinds, settings.exclude, vault)
                message = _masked(request.message, masker)
                if not vault.is_changed or await self._keeper.keep(site, owned, version, vault, ttl):
                    return message, masker, vault.values()
        finally:
            turn.release()
        raise StoreDown("other messages were always faster")


def _masked(message: Message, masker: Masker) -> Message:
    files = tuple(replace(file, name=masker.text(file.name)) for file in message.files)
    return replace(message, text=masker.text(message.text), context=masker.fields(message.context), files=files)
