"""What a message says: judged by the content rules, then refused, neutralised, or named to the upstream.

What it stops: attacks on what stands behind the workflow (databases, shells, pages, templates, files) and on the model,
as far as the packs in content/rules know them; docs/detection.md has the figures. What it doesn't: an attack in words
that no rule knows. A detection is a reason to refuse, its absence is no proof of good faith.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from proxy.config import Section
from proxy.content.detect import CATEGORIES, THRESHOLD, Detector, Hit, Judgement
from proxy.content.html import sanitize
from proxy.errors import ContentBlocked
from proxy.guard.detectors import DetectorSettings, HttpDetector, ask_all
from proxy.guard.habits import Habits
from proxy.guard.masking import PiiSettings
from proxy.model import Mode, Request
from proxy.telemetry import audit
from proxy.wire.text import strings

Action = Literal["block", "sanitize", "flag", "off"]
MAX_RULES_TOLD = 12  # in an audit event


class RuleSettings(Section):
    """What happens to a message with a detection in a category.

    block: it is refused. sanitize: it passes, its markup neutralised, and is named in the upstream token; with `xss`
    that is done to every message. flag: it passes unchanged, and is named. off: the category isn't looked at.
    """

    xss: Action = "block"
    sql_injection: Action = "block"
    command_injection: Action = "block"
    path_traversal: Action = "block"
    prompt_injection: Action = "block"
    spam: Action = "flag"
    bot: Action = "flag"

    def actions(self) -> dict[str, Action]:
        return {category: getattr(self, category) for category in CATEGORIES}


class ContentSettings(Section):
    max_chars: Annotated[int, Field(ge=1, le=100_000)] = 2000
    mode: Mode = "enforce"
    rules: RuleSettings = RuleSettings()
    pii: PiiSettings = PiiSettings()
    detectors: Annotated[tuple[DetectorSettings, ...], Field(max_length=5)] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one message: the strictest action, and why. `text` is what may go upstream."""

    action: Literal["allow", "sanitize", "block"]
    scores: Mapping[str, float]
    flags: tuple[str, ...]
    hits: tuple[Hit, ...]
    text: str


def weigh(text: str, judgement: Judgement, actions: Mapping[str, Action]) -> Finding:
    """Weigh a judgement of a text by a site's actions."""
    scores = {name: round(score, 3) for name, score in judgement.scores.items() if actions[name] != "off"}
    detected = [name for name in CATEGORIES if scores.get(name, 0.0) >= THRESHOLD]
    hits = tuple(hit for hit in judgement.hits if hit.category in scores)
    if any(actions[name] == "block" for name in detected):
        return Finding("block", scores, (), hits, text)
    clean = sanitize(text) if is_cleaned(detected, actions) else text
    return Finding("allow" if clean == text else "sanitize", scores, tuple(detected), hits, clean)


def is_cleaned(detected: Iterable[str], actions: Mapping[str, Action]) -> bool:
    """With these detections, is markup neutralised?"""
    return actions["xss"] == "sanitize" or any(actions[name] == "sanitize" for name in detected)


class Content:
    """The content rules of every site, for the sites in one mode."""

    name = "content"

    def __init__(
        self, content: Mapping[str, ContentSettings], mode: Mode, detector: Detector, habits: Habits | None = None
    ) -> None:
        self.mode = mode
        self._habits = habits or Habits()
        self._actions = {
            site: settings.rules.actions()
            for site, settings in content.items()
            if settings.mode == mode and set(settings.rules.actions().values()) != {"off"}
        }
        self._detector = detector

    async def check(self, request: Request) -> Request:
        """Refuse, or return the request with its verdict and with what may go upstream of its text.

        A page's facts are judged as strictly as what the visitor wrote: whoever can write one can write the other.
        """
        actions = self._actions.get(request.site.name)
        if actions is None:
            return request
        judgements = [self._detector.judge(text) for text in texts(request)]
        judgement = plus(together(judgements), self._habits.judge(request))
        return settled(request, judgement, actions, self.mode)


class Detectors:
    """The detectors of yours that sites have, for the sites in one mode; asked about what goes upstream."""

    name = "detectors"

    def __init__(
        self, content: Mapping[str, ContentSettings], mode: Mode, detectors: Mapping[str, Sequence[HttpDetector]]
    ) -> None:
        self.mode = mode
        self._actions = {site: settings.rules.actions() for site, settings in content.items() if settings.mode == mode}
        self._detectors = detectors

    async def check(self, request: Request) -> Request:
        actions = self._actions.get(request.site.name)
        detectors = self._detectors.get(request.site.name)
        if actions is None or not detectors:
            return request
        judgement = together(await ask_all(detectors, request))
        return settled(request, judgement, actions, self.mode)


def settled(request: Request, judgement: Judgement, actions: Mapping[str, Action], mode: Mode) -> Request:
    """What becomes of a request that was judged: its verdict, and what may go upstream. Raises ContentBlocked."""
    finding = weigh(request.message.text, judgement, actions)
    if finding.flags or finding.action != "allow":
        _tell(request, finding, mode)
    if finding.action == "block":
        raise ContentBlocked(_reason(finding))
    if finding.scores:
        before = request.verdict
        flags = (*before.flags, *(flag for flag in finding.flags if flag not in before.flags))
        request = replace(request, verdict=replace(before, scores={**before.scores, **finding.scores}, flags=flags))
    if mode == "observe" or not is_cleaned(finding.flags, actions):
        return request
    context = {name: cleaned(value) for name, value in request.message.context.items()}
    return replace(request, message=replace(request.message, text=finding.text, context=context))


def _tell(request: Request, finding: Finding, mode: Mode) -> None:
    parts = {hit.rule: hit.weight for hit in finding.hits[:MAX_RULES_TOLD]}
    audit(
        "CONTENT", site=request.site.name, action=finding.action, mode=mode, scores=dict(finding.scores),
        parts=parts, request_id=request.id, ip=request.client.ip,
    )  # fmt: skip


def _reason(finding: Finding) -> str:
    detected = [name for name, score in finding.scores.items() if score >= THRESHOLD]
    rules = [hit.rule for hit in finding.hits if hit.category in detected]
    return f"{', '.join(detected)} ({', '.join(rules[:MAX_RULES_TOLD])})"


def texts(request: Request) -> Iterator[str]:
    """Everything in a request that the client wrote: the message, names of files, and names and values of the context
    (which guard/shape.py bounded).
    """
    yield request.message.text
    yield from (file.name for file in request.message.files)
    yield from strings(request.message.context)


def cleaned(value: object) -> object:
    """A value of the context with its markup neutralised; names stay, since somebody reads them by name."""
    match value:
        case str():
            return sanitize(value)
        case dict():
            return {name: cleaned(item) for name, item in value.items()}
        case list():
            return [cleaned(item) for item in value]
        case _:
            return value


def together(judgements: Iterable[Judgement]) -> Judgement:
    """The worst of several: each category's highest score, and all hits."""
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for judgement in judgements:
        for category, score in judgement.scores.items():
            scores[category] = max(score, scores.get(category, 0.0))
        hits |= {hit.rule: hit for hit in judgement.hits if hit.rule not in hits}
    return Judgement(scores, tuple(hits.values()))


def plus(one: Judgement, other: Judgement) -> Judgement:
    """Two judgements of the same message: what they say adds up."""
    names = one.scores.keys() | other.scores.keys()
    scores = {name: one.scores.get(name, 0.0) + other.scores.get(name, 0.0) for name in names}
    return Judgement(scores, one.hits + other.hits)
