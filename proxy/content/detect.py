"""Rule packs as data, and what they and a model make of a text: a score for each category, and what hit where.

A score of 1.0 or more is a detection; a rule that isn't proof by itself weighs less. Patterns are RE2's, so matching
takes a time linear in the text, whoever writes it. What rules don't stop: what nobody wrote a rule for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from typing import Literal, get_args

import re2
import yaml
from pydantic import Field, TypeAdapter

from proxy.config import Section
from proxy.content import Span, injection, webattacks
from proxy.content.linear import Model
from proxy.content.mention import is_mentioned
from proxy.content.normalise import Normal, normalise

Category = Literal["xss", "sql_injection", "command_injection", "path_traversal", "prompt_injection", "spam", "bot"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
THRESHOLD = 1.0
# Categories whose anchors share a set; all others share one more.
SETS = (("prompt_injection",), ("sql_injection", "command_injection"))
CACHE_BYTES = 16 << 20  # of a set's states; a larger cache is thrown away more rarely, but for longer
# The hits of the trained models, beside those of the rules; they add up with them.
MODEL = "pi-model"
WEB_MODELS = {"sql_injection": "sql-model", "xss": "xss-model", "command_injection": "command-model"}


class Rule(Section):
    """One rule. `anchor` is a narrow pattern without which `pattern` can't match: only where it does is that tried."""

    id: str
    category: Category
    pattern: str
    anchor: str = ""
    weight: float = Field(1.0, gt=0, le=1)
    why: str
    source: str
    matches: tuple[str, ...] = Field(min_length=1)
    passes: tuple[str, ...] = Field(min_length=1)


class Pack(Section):
    """A file of rules. `pieces` are patterns that its rules, and pieces behind them, name as <<name>>."""

    pieces: dict[str, str] = Field(default_factory=dict)
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that matched, or the model (`weight` is its score then). `span.kind` is the category; positions are those
    of the text as it came.
    """

    rule: str
    category: str
    weight: float
    span: Span


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules made of a text: categories with a score above 0, and the hits that it is made of."""

    scores: Mapping[str, float] = field(default_factory=dict)
    hits: tuple[Hit, ...] = ()


NOTHING = Judgement()


@lru_cache(1)
def packs() -> tuple[Rule, ...]:
    """Every rule of the shipped packs, their pieces put in."""
    folder = files("proxy.content") / "rules"
    shipped = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return tuple(rule for file in sorted(shipped, key=lambda file: file.name) for rule in read(file.read_text("utf-8")))


def read(text: str) -> Iterator[Rule]:
    """The rules of one pack. Raises ValidationError for what is no pack."""
    pack = TypeAdapter(Pack).validate_python(yaml.load(text, Loader=yaml.CSafeLoader))
    for rule in pack.rules:
        yield rule.model_copy(update={"pattern": _whole(rule.pattern, pack), "anchor": _whole(rule.anchor, pack)})


def _whole(pattern: str, pack: Pack) -> str:
    for name, piece in reversed(pack.pieces.items()):  # a piece may name those before it
        pattern = pattern.replace(f"<<{name}>>", piece)
    return pattern


class Detector:
    """Rules, ready to be run, and the model for prompt injection. Holds no text; may be shared."""

    def __init__(self, rules: Iterable[Rule] | None = None, model: Model | None = None) -> None:
        self.rules = tuple(packs() if rules is None else rules)
        self._model = model or injection.model()
        options = re2.Options()
        options.case_sensitive = False
        options.dot_nl = True
        options.log_errors = False
        options.max_mem = CACHE_BYTES
        self._patterns = [re2.compile(rule.pattern, options) for rule in self.rules]
        # A set remembers the states it has been in. One set of all rules has so many that it forgets all the time, and
        # takes 25 times as long on ordinary traffic.
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, rule in enumerate(self.rules):
            shared = next((categories for categories in SETS if rule.category in categories), ())
            groups.setdefault(shared, []).append(index)
        self._anchors = [(self._set(numbers, options), numbers) for numbers in groups.values()]
        webattacks.models()  # the weights are read and the tables made at the start, not in a message's time
        injection.find(normalise("a"), self._model)

    def _set(self, numbers: Iterable[int], options: re2.Options) -> re2.Set:
        anchors = re2.Set.SearchSet(options)
        for number in numbers:
            anchors.Add(self.rules[number].anchor or self.rules[number].pattern)
        anchors.Compile()
        return anchors

    def judge(self, text: str) -> Judgement:
        """Score a text. Linear in its length."""
        return self.judge_normal(normalise(text))

    def judge_normal(self, normal: Normal) -> Judgement:
        hits: dict[str, Hit] = {}
        for reading in normal.readings():
            data = reading.encode("utf-8", "replace")  # RE2 takes bytes, and half characters are none
            for index in self._worth_trying(data):
                rule = self.rules[index]
                if rule.id not in hits and (found := self._patterns[index].search(data)):
                    hits[rule.id] = _hit(rule, normal, reading, data, found.span())
        if suspicion := injection.find(normal, self._model):
            start, end = suspicion.start, suspicion.end
            hits[MODEL] = Hit(MODEL, "prompt_injection", suspicion.score, Span(start, end, "prompt_injection"))
        for suspect in webattacks.find(normal):
            name = WEB_MODELS[suspect.kind]
            hits[name] = Hit(name, suspect.kind, suspect.score, Span(suspect.start, suspect.end, suspect.kind))
        if not hits:
            return NOTHING
        hits = {name: _heard(hit, normal.source) for name, hit in hits.items()}
        scores: dict[str, float] = {}
        for hit in hits.values():
            scores[hit.category] = scores.get(hit.category, 0.0) + hit.weight
        return Judgement(scores, tuple(hits.values()))

    def _worth_trying(self, data: bytes) -> list[int]:
        return [numbers[at] for anchors, numbers in self._anchors for at in anchors.Match(data) or ()]


@lru_cache(1)
def shipped() -> Detector:
    """Of the shipped rules and models. One for all who judge: its caches take megabytes."""
    return Detector()


def _heard(hit: Hit, text: str) -> Hit:
    """An order to the model that is only quoted counts for half."""
    if hit.category == "prompt_injection" and is_mentioned(text, hit.span.start, hit.span.end):
        return replace(hit, weight=hit.weight / 2)
    return hit


def _hit(rule: Rule, normal: Normal, reading: str, data: bytes, place: tuple[int, int]) -> Hit:
    start, end = (len(data[:at].decode("utf-8", "replace")) for at in place)
    if reading is normal.text:
        start, end = normal.original(start, end)
    elif reading is not normal.source:
        start, end = 0, len(normal.source)  # a further reading stands for the whole text
    return Hit(rule.id, rule.category, rule.weight, Span(start, end, rule.category))
