"""What may leave. To add a filter, write its file and name its place in the chain here.

Filters are pure and synchronous: str -> str, fresh for every answer. The order is fixed: what the site redacts; what is
the visitor's own, and comes back; markup, which also takes out what would split words in front of later filters; links,
which see text without tags; length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from proxy.config import Section
from proxy.filters.addresses import Addresses, host_pattern
from proxy.filters.chain import Chain
from proxy.filters.length import Length
from proxy.filters.links import Links
from proxy.filters.markup import Markup
from proxy.filters.redact import Pattern, Redact
from proxy.filters.restore import Restore
from proxy.model import Filter


class RedactSettings(Section):
    """One pattern to replace in answers. Its width must be bounded."""

    pattern: Annotated[str, Field(min_length=1, max_length=500)]
    replacement: Annotated[str, Field(max_length=100)] = "[redacted]"

    @field_validator("pattern")
    @classmethod
    def _usable(cls, value: str) -> str:
        Pattern(value)
        return value


def _host(entry: str) -> str:
    host_pattern(entry)
    return entry.lower()


class LinkSettings(Section):
    """Where links and images in answers may lead to; no port means the scheme's own."""

    allow: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(max_length=200)] = ()


class FilterSettings(Section):
    redact: tuple[RedactSettings, ...] = ()
    # YAML reads a bare `off` as false.
    markup: Annotated[Literal["safe", "strip", "off"], BeforeValidator(lambda value: value or "off")] = "safe"
    links: LinkSettings = LinkSettings()
    max_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000


NOTHING: Mapping[str, str] = {}


class ChainMaker(Protocol):
    """An answer's own chain. `values`: what its session's placeholders stand for, see restore.py."""

    def __call__(self, values: Mapping[str, str] = NOTHING) -> Chain: ...


def chain_maker(settings: FilterSettings) -> ChainMaker:
    """Patterns are compiled once; each answer gets filters of its own."""
    redactions = [(Pattern(rule.pattern), rule.replacement) for rule in settings.redact]
    addresses = Addresses(settings.links.allow)
    markup = settings.markup

    def make(values: Mapping[str, str] = NOTHING) -> Chain:
        filters: list[Filter] = [Redact(pattern, text) for pattern, text in redactions]
        if values:
            filters.append(Restore(values))
        if markup != "off":
            filters.append(Markup(strip=markup == "strip"))
        filters += Links(addresses, html=markup == "off"), Length(settings.max_chars)
        return Chain(filters)

    return make
