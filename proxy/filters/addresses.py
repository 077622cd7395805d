"""Which addresses an answer may link to: the site's list, read so strictly that no client can read another host."""

from __future__ import annotations

import html
import re
from collections.abc import Collection
from urllib.parse import unquote

import regex

MAX_ADDRESS = 2000
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?")
# A host, and after it what no reader of addresses takes for a part of one: no `@`, backslash, white space or quote.
_REST = r"(?:[/?#][A-Za-z0-9/?#._~!$&*+,;=:@%-]{0,1500})?"
_TITLE = r"(?:[ \t]{1,8}\"[^\"\n\[\]<>`\\]{0,200}\")?"
_ANOTHER = re.compile(r"//|\\|[a-z][a-z0-9+.-]*:[/\\]|(?:javascript|data|vbscript|https?):", re.IGNORECASE)
_DECODINGS = 3


def host_pattern(entry: str) -> str:
    """An entry of the list as a regular expression. Raises ValueError for what is no host."""
    if entry == "*":
        return rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?"
    if not entry.isascii():
        raise ValueError("not as browsers send it; write the host in ASCII: xn--bcher-kva.example")
    if not _HOST.fullmatch(entry.lower()):
        raise ValueError("not a host; write shop.example, shop.example:8443, *.shop.example, or * for any")
    host = entry.lower()
    if host.startswith("*."):
        return rf"(?:{_LABEL}\.)+{re.escape(host[2:])}"
    return re.escape(host)


class Addresses:
    """Hosts that may be linked to, with `http` or `https`.

    What it stops: other hosts, however written (protocol-relative, encoded, with user names, in other scripts), and
    addresses that carry another one for the host to redirect to. What it doesn't: a listed host that redirects anyway.
    """

    def __init__(self, allow: Collection[str]) -> None:
        hosts = "|".join(host_pattern(entry) for entry in allow) or r"(?!)"
        address = rf"(?P<address>(?:https?://(?:{hosts}))(?![A-Za-z0-9.:@%-]){_REST})"
        self.alone = _compiled(address, allow)
        self.inline = _compiled(rf"\({address}{_TITLE}\)", allow)
        self.definition = _compiled(rf":[ \t]{{0,8}}{address}[ \t]{{0,8}}\n", allow)

    def allows(self, address: str) -> bool:
        return self.alone.fullmatch(address) is not None and not carries_another(address)


def _compiled(pattern: str, allow: Collection[str]) -> regex.Pattern[str]:
    """Case is folded in ASCII only: there are letters elsewhere that fold to `s` and `k`."""
    return regex.compile(pattern if allow else "(?!)", regex.IGNORECASE | regex.ASCII)


def carries_another(address: str) -> bool:
    """Is there a second address inside, as what a redirect takes?"""
    rest = address.partition("://")[2]
    for _ in range(_DECODINGS):
        if _ANOTHER.search(rest):
            return True
        decoded = html.unescape(unquote(rest))
        if decoded == rest:
            return False
        rest = decoded
    return True
