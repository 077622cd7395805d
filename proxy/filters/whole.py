"""What is there as a whole, not piece by piece: a text, or an object with texts in it."""

from __future__ import annotations

from collections.abc import Callable

from proxy.filters.chain import Chain


def filtered(value: object, make: Callable[[], Chain]) -> object:
    """The value as the filters let it out: names and texts each by a chain of their own.

    A number is judged as it is written, and becomes a text where a filter changes that. JSON values only, and as deep
    as the caller allows. Raises OutputBlocked.
    """
    match value:
        case str():
            return filtered_text(value, make())
        case dict():
            return {filtered_text(str(name), make()): filtered(item, make) for name, item in value.items()}
        case list():
            return [filtered(item, make) for item in value]
        case bool() | None:
            return value
        case _:
            written = str(value)
            text = filtered_text(written, make())
            return value if text == written else text


def filtered_text(text: str, chain: Chain) -> str:
    return chain.feed(text) + chain.flush()
