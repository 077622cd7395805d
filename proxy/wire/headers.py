"""Which of a client's headers may travel on: an explicit allow-list, never a block-list.

Stops credentials, addresses, framing and whatever a client invents from reaching the upstream. It doesn't judge what
the few headers that pass say: a User-Agent is still only a claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# X-Request-Id and Authorization are set by us, never relayed.
_ALLOWED = frozenset({"accept-language", "traceparent", "tracestate", "user-agent"})
# RFC 9110 section 7.6.1 and what old clients add. They belong to one connection, so they end here even if allowed.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
RELAYABLE = _ALLOWED - HOP_BY_HOP
_VALUE = re.compile(r"[\t\x20-\x7e]*")


def relayable(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers that may go upstream, names in lower case, in the order they came.

    A header named in `Connection` is hop-by-hop, too (RFC 9110 section 7.6.1). A value with anything but visible ASCII,
    blanks and tabs is left out, so that no line break or stray byte gets into the request we build.
    """
    pairs = [(name.lower(), value) for name, value in headers]
    nominated = {token.strip().lower() for name, value in pairs if name == "connection" for token in value.split(",")}
    return [
        (name, value)
        for name, value in pairs
        if name in RELAYABLE and name not in nominated and _VALUE.fullmatch(value)
    ]
