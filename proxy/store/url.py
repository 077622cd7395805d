"""Where state is kept, as one address: its forms, and its setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator

from proxy.config import Secret, Section

Kind = Literal["memory", "redis", "unix", "sentinel", "cluster"]
KINDS: dict[str, Kind] = {
    "memory": "memory",
    "redis": "redis",
    "rediss": "redis",
    "unix": "unix",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
}
FORMS = (
    "memory:  redis://host:6379/0  rediss://host:6379/0  unix:///path/to/redis.sock  "
    "redis+sentinel://h1:26379,h2:26379/mymaster/0  redis+cluster://h1:6379,h2:6379"
)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store's address, taken apart."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    db: int = 0
    username: str | None = None
    password: Secret | None = None
    master: str | None = None  # the name that Sentinel knows the primary by
    tls: bool = False
    path: str | None = None  # of a Unix socket


def parse_url(url: str) -> StoreUrl:
    """Take a store address apart. Raises ValueError, which says what to write instead.

    No part of the address is repeated in the message: where one is written wrongly, a password can be in any part.
    """
    scheme, colon, rest = url.partition(":")
    kind = KINDS.get(scheme.lower())
    if kind is None or not colon:
        raise ValueError(f"write the store's address as one of: {FORMS}")
    if kind == "memory":
        if rest:
            raise ValueError("write memory: with nothing after the colon")
        return StoreUrl("memory")
    if not rest.startswith("//"):
        raise ValueError(f"write the store's address with // after the colon: {FORMS}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(
            "write an IPv6 address in brackets: redis://[::1]:6379/0; inside a password write [ as %5B"
        ) from None
    if parts.fragment or (parts.query and kind != "unix"):
        raise ValueError("leave out ? and # from the store's address; inside a password write them as %3F and %23")
    username, password = _login(parts)
    if kind == "unix":
        return StoreUrl("unix", path=_socket(parts), db=_query_db(parts.query), username=username, password=password)
    names = [unquote(name) for name in parts.path.split("/")[1:]]
    master = None
    if kind == "sentinel":
        master = names.pop(0) if names else ""
        if not master:
            raise ValueError("name the primary after the hosts: redis+sentinel://h1:26379,h2:26379/mymaster/0")
    return StoreUrl(
        kind,
        hosts=_hosts(parts.netloc.rpartition("@")[2], kind),
        db=_db(names, kind),
        username=username,
        password=password,
        master=master,
        tls=scheme.lower() == "rediss",
    )


def _login(parts: SplitResult) -> tuple[str | None, Secret | None]:
    login, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None, None
    username, colon, password = login.partition(":")
    if not colon or not password:
        raise ValueError("write the password after a colon: redis://:password@host or redis://name:password@host")
    return unquote(username) or None, Secret(unquote(password))


def _hosts(netloc: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    hosts = tuple(_host(item, 26379 if kind == "sentinel" else 6379) for item in netloc.split(","))
    if kind == "redis" and len(hosts) > 1:
        raise ValueError("write one host after redis://; several belong to redis+sentinel:// or redis+cluster://")
    return hosts


def _host(item: str, default: int) -> tuple[str, int]:
    host, colon, port = item.rpartition(":") if not item.endswith("]") else (item, "", "")
    if not colon:
        host, port = port or host, str(default)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("write each host as host:port, an IPv6 address in brackets")
    if not host:
        raise ValueError("write each host as host:port")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise ValueError("write a port between 1 and 65535; inside a password write / as %2F, @ as %40 and : as %3A")
    return host, int(port)


def _db(names: list[str], kind: Kind) -> int:
    if kind == "cluster" and any(names):
        raise ValueError("leave out the database: a cluster has only one")
    if len(names) > 1:
        raise ValueError("write nothing after the database number")
    return _number(names[0]) if names and names[0] else 0


def _query_db(query: str) -> int:
    fields = parse_qs(query, keep_blank_values=True)
    if not query:
        return 0
    if list(fields) != ["db"] or len(fields["db"]) > 1:
        raise ValueError("write only ?db=0 after a socket's path: unix:///path/to/redis.sock?db=0")
    return _number(fields["db"][0])


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError("write the database as a number: redis://host:6379/0")
    return int(text)


def _socket(parts: SplitResult) -> str:
    if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
        raise ValueError("write the socket's path after three slashes: unix:///path/to/redis.sock")
    return unquote(parts.path)


def _hide(url: object) -> object:
    return Secret(url) if isinstance(url, str) else url


def _usable(url: Secret) -> Secret:
    parse_url(url.reveal())
    return url


class StoreSettings(Section):
    """Where state is kept. Replicas that should share their limits need the same Redis."""

    # It can hold a password, so it never shows; and since it need not, it may be written as plain text.
    url: Annotated[Secret, BeforeValidator(_hide, json_schema_input_type=Secret | str), AfterValidator(_usable)] = (
        Secret("memory:")
    )
    encryption_key: Secret | None = None  # of what is kept of answers; without it, one made from session.key
