"""What a settings tree may hold, read off the types: where a name leads, and what to write there, in words."""

from __future__ import annotations

import re
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.config import A_SECRET, Secret

Form = Any  # a type as annotations write it: a class, a union, Annotated, tuple[X, ...]; Python has no type for these


def forms(form: Form) -> list[Form]:
    """What a value may be: the members of a union, without None, each without its annotations."""
    origin = _origin(form)
    if origin is Annotated:
        return forms(get_args(form)[0])
    if origin in (Union, UnionType):
        return [member for each in get_args(form) for member in forms(each)]
    return [] if form is type(None) else [form]


def _origin(form: Form) -> Form:
    return get_origin(form)


def section_of(form: Form, value: object) -> type[BaseModel] | None:
    """The section that is meant here: the only one, or the one whose fixed words (`kind: n8n`) are the value's."""
    sections = [member for member in forms(form) if is_section(member)]
    if len(sections) > 1 and isinstance(value, dict):
        sections = [section for section in sections if _says(section, value)]
    return sections[0] if len(sections) == 1 else None


def is_section(form: Form) -> TypeGuard[type[BaseModel]]:
    return isinstance(form, type) and issubclass(form, BaseModel)


def is_word(form: Form) -> bool:
    """One of some fixed words."""
    return _origin(form) is Literal and isinstance(get_args(form)[0], str)


def _says(section: type[BaseModel], value: dict[str, object]) -> bool:
    fixed = {name: forms(info.annotation)[0] for name, info in section.model_fields.items() if info.annotation}
    words = {name: get_args(form) for name, form in fixed.items() if _origin(form) is Literal}
    return "kind" in words and value.get("kind") in words["kind"]


def items_of(form: Form) -> Form | None:
    """What a list's entries are, or None where no list is meant."""
    return next((get_args(member)[0] for member in forms(form) if _origin(member) in (tuple, list, frozenset)), None)


def values_of(form: Form) -> Form | None:
    """What is behind the names of a map, or None where no map is meant."""
    return next((get_args(member)[1] for member in forms(form) if _origin(member) is dict), None)


def field_form(info: FieldInfo) -> Form:
    """The field's type with its constraints."""
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def inside(form: Form, value: object, part: str | int) -> Form | None:
    """The type of what `part` leads to, or None where it leads nowhere."""
    if isinstance(part, int):
        return items_of(form)
    section = section_of(form, value)
    if section is not None and part in section.model_fields:
        return field_form(section.model_fields[part])
    if section is None and part == "kind":
        kinds: list[Form] = [member.model_fields["kind"].annotation for member in forms(form) if is_section(member)]
        return reduce(or_, kinds) if kinds else values_of(form)
    return values_of(form)


def describe(form: Form) -> str:
    """What to write, in words: `a whole number from 1 to 100000`."""
    members = forms(form)
    words = [str(word) for member in members if _origin(member) is Literal for word in get_args(member)]
    said = [" or ".join(filter(None, (", ".join(words[:-1]), words[-1])))] if words else []
    for member in members:
        if member is bool:
            said.append("true or false")
        elif member in (int, float):
            said.append(("a whole number" if member is int else "a number") + _range(form))
        elif member is Secret:
            said.append(A_SECRET)
        elif member is str:
            said.append("text")
        elif items_of(member) is not None:
            said.append("a list of " + re.sub("^a mapping", "mappings", describe(items_of(member))))
        elif values_of(member) is not None:
            said.append(f"a mapping of names to {describe(values_of(member))}")
        elif is_section(member):
            said.append("a mapping with " + ", ".join(member.model_fields))
    return "; or ".join(said)


def _range(form: Form) -> str:
    bounds: dict[type, object] = {}
    todo = list(get_args(form)[1:]) if _origin(form) is Annotated else []
    for each in todo:
        todo.extend(getattr(each, "metadata", ()))
        for kind, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt")):
            if isinstance(each, kind):
                bounds[kind] = getattr(each, name)
    words = {Ge: " from {}", Gt: " above {}", Le: " to {}" if Ge in bounds else ", at most {}", Lt: ", below {}"}
    return "".join(words[kind].format(bounds[kind]) for kind in (Ge, Gt, Le, Lt) if kind in bounds)
