"""From the configuration as written to the typed tree: environment laid on top, secrets fetched, every problem found.

Knows types (pydantic models made of Sections), and no setting by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proxy.config import (
    A_SECRET,
    PREFIX,
    ConfigError,
    Place,
    Problem,
    Secret,
    Tree,
    is_text,
    parse_yaml,
    read_secret,
    scalar,
    unknown,
)
from proxy.forms import Form, describe, forms, inside, is_section, is_word, items_of, section_of

NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the mechanism is told of the settings. Names are dotted, `*` stands for any name."""

    plain: Collection[str] = ()  # secrets that may be written in the file itself
    planned: Collection[str] = ()  # settings that a later version will have


def apply_environment(tree: Tree, into: type[BaseModel], env: Mapping[str, str], rules: Rules) -> None:
    """Lay `SIDEGATE__…` on the tree. A variable that is set to nothing counts as not set."""
    for name in sorted((name for name in env if name.startswith(PREFIX)), key=_order):
        try:
            place, form, from_file = _locate(tree, into, name, rules)
        except ValueError as error:
            tree.problems.append(Problem(name, str(error)))
            continue
        if not env[name]:
            continue
        try:
            if from_file and env.get(name.removesuffix("_FILE")):
                raise ValueError("set twice, as itself and as a file; keep one of them")
            if not is_text(env[name]):
                raise ValueError("not UTF-8 text; write it as UTF-8")
            tree.put(place, read_secret(Path(env[name])) if from_file else parse(form, env[name]), name)
        except ValueError as error:
            tree.put(place, None, name)
            tree.report(place, str(error))


def _order(name: str) -> list[tuple[bool, int, str]]:
    """Wholes before their parts, `KIND` before what depends on it, list entries by number."""
    parts = name.split("__")
    return [(part != "KIND", int(part) if NUMBER.fullmatch(part) else -1, part) for part in parts]


def _locate(tree: Tree, into: type[BaseModel], name: str, rules: Rules) -> tuple[Place, Form, bool]:
    """Where the variable's value goes, what it may be, and whether it is the name of a secret's file.

    Raises ValueError for a name that leads nowhere.
    """
    form: Form = into
    place: Place = ()
    *parents, last = name.removeprefix(PREFIX).split("__")
    for segment in parents:
        part, form = _step(tree, form, place, segment, rules)
        _write_default(tree, into, (*place, part))
        place = (*place, part)
    if last.endswith("_FILE"):
        with suppress(ValueError):
            part, inner = _step(tree, form, place, last.removesuffix("_FILE"), rules)
            if Secret in forms(inner):
                return (*place, part), inner, True
    part, form = _step(tree, form, place, last, rules)
    return (*place, part), form, False


def _step(tree: Tree, form: Form, place: Place, segment: str, rules: Rules) -> tuple[str | int, Form]:
    """One segment of a variable's name further. Raises ValueError with what is possible here."""
    value = tree.get(place)
    section = section_of(form, value)
    known = section.model_fields if section else value if isinstance(value, dict) else {}
    name = named(known, segment)
    if section is not None and name not in known:
        raise ValueError(_unknown((*place, name), known, rules, "__".join(map(str, (PREFIX[:-2], *place, "")))))
    if items_of(form) is not None and NUMBER.fullmatch(segment):
        count = len(value) if isinstance(value, list) else 0
        if int(segment) > count:
            raise ValueError(f"no such entry; there are {count}, so the next one is number {count}")
        return int(segment), items_of(form)
    inner = inside(form, value, name)
    if inner is not None and segment:
        return name, inner
    if any(is_section(member) for member in forms(form)):
        return name, str  # which of several sections it is isn't clear; that will be reported as the missing `kind`
    raise ValueError(f"no such setting; {tree.show(place) or 'the whole'} is {describe(form)}")


def named(known: Iterable[str], segment: str) -> str:
    """The name that a variable's segment stands for. Variables have neither small letters nor hyphens."""
    wanted = segment.lower()
    same = [name for name in known if name.lower() == wanted]
    alike = [name for name in known if name.lower().replace("-", "_") == wanted]
    return next(iter(same or alike), wanted)


def _write_default(tree: Tree, into: type[BaseModel], place: Place) -> None:
    """Write a list's default out before one of its entries is changed."""
    section = section_of(form_at(into, tree, place[:-1]), tree.get(place[:-1]))
    if section is None or tree.get(place) is not None:
        return
    default = section.model_fields[str(place[-1])].get_default(call_default_factory=True)
    if isinstance(default, tuple | list):
        tree.put(place, [item.model_dump() if isinstance(item, BaseModel) else item for item in default])


def parse(form: Form, text: str) -> object:
    """A variable's text as what the setting may be: text as it is, lists as JSON or with commas, else a YAML scalar."""
    members = forms(form)
    if Secret in members:
        return Secret(text)
    if all(member is str or is_word(member) for member in members):
        return text
    if text.lstrip().startswith(("[", "{")):
        return parse_yaml(text, _refuse)
    if items_of(form) is not None:
        return [part.strip() for part in text.split(",") if part.strip()]
    return scalar(text.strip())


def _refuse(place: Place, text: str) -> None:
    raise ValueError(f"{'.'.join(map(str, place))}: {text}")


def _unknown(place: Place, known: Iterable[str], rules: Rules, before: str = "") -> str:
    dotted = [str(part) for part in place]
    for pattern in rules.planned:
        parts = pattern.split(".")
        if len(parts) == len(dotted) and all(part in ("*", name) for part, name in zip(parts, dotted, strict=True)):
            return "not available in this version; remove it"
    return unknown(dotted[-1], known, before)


def form_at(into: type[BaseModel], tree: Tree, place: Place) -> Form | None:
    """What may be written there."""
    form: Form | None = into
    for end, part in enumerate(place):
        form = None if form is None else inside(form, tree.get(place[:end]), part)
    return form


class _Broken:
    """Stands for a value that was reported and left out."""


BROKEN = _Broken()


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Fetches secrets, and reports unknown keys and what pydantic would let pass."""

    tree: Tree
    env: Mapping[str, str] = field(repr=False)
    rules: Rules

    def resolve(self, form: Form, value: object, place: Place) -> object:
        if Secret in forms(form):
            return self._secret(value, place)
        if isinstance(value, dict):
            return self.section(form, value, place)
        if isinstance(value, list) and items_of(form) is not None:
            items = [self.resolve(items_of(form), item, (*place, index)) for index, item in enumerate(value)]
            return [None if item is BROKEN else item for item in items]
        if isinstance(value, bool) and bool not in forms(form) and (int in forms(form) or float in forms(form)):
            return self._report(place, f"not a number; write {describe(form)}")
        return value

    def section(self, form: Form, value: dict[str, object], place: Place) -> dict[str, object]:
        section = section_of(form, value)
        kept: dict[str, object] = {}
        for key, inner in value.items():
            if section is not None and key not in section.model_fields:
                self._report((*place, key), _unknown((*place, key), section.model_fields, self.rules))
                continue
            resolved = self.resolve(inside(form, value, key), inner, (*place, key))
            if resolved is not BROKEN:
                kept[key] = resolved
        return kept

    def _secret(self, value: object, place: Place) -> object:
        try:
            match value:
                case None | Secret():
                    return value
                case {"file": str(path), **rest} if not rest:
                    return read_secret(self.tree.base / path)
                case {"env": str(name), **rest} if not rest:
                    if not self.env.get(name):
                        return self._report(place, f"the variable {name} is not set; set it, or write another one")
                    if not is_text(self.env[name]):
                        return self._report(place, f"the variable {name} is not UTF-8 text; write it as UTF-8")
                    return Secret(self.env[name])
                case str() if ".".join(map(str, place)) in self.rules.plain:
                    return Secret(value)
                case str() | int() | float():
                    return self._report(place, f"the secret itself doesn't belong here; write {A_SECRET}")
        except ValueError as error:
            return self._report(place, str(error))
        return self._report(place, f"not a secret; write {A_SECRET}")

    def _report(self, place: Place, text: str) -> _Broken:
        self.tree.report(place, text)
        return BROKEN


def validate(tree: Tree, into: type[T], env: Mapping[str, str], rules: Rules) -> T:
    """The typed tree, without what could not be used; all that is wrong is in `tree.problems` afterwards.

    Raises ConfigError where nothing is left without it.
    """
    tree.values = _Resolver(tree, env, rules).section(into, tree.values, ())
    is_first = True
    while True:
        try:
            return into.model_validate(tree.values)
        except ValidationError as error:
            found = [(_place(tree, detail), detail) for detail in error.errors(include_url=False, include_input=False)]
        if is_first:  # later ones come from what was left out
            _report(tree, into, found)
        is_first = False
        left_out = [_leave_out(tree, place) for place, _ in reversed(found)]  # a list's later entries go first
        if not any(left_out):
            raise ConfigError(tree.problems)


def _report(tree: Tree, into: type[BaseModel], found: Sequence[tuple[Place, ErrorDetails]]) -> None:
    """A union says of each member why the value isn't that: what is said deepest counts, or in a member's own words."""
    best: dict[Place, ErrorDetails] = {}
    for place, detail in found:
        if place not in best or detail["type"] == "value_error":
            best[place] = detail
    for place, detail in best.items():
        is_echo = any(len(other) > len(place) and other[: len(place)] == place for other in best)
        if not is_echo and place not in tree.reported:
            tree.report(place, _what(detail, form_at(into, tree, place), tree.get(place)))


def _place(tree: Tree, detail: ErrorDetails) -> Place:
    """Where it is in the file: pydantic's location also names the members of unions that were tried."""
    place: Place = ()
    for part in detail["loc"]:
        value = tree.get(place)
        is_key = isinstance(value, dict) and part in value
        if is_key or (isinstance(value, list) and isinstance(part, int)):
            place = (*place, part)
    if detail["type"] == "missing":
        return (*place, detail["loc"][-1])
    if detail["type"].startswith("union_tag"):
        return (*place, detail["ctx"]["discriminator"].strip("'"))
    return place


def _leave_out(tree: Tree, place: Place) -> bool:
    """Remove what is there; where nothing is (it is missing), what it is missing from."""
    return any(tree.drop(place[:end]) for end in range(len(place), 0, -1))


WRONG = (
    ("missing", "missing"),
    ("bool_", "neither true nor false"),
    ("literal_error", "not one of the words for it"),
    ("greater_than", "out of range"),
    ("less_than", "out of range"),
    ("int_", "not a whole number"),
    ("float_", "not a number"),
    ("finite_number", "not a number"),
    ("string_type", "not text (numbers and true or false need quotes)"),
    ("string_too_", "too long or too short"),
    ("string_pattern", "has a character that is not allowed"),
    ("tuple_", "not a list"),
    ("list_", "not a list"),
    ("dict_", "not a mapping"),
    ("model_", "not a mapping"),
)


def _what(detail: ErrorDetails, form: Form | None, value: object) -> str:
    """What is wrong, and what to write instead; never what was written, which may be a secret in the wrong place."""
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        text = str(context["error"])
        return text.replace(value.reveal(), "***") if isinstance(value, Secret) else text
    if kind.startswith("union_tag"):
        return f"{'missing' if kind.endswith('found') else 'unknown'}; write {describe(form)}"
    wrong = next((words for start, words in WRONG if kind.startswith(start)), "not possible here")
    bounds = [
        f", {words} {context[name]} characters or entries"
        for name, words in (("max_length", "at most"), ("min_length", "at least"))
        if name in context
    ]
    matching = f", matching {context['pattern']}" if "pattern" in context else ""
    return f"{wrong}; write {describe(form)}{''.join(bounds)}{matching}"
