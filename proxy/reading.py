"""From the file and the environment to settings that can be used: read, completed, and judged as a whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from proxy.coherence import Judge
from proxy.config import ConfigError, Place, Problem, Secret, Tree, environment, read_tree
from proxy.guard.hooks import HookSettings
from proxy.guard.keys import KeySettings
from proxy.loading import Rules, apply_environment, validate
from proxy.settings import Settings, random_secret
from proxy.sites import SiteSettings
from proxy.telemetry import TelemetrySettings
from proxy.variables import apply_variables, near_misses

RULES = Rules(
    plain=("store.url",),
    planned=(
        "telemetry.traces",
    )
)  # fmt: skip
W = TypeVar("W", SiteSettings, HookSettings)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that can be used, and what their owner should know about them."""

    settings: Settings
    warnings: tuple[Problem, ...]


def load(path: Path | None, env: Mapping[str, str] | None = None, spare: dict[Place, Secret] | None = None) -> Loaded:
    """Read the file, if any, and the environment. Raises ConfigError with all that is wrong in both.

    `spare` keeps the keys that had to be made up: whoever loads again with it gets the same ones.
    """
    env = environment() if env is None else env
    tree = read_tree(path)
    apply_variables(tree, Settings, env)
    apply_environment(tree, Settings, env, RULES)
    if not tree.is_readable:
        raise ConfigError(tree.problems)
    made_up = _make_up_keys(tree, {} if spare is None else spare)
    written = {whole: _named(tree, whole) for whole in ("sites", "upstreams")}
    settings = validate(tree, Settings, env, RULES)
    settings = settings.model_copy(
        update={
            "sites": _with_upstreams(settings.sites, written["upstreams"]),
            "keys": _with_sites(settings.keys, written["sites"]),
            "hooks": _with_upstreams(settings.hooks, written["upstreams"]),
        }
    )
    if settings.debug and tree.get(("telemetry", "log_level")) is None:
        settings = settings.model_copy(update={"telemetry": TelemetrySettings(log_level="DEBUG")})
    warnings: list[Problem] = near_misses(env)
    Judge(settings, tree, made_up, written, warnings).all()
    if tree.problems:
        raise ConfigError(tree.problems)
    return Loaded(settings, tuple(warnings))


def _named(tree: Tree, whole: str) -> dict[str, object]:
    """The sites or upstreams that were written, those with mistakes too."""
    value = tree.get((whole,))
    return dict(value) if isinstance(value, dict) else {}


def _make_up_keys(tree: Tree, spare: dict[Place, Secret]) -> set[Place]:
    """Put random keys where none is written; which of them may stay is judged below."""
    places: list[Place] = [("session", "key")]
    if tree.get(("signing", "algorithm")) in (None, "HS256"):  # a made-up private key would be of use to nobody
        places.append(("signing", "key"))
    made_up = {place for place in places if tree.get(place) is None}
    for place in made_up:
        tree.put(place, spare.setdefault(place, random_secret()))
    return made_up


def _with_upstreams(sections: Mapping[str, W], upstreams: Collection[str]) -> dict[str, W]:
    if len(upstreams) != 1:
        return dict(sections)
    (only,) = upstreams
    return {name: each.model_copy(update={"upstream": each.upstream or only}) for name, each in sections.items()}


def _with_sites(keys: KeySettings, sites: Collection[str]) -> KeySettings:
    if len(sites) != 1:
        return keys
    (only,) = sites
    return keys.model_copy(update={"api": tuple(key.model_copy(update={"site": key.site or only}) for key in keys.api)})
