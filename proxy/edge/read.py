"""What the wire says about a client: addresses, headers, credentials. The guard decides what to believe."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, TypeVar

import orjson
from aiohttp import web
from pydantic import Field, field_validator

from proxy.config import Section
from proxy.edge.http1 import read_body
from proxy.errors import BadRequest, UnsupportedMedia
from proxy.model import Client, Credential, Facts, Message
from proxy.wire.headers import relayable

T = TypeVar("T", str, str | None)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
REQUEST_ID = web.RequestKey("request_id", str)
URL_TOKENS = frozenset(
    {
        *("access_token", "api-key", "api_key", "apikey", "auth", "authorization", "bearer", "embed_key", "id_token"),
        *("jwt", "key", "refresh_token", "token", "x-api-key", "x-embed-key"),
    }
)
# Sent with every request to a secure origin by browsers that have them: https://wicg.github.io/ua-client-hints/
HINTS = ("Sec-CH-UA", "Sec-CH-UA-Platform", "Sec-CH-UA-Mobile")
MAX_FACT_CHARS = 512
PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
NO_FACTS = Facts()
TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class FrontSettings(Section):
    """Headers in which a trusted front says what it knows of a client; believed from `trusted_proxies` alone."""

    tls: Header | None = None
    country: Header | None = None
    asn: Header | None = None


class ListenSettings(Section):
    """The public listener. Times in seconds. `allowed_hosts` empty: every Host is served."""

    host: str = "0.0.0.0"  # noqa: S104 - a container's port is published on purpose
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    trusted_proxies: tuple[str, ...] = ()
    front_headers: FrontSettings = FrontSettings()
    allowed_hosts: tuple[str, ...] = ()
    header_timeout: Annotated[float, Field(gt=0, le=120)] = 10
    body_timeout: Annotated[float, Field(gt=0, le=300)] = 15
    max_body_bytes: Annotated[int, Field(ge=1024, le=10_485_760)] = 65_536

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; write an address or a network, such as 10.0.0.0/8") from None
        return value


class Reader:
    """Reads clients and messages off HTTP requests, by this listener's settings."""

    def __init__(self, settings: ListenSettings, cookie_name: str) -> None:
        self._settings = settings
        self._trusted = [ipaddress.ip_network(network) for network in settings.trusted_proxies]
        self._cookie_name = cookie_name

    def client(self, http: web.Request, route: str) -> Client:
        headers = http.headers
        peer = _address(http.remote or "") or "unknown"
        trusted = self._is_trusted(peer)
        forwarded = headers.getall("X-Forwarded-For", ()) if trusted else ()
        scheme = headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower() if trusted else ""
        passing = dict(relayable(headers.items()))  # what is named in Connection ends here
        traceparent = passing.get("traceparent", "")
        return Client(
            request_id=http[REQUEST_ID],
            ip=self._client_ip(peer, forwarded),
            route=route,
            method=http.method,
            host=_shared(headers.get("Host", "")),
            scheme=scheme if scheme in ("http", "https") else http.scheme,
            origin=_shared(headers.get("Origin")),
            referer=_shared(headers.get("Referer")),
            fetch_site=headers.get("Sec-Fetch-Site"),
            purpose=" ".join(headers.get(name, "")[:MAX_FACT_CHARS] for name in PURPOSES).strip().lower(),
            user_agent=_shared(passing.get("user-agent", "")),
            language=_shared(passing.get("accept-language", "")),
            facts=self._facts(headers, trusted=trusted),
            media=http.content_type if "Content-Type" in headers else "",
            csrf=headers.get("X-CSRF-Token", ""),
            has_url_token=any(name.lower() in URL_TOKENS for name in http.query),
            traceparent=traceparent if TRACEPARENT.fullmatch(traceparent) else None,
            site_name=headers.get("X-Sidegate-Site"),
            credential=self._credential(http),
            embed_key=headers.get("X-Embed-Key"),
            solution=headers.get("X-Challenge-Solution"),
            conversation=headers.get("X-Sidegate-Conversation", ""),
        )

    async def json(self, http: web.Request, max_bytes: int | None = None) -> dict[str, object]:
        """The body as a JSON object, by default as large as a message may be.

        Raises UnsupportedMedia, TooLarge, RequestTimeout or BadRequest.
        """
        if http.content_type != "application/json":
            raise UnsupportedMedia(
                f"Content-Type {http.content_type!r}", public="Please send the message as application/json."
            )
        if http.headers.get("Content-Encoding", "identity") != "identity":
            raise UnsupportedMedia("Content-Encoding", public="Please send the message without Content-Encoding.")
        most = self._settings.max_body_bytes if max_bytes is None else max_bytes
        return json_object(await read_body(http, most, self._settings.body_timeout))

    def _credential(self, http: web.Request) -> Credential | None:
        """The first of: bearer token, ticket, cookie. Other schemes may be meant for a proxy in front."""
        scheme, _, value = http.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return Credential("bearer", value.strip())
        if (ticket := http.query.get("ticket")) is not None:
            return Credential("ticket", ticket)
        if cookies := self._cookies(http.headers.getall("Cookie", ())):
            # A page on a sibling domain can add one of the same name, and nothing says which is ours.
            return Credential("cookie", cookies[0] if len(cookies) == 1 else "")
        return Credential("bearer", "") if scheme else None

    def _facts(self, headers: Mapping[str, str], *, trusted: bool) -> Facts:
        front = self._settings.front_headers
        tls, country, asn = (
            headers.get(name, "")[:MAX_FACT_CHARS] if trusted and name else ""
            for name in (front.tls, front.country, front.asn)
        )
        hints = [headers.get(name, "")[:MAX_FACT_CHARS] for name in HINTS]
        device = headers.get("X-Sidegate-Device", "")[:MAX_FACT_CHARS]
        if not any((*hints, device, tls, country, asn)):
            return NO_FACTS
        return Facts(_shared("\0".join(hints)) if any(hints) else "", device, tls, country.lower(), asn)

    def _cookies(self, headers: Iterable[str]) -> list[str]:
        """Every value of our cookie, as sent (RFC 6265 section 5.4)."""
        pairs = [pair.strip().partition("=") for header in headers for pair in header.split(";")]
        return [value for name, _, value in pairs if name == self._cookie_name]

    def _is_trusted(self, ip: str) -> bool:
        if not self._trusted:
            return False
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    def _client_ip(self, peer: str, forwarded: Iterable[str]) -> str:
        """The nearest address that is no trusted proxy, read from the right; left of it stands what anybody claims."""
        hops = [hop.strip() for value in forwarded for hop in value.split(",")]
        ip = peer
        for hop in reversed(hops):
            if not self._is_trusted(ip):
                break
            address = _address(hop)
            if address is None:
                break
            ip = address
        return ip


def _shared(value: T) -> T:
    """One copy of what thousands of connected clients say in the same words, as long as any of them has it."""
    return sys.intern(value) if value else value


def json_object(body: bytes | str) -> dict[str, object]:
    """A JSON object, or BadRequest with the place of the mistake."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"JSON, line {error.lineno} column {error.colno}",
            public=f"The message is not valid JSON (line {error.lineno}, column {error.colno}).",
        ) from None
    if not isinstance(value, dict):
        raise BadRequest("JSON, but no object", public='The message must be a JSON object: {"message": "…"}.')
    return value


def message(fields: dict[str, object]) -> Message:
    """`message` and `context` of a client's JSON. Their sizes are the guard's business."""
    text, context = fields.get("message"), fields.get("context")
    if fields.get("files"):  # files come in a form: what says of itself that it is one, isn't
        raise BadRequest("files are not accepted", public="Files come as multipart/form-data, not in JSON.")
    if not isinstance(text, str):
        raise BadRequest("message is no string", public='The field "message" must be a string.')
    if context is not None and not isinstance(context, dict):
        raise BadRequest("context is no object", public='The field "context" must be an object.')
    return Message(text, context or {})


@lru_cache(1024)
def _address(text: str) -> str | None:
    """An IP address in its canonical form, without port, brackets and IPv4 mapping; None when it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)
