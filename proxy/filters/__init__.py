"""What may leave. To add a filter, write its file and name its place in the chain here.

Filters are pure and synchronous: str -> str, fresh for every answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field, field_validator

from proxy.config import Section
from proxy.filters.chain import Chain
from proxy.filters.length import Length
from proxy.filters.redact import Pattern, Redact


class RedactSettings(Section):
    """One pattern to replace in answers. Its width must be bounded."""

    pattern: Annotated[str, Field(min_length=1, max_length=500)]
    replacement: Annotated[str, Field(max_length=100)] = "[redacted]"

    @field_validator("pattern")
    @classmethod
    def _usable(cls, value: str) -> str:
        Pattern(value)
        return value


class FilterSettings(Section):
    redact: tuple[RedactSettings, ...] = ()
    max_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000


def chain_maker(settings: FilterSettings) -> Callable[[], Chain]:
    """Patterns are compiled once; each answer gets filters of its own. The order is fixed: redact, length."""
    redactions = [(Pattern(rule.pattern), rule.replacement) for rule in settings.redact]

    def make() -> Chain:
        return Chain([*(Redact(pattern, text) for pattern, text in redactions), Length(settings.max_chars)])

    return make
