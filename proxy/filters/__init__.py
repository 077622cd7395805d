"""What may leave. To add a filter, write its file and name its place in the chain here.

Filters are pure and synchronous: str -> str, fresh for every answer. The order is fixed, and part of the argument:
invisible   first, so that nothing hidden parts what the others look for
redact      the site's own patterns
mask        personal data and secrets that the model came up with
restore     what the visitor gave away before, in place of what stood for it
markup      HTML becomes text
links       in a text that has no tags
phrases     what blocks an answer, in the words that the visitor would read
length      of what leaves
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Protocol, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from proxy.config import Section
from proxy.content.pii import KINDS
from proxy.filters.addresses import Addresses, host_pattern
from proxy.filters.chain import Chain
from proxy.filters.collect import Collect, WholePattern
from proxy.filters.invisible import Invisible
from proxy.filters.length import Length
from proxy.filters.links import Links
from proxy.filters.markup import Markup
from proxy.filters.mask import Known, Mask
from proxy.filters.phrases import MAX_PHRASE, canaries, phrases
from proxy.filters.redact import Pattern, Redact
from proxy.filters.restore import Restore
from proxy.filters.words import every, ordinary
from proxy.model import Filter

Phrase = Annotated[str, Field(min_length=1, max_length=MAX_PHRASE)]


class RedactSettings(Section):
    """One pattern to replace in answers. Its width must be bounded, or the answer is collected as a whole."""

    pattern: Annotated[str, Field(min_length=1, max_length=500)]
    replacement: Annotated[str, Field(max_length=100)] = "[redacted]"
    whole: bool = False

    @model_validator(mode="after")
    def _usable(self) -> Self:
        (WholePattern if self.whole else Pattern)(self.pattern)
        return self


def _host(entry: str) -> str:
    host_pattern(entry)
    return entry.lower()


class LinkSettings(Section):
    """Where links and images in answers may lead to; no port means the scheme's own."""

    allow: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(max_length=200)] = ()


class PhraseSettings(Section):
    """What blocks an answer."""

    block: Annotated[tuple[Phrase, ...], Field(max_length=1000)] = ()
    canaries: Annotated[tuple[Phrase, ...], Field(max_length=100)] = ()

    @field_validator("block")
    @classmethod
    def _words(cls, block: tuple[str, ...]) -> tuple[str, ...]:
        if block:
            phrases(block)
        return block

    @field_validator("canaries")
    @classmethod
    def _marks(cls, marks: tuple[str, ...]) -> tuple[str, ...]:
        if marks:
            canaries(marks)
        return marks


class FilterSettings(Section):
    redact: tuple[RedactSettings, ...] = ()
    pii: bool = True
    secrets: bool = True
    hold_words: bool = False
    public: Annotated[tuple[Phrase, ...], Field(max_length=1000)] = ()
    # YAML reads a bare `off` as false.
    markup: Annotated[Literal["safe", "strip", "off"], BeforeValidator(lambda value: value or "off")] = "safe"
    links: LinkSettings = LinkSettings()
    phrases: PhraseSettings = PhraseSettings()
    max_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000

    @property
    def is_whole(self) -> bool:
        """Do visitors wait for the whole answer?"""
        return any(rule.whole for rule in self.redact)

    @property
    def kinds(self) -> frozenset[str]:
        """Of personal data, those that are masked."""
        return frozenset(kind for kind in KINDS if (self.secrets if kind == "secret" else self.pii))


NOTHING: Mapping[str, str] = {}


class ChainMaker(Protocol):
    """An answer's own chain. `values`: what its session's placeholders stand for; `said`: what the visitor wrote."""

    def __call__(self, values: Mapping[str, str] = NOTHING, said: str = "") -> Chain: ...


def chain_maker(settings: FilterSettings) -> ChainMaker:
    """Patterns are compiled once; each answer gets filters of its own."""
    redact = [_redact(rule, settings.max_chars) for rule in settings.redact]
    blocking = [
        (pattern(words), rule)
        for words, pattern, rule in (
            (settings.phrases.block, phrases, "phrase"),
            (settings.phrases.canaries, canaries, "canary"),
        )
        if words
    ]
    addresses = Addresses(settings.links.allow)
    markup = settings.markup
    kinds = settings.kinds
    words = every if settings.hold_words else ordinary()

    def make(values: Mapping[str, str] = NOTHING, said: str = "") -> Chain:
        filters: list[Filter] = [] if markup == "off" else [Invisible()]
        filters += (rule() for rule in redact)
        if kinds:
            filters.append(Mask(kinds, Known(settings.public, said, values.values()), words))
        if values:
            filters.append(Restore(values))
        if markup != "off":
            filters.append(Markup(strip=markup == "strip"))
        filters.append(Links(addresses, html=markup == "off"))
        filters += (Redact(pattern, None, rule) for pattern, rule in blocking)
        return Chain([*filters, Length(settings.max_chars)])

    return make


def _redact(rule: RedactSettings, max_chars: int) -> Callable[[], Filter]:
    if rule.whole:
        whole = WholePattern(rule.pattern)
        return lambda: Collect(whole, rule.replacement, max_chars)
    pattern = Pattern(rule.pattern)
    return lambda: Redact(pattern, rule.replacement)
