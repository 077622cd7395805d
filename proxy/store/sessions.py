"""Sessions that were seen of late, listed by site, in this process. See SessionList."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy.store import Listed

MAX_LISTED = 200_000  # of a site; reached only by what was let in before a limit was lowered


class MemorySessions:
    """Bounded by `most` and MAX_LISTED for each site. `clock` gives Unix time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # By site; by site and owner. Those seen longest ago are in front.
        self._sites: dict[str, OrderedDict[str, Listed]] = {}
        self._owners: dict[tuple[str, str], OrderedDict[str, Listed]] = {}

    async def enter(self, site: str, session: Listed, most: int, most_of_owner: int, keep: int) -> list[str] | None:
        self._tidy(site, keep)
        if len(self._sites.get(site, ())) >= most:
            return None
        self._put(site, session)
        theirs = self._owners.get((site, session.owner), OrderedDict())
        gone = list(theirs.values())[: max(0, len(theirs) - most_of_owner)]
        for old in gone:
            self._drop(site, old)
        return [old.name for old in gone]

    async def seen(self, site: str, sessions: Sequence[Listed], keep: int) -> None:
        self._tidy(site, keep)
        for session in sessions:
            self._put(site, session)

    async def leave(self, site: str, session: Listed) -> None:
        self._drop(site, session)

    async def listed(self, site: str, owner: str, first: int, number: int, keep: int) -> list[Listed]:
        self._tidy(site, keep)
        found = self._owners.get((site, owner)) if owner else self._sites.get(site)
        return list(reversed(found.values()))[first : first + number] if found else []

    def _put(self, site: str, session: Listed) -> None:
        session = replace(session, seen=self._clock())
        lists = [self._sites.setdefault(site, OrderedDict())]
        if session.owner:
            lists.append(self._owners.setdefault((site, session.owner), OrderedDict()))
        for one in lists:
            one[session.name] = session
            one.move_to_end(session.name)
        if len(lists[0]) > MAX_LISTED:
            self._drop(site, next(iter(lists[0].values())))

    def _tidy(self, site: str, keep: int) -> None:
        ends = self._clock() - keep
        while (known := self._sites.get(site)) and (oldest := next(iter(known.values()))).seen <= ends:
            self._drop(site, oldest)

    def _drop(self, site: str, session: Listed) -> None:
        of_site = self._sites.get(site, OrderedDict())
        known = of_site.pop(session.name, session)
        if not of_site:
            self._sites.pop(site, None)
        theirs = self._owners.get((site, known.owner), OrderedDict())
        theirs.pop(known.name, None)
        if not theirs:
            self._owners.pop((site, known.owner), None)
