"""One event of an answer or a channel, and its short form: the text of a delta, [name, fields] of the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Event:
    """`number` counts from 0 within an answer, without gaps."""

    number: int
    name: str
    fields: Fields


def short(events: Iterable[Event]) -> list[object]:
    """Without their numbers, and good for JSON."""
    return [event.fields["text"] if event.name == "delta" else [event.name, event.fields] for event in events]


def long(items: Iterable[object], first: int = 0) -> list[Event]:
    """What short() made, numbered from `first`. Raises ValueError for anything else."""
    return [_event(number, item) for number, item in enumerate(items, first)]


def _event(number: int, item: object) -> Event:
    match item:
        case str():
            return Event(number, "delta", {"text": item})
        case [str(name), dict(fields)]:
            return Event(number, name, fields)
    raise ValueError("not an event")
