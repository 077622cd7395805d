"""A site's own settings: who may talk to it, with what credentials, and what it has in place of the general ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from proxy.config import Section
from proxy.edge.completions import CompletionSettings
from proxy.filters import FilterSettings
from proxy.guard.budget import BudgetSettings
from proxy.guard.content import ContentSettings
from proxy.guard.keys import MAX_KEYS, EmbedKeySettings
from proxy.guard.limits import LimitSettings
from proxy.guard.origin import normal_origin
from proxy.streams import StreamSettings
from proxy.streams.cache import CacheSettings

AuthKind = Literal["anonymous", "embed_key", "api_key", "jwt"]


def _origin(value: str) -> str:
    if not value.isascii():
        raise ValueError("not as browsers send it; write the host in ASCII: https://xn--bcher-kva.example")
    try:
        return normal_origin(value)
    except ValueError:
        text = "write scheme and host, the port if it is unusual, and nothing behind: https://shop.example"
        raise ValueError(f"not an origin; {text}") from None


class UpstreamShare(Section):
    """One of several upstreams of a site: of its sessions, a share as large as its weight among all."""

    name: str
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


class SiteSettings(Section):
    """A tenant. `limits` replace the general ones unless empty; the other sections change what they name."""

    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()
    # Once loaded there is one: the only upstream where none is written.
    upstream: str | Annotated[tuple[str | UpstreamShare, ...], Field(min_length=1, max_length=10)] = ""
    auth: Annotated[tuple[AuthKind, ...], Field(min_length=1)] = ("anonymous",)
    embed_keys: Annotated[tuple[EmbedKeySettings, ...], Field(max_length=MAX_KEYS)] = ()
    page: bool = False
    allow_credentials: bool = False
    limits: tuple[LimitSettings, ...] | None = None
    budgets: tuple[BudgetSettings, ...] | None = None
    content: ContentSettings | None = None
    filters: FilterSettings | None = None
    streams: StreamSettings | None = None
    cache: CacheSettings | None = None
    completions: CompletionSettings = CompletionSettings()

    @property
    def weights(self) -> dict[str, int]:
        """Its upstreams and their weights, in the order written."""
        written = (self.upstream,) if isinstance(self.upstream, str) else self.upstream
        shares = [UpstreamShare(name=each) if isinstance(each, str) else each for each in written]
        return {share.name: share.weight for share in shares}

    @field_validator("upstream")
    @classmethod
    def _each_once(cls, upstream: str | tuple[str | UpstreamShare, ...]) -> str | tuple[str | UpstreamShare, ...]:
        names = [each if isinstance(each, str) else each.name for each in upstream]
        if not isinstance(upstream, str) and len(set(names)) < len(names):
            raise ValueError("each upstream once; a larger share is a larger weight: {name: a, weight: 9}")
        return upstream
