"""How configuration is read: YAML, overridden by the environment, with secrets kept elsewhere; every problem at once.

Which settings exist is settings.py's business, and each section's own. The one module that touches os.environ.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import yaml
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

PREFIX = "SIDEGATE__"
MAX_FILE_BYTES = 1_048_576
MAX_SECRET_BYTES = 65_536
MAX_DEPTH = 24
A_SECRET = "{file: PATH} or {env: NAME}"  # noqa: S105 - how one is written, not one

Place = tuple[str | int, ...]
Report = Callable[[Place, str], None]


class Section(BaseModel):
    """A part of the settings tree: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Secret:
    """A value that never shows in a log, a repr, a traceback or a JSON dump."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def matches(self, candidate: str) -> bool:
        """Is it the same? Takes a time that doesn't tell how much of it is."""
        return hmac.compare_digest(self._value.encode("utf-8", "replace"), candidate.encode("utf-8", "replace"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(***)"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written down")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        hidden = core_schema.plain_serializer_function_ser_schema(lambda _: "***", when_used="json")
        return core_schema.is_instance_schema(cls, serialization=hidden)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        def form(key: str) -> dict[str, object]:
            properties = {key: {"type": "string"}}
            return {"type": "object", "properties": properties, "required": [key], "additionalProperties": False}

        return {"description": f"A secret: {A_SECRET}", "oneOf": [form("file"), form("env")]}


@dataclass(frozen=True, slots=True)
class Problem:
    """`path`: a setting (and the variable that set it), a variable or a file. `text`: what is wrong; what to write."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


class ConfigError(Exception):
    """The configuration can't be used. All that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


def environment() -> Mapping[str, str]:
    return os.environ


def read_text(path: Path, most: int) -> str:
    """The file's text. Raises ValueError, with what to do about it, never with what is in the file."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except PermissionError:
        raise ValueError(
            f"{path} can't be read: permission denied for uid {os.getuid()}, which this process runs as;"
            " give the file to that user (chown), or make it readable to a group it is in (chgrp, chmod 0440)"
        ) from None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}; check the path and the mount") from None
    except ValueError:
        raise ValueError("the file's name has a NUL in it; write a path") from None
    if len(data) > most:
        raise ValueError(f"{path} is larger than {most} bytes; is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_secret(path: Path) -> Secret:
    """One trailing line end is not part of it: editors and `kubectl create secret` leave one."""
    text = read_text(path, MAX_SECRET_BYTES).removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"{path} is empty; write the secret into it")
    return Secret(text)


def is_text(value: str) -> bool:
    """Can it be written as UTF-8? Python stands for other bytes, in variables say, by half characters."""
    return not re.search("[\ud800-\udfff]", value)


def scalar(text: str) -> bool | int | float | str | None:
    """What plain text means, by YAML 1.2's core schema: `on` and `no` are words, 010 is not octal."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if re.fullmatch(r"[-+]?(0|[1-9][0-9]{0,17})", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"[-+]?[0-9]{1,18}(\.[0-9]{0,18}([eE][-+]?[0-9]{1,2})?|[eE][-+]?[0-9]{1,2})", text, re.ASCII):
        return float(text)
    return text


class _Loader(yaml.BaseLoader):
    """Makes nodes only. No anchors and aliases (a few lines of them can stand for gigabytes), no tags, nothing deep."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it out
        fault = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            fault = "anchors and aliases are not allowed; write the value out, or put it in quotes if it is text"
        elif getattr(event, "tag", None) not in (None, "!"):
            fault = "tags are not allowed; write the plain value, or put it in quotes if it is text"
        elif self.depth >= MAX_DEPTH:
            fault = "nested too deeply"
        if fault:
            raise yaml.MarkedYAMLError(problem=fault, problem_mark=cast("yaml.error.Mark", event.start_mark))
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def parse_yaml(text: str, report: Report) -> object:
    """Mappings, lists and scalars. Keys written twice are reported. Raises ValueError with line and column."""
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "its beginning"
        fault = re.sub(r"tag handle .*", "tag handle", error.problem or "unreadable", flags=re.DOTALL)
        raise ValueError(f"not valid YAML at {where}: {fault}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"not valid YAML: character number {error.position + 1} is not allowed in a text") from None
    except (OverflowError, ValueError):
        raise ValueError(r"not valid YAML: an escape such as \U00110000 in it stands for no character") from None
    return _build(node, (), report)


def _build(node: yaml.Node | None, place: Place, report: Report) -> object:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, place, report)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*place, index), report) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        value = _whole(node.value)
        if value is None:
            report(place, r"has half a character (\ud800 to \udfff); write the whole one")
            return None
        return scalar(value) if node.style is None else value
    return None  # an empty document


def _mapping(node: yaml.MappingNode, place: Place, report: Report) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = _whole(key.value) if isinstance(key, yaml.ScalarNode) else None
        if name is None:
            report(place, f"the key in line {line} is not a word; write NAME: VALUE")
        elif name in values:
            report((*place, name), f"written twice, the second time in line {line}; keep one of them")
        else:
            values[name] = _build(value, (*place, name), report)
    return values


def _whole(text: str) -> str | None:
    """The text with halves of characters joined, as JSON writes those beyond 16 bits; None where one is left over."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        return None


@dataclass
class Tree:
    """The configuration as written: nested mappings and lists, which variable set what, and what is wrong so far."""

    values: dict[str, object] = field(default_factory=dict, repr=False)
    base: Path = Path()  # what relative paths in it start from
    is_readable: bool = True
    sources: dict[Place, str] = field(default_factory=dict)
    weak: dict[Place, str] = field(default_factory=dict)  # what is wrong with a secret of which only a hash is there
    problems: list[Problem] = field(default_factory=list)
    reported: set[Place] = field(default_factory=set, repr=False)

    def report(self, place: Place, text: str) -> None:
        self.reported.add(place)
        self.problems.append(Problem(self.show(place), text))

    def show(self, place: Place) -> str:
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in place).lstrip(".")
        source = next((self.sources[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.sources), None)
        return f"{name} ({source})" if source else name

    def get(self, place: Place) -> object:
        """What is written there, or None."""
        value: object = self.values
        for part in place:
            value = _child(value, part)
        return value

    def put(self, place: Place, value: object, source: str = "") -> None:
        """Write it there. Where text or a number is in the way, validation will say so."""
        node: object = self.values
        for part in place[:-1]:
            if _child(node, part) is None:
                _set(node, part, {})
            node = _child(node, part)
        _set(node, place[-1], value)
        if source:
            self.sources[place] = source

    def drop(self, place: Place) -> bool:
        """Leave it out. False where nothing is."""
        parent = self.get(place[:-1])
        if isinstance(parent, dict) and place[-1] in parent:
            del parent[place[-1]]
            return True
        if isinstance(parent, list) and isinstance(place[-1], int) and place[-1] < len(parent):
            del parent[place[-1]]
            return True
        return False


def _shown(key: str) -> str:
    """A key as far as it looks like one: `{key:hunter2}` without its blank is a key that ends in a secret."""
    name = re.match(r"[\w.-]{0,64}", key, re.ASCII)
    return key if name and name[0] == key else f"{name[0] if name else ''}…"


def _child(value: object, part: str | int) -> object:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _set(node: object, part: str | int, value: object) -> None:
    if isinstance(node, dict):
        node[part] = value
    elif isinstance(node, list) and isinstance(part, int):
        node[part : part + 1] = [value]


def read_tree(path: Path | None) -> Tree:
    """The file's tree, or an empty one. What is wrong with the file is in its `problems`."""
    tree = Tree()
    if path is None:
        return tree
    tree.base = path.parent
    try:
        values = parse_yaml(read_text(path, MAX_FILE_BYTES), tree.report)
        if values is not None and not isinstance(values, dict):
            raise ValueError("the file is not a mapping; write settings as NAME: VALUE")
        tree.values = values or {}
    except ValueError as error:
        tree.is_readable = False
        tree.problems.append(Problem(str(path), str(error)))
    return tree


def unknown(name: str, known: Iterable[str], before: str = "") -> str:
    """What to say of a name that isn't one, and what was probably meant. `before` makes variables of the names."""
    written = {each: f"{before}{each}".upper() if before else each for each in sorted(known)}
    close = get_close_matches(name, written, n=1, cutoff=0.6)
    meant = f"did you mean {written[close[0]]}?" if close else f"possible are {', '.join(written.values())}"
    return f"no such name; {meant}"
