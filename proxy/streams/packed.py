"""The events of a finished answer as bytes: a fraction of the memory, for as long as it may be asked for again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import orjson

from proxy.streams.event import Event, long, short


class Packed(Sequence[Event]):
    """The same events, at least one. All are made anew when one is asked for, but for the last one, which is there."""

    __slots__ = ("_data", "_last", "_length")

    def __init__(self, events: Sequence[Event]) -> None:
        self._data = bytes(memoryview(orjson.dumps(short(events))))  # a copy: what orjson returns may keep 4 KiB
        self._last = events[-1]
        self._length = len(events)

    @property
    def size(self) -> int:
        """Bytes of memory, about, of all events but the last."""
        return len(self._data)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events())

    @overload
    def __getitem__(self, at: int) -> Event: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Event]: ...
    def __getitem__(self, at: int | slice) -> Event | Sequence[Event]:
        return self._last if at == -1 else self._events()[at]

    def _events(self) -> list[Event]:
        return long(orjson.loads(self._data))
