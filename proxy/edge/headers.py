"""The headers of every answer: security, CORS, request id. One place, run for every response just before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiohttp import web

from proxy.model import Client, Site

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HSTS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
ALLOW_METHODS = "GET, POST, DELETE, OPTIONS"
ALLOW_HEADERS = (
    "Accept, Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, "
    "X-CSRF-Token, X-Challenge-Solution, X-Embed-Key, X-Sidegate-Device, X-Sidegate-Conversation, X-Sidegate-Site, "
    "traceparent, "
    # What OpenAI's client adds in a browser; it can't be told not to.
    "OpenAI-Organization, OpenAI-Project, User-Agent, X-Stainless-Arch, X-Stainless-Helper-Method, X-Stainless-Lang, "
    "X-Stainless-OS, X-Stainless-Package-Version, X-Stainless-Retry-Count, X-Stainless-Runtime, "
    "X-Stainless-Runtime-Version, X-Stainless-Timeout"
)
EXPOSE_HEADERS = (
    "Location, RateLimit, RateLimit-Policy, Retry-After, Sidegate-Answer, "
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-Request-Id, X-Should-Retry"
)


WHOLE = {"Sidegate-Answer": "whole"}  # the site's filters need all of an answer before any of it leaves


def delivery(client: Client) -> dict[str, str]:
    """What the headers of an answer say about how it comes."""
    return WHOLE if client.site is not None and client.site.is_whole else {}


def security_headers(*, production: bool) -> dict[str, str]:
    """HSTS only in production: on localhost it would lock a developer's browser to TLS."""
    return SECURITY | (HSTS if production else {})


class Cors:
    """The exact origin of a known page, or nothing. Never `*`, never `null`."""

    def __init__(self, sites: Iterable[Site]) -> None:
        self._credentials: dict[str, bool] = {}
        for site in sites:
            for origin in site.origins:
                self._credentials[origin] = self._credentials.get(origin, False) or site.allow_credentials

    def headers(self, origin: str | None) -> dict[str, str]:
        headers = {"Vary": "Origin"}
        if origin is None or origin not in self._credentials:
            return headers
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = EXPOSE_HEADERS
        if self._credentials[origin]:
            headers["Access-Control-Allow-Credentials"] = "true"
        return headers

    def preflight(self, origin: str | None) -> dict[str, str] | None:
        """What a preflight from this origin is told, or None when it is no page of ours."""
        if origin is None or origin not in self._credentials:
            return None
        return {
            "Access-Control-Allow-Methods": ALLOW_METHODS,
            "Access-Control-Allow-Headers": ALLOW_HEADERS,
            "Access-Control-Max-Age": "600",
        }


def add_missing(response: web.StreamResponse, headers: Mapping[str, str]) -> None:
    """Set what the handler didn't: its own, more special word stands."""
    for name, value in headers.items():
        response.headers.setdefault(name, value)
