"""Bytes as a network delivers them, and what a decoder makes of them."""

from __future__ import annotations

from proxy.errors import UpstreamError
from proxy.upstream.http import Decoder


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same bytes in parts, none of them empty."""
    ends = sorted(place % (len(data) + 1) for place in places)
    parts = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    return [part for part in parts if part]


def decode(decoder: Decoder, parts: list[bytes]) -> tuple[str, str | None]:
    """The text that would have reached the filters, and the error that ended it, if any. Reads as `pieces` does."""
    texts: list[str] = []
    try:
        for part in parts:
            if decoder.is_over:
                break
            texts.append(decoder.feed(part))
        texts.append(decoder.finish())
    except UpstreamError as error:
        return "".join(texts), error.detail
    return "".join(texts), None
