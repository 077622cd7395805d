"""The flat variables, such as N8N_WEBHOOK_URL: with no file at all they configure one site and one upstream, `default`.

With a file they change what it says, as long as it is clear which site and upstream are meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel

from proxy.config import PREFIX, Place, Problem, Secret, Tree, is_text, read_secret
from proxy.guard.keys import hash_of
from proxy.guard.limits import DEFAULT_LIMITS
from proxy.guard.origin import normal_origin
from proxy.loading import form_at, named, parse
from proxy.weak import weakness

SITE, UPSTREAM = "(site)", "(upstream)"  # stand for the names of the ones that are meant

SIMPLE: dict[str, Place] = {
    "N8N_WEBHOOK_URL": ("upstreams", UPSTREAM, "url"),
    "JWT_SECRET_KEY": ("signing", "key"),
    "JWT_ALGORITHM": ("signing", "algorithm"),
    "SESSION_SECRET_KEY": ("session", "key"),
    "SESSION_COOKIE_MAX_AGE": ("session", "lifetime"),
    "SESSION_COOKIE_NAME": ("session", "cookie_name"),
    "ALLOWED_ORIGINS": ("sites", SITE, "origins"),
    "CORS_ALLOW_CREDENTIALS": ("sites", SITE, "allow_credentials"),
    "ALLOWED_HOSTS": ("listen", "allowed_hosts"),
    "REDIS_URL": ("store", "url"),
    "ENCRYPTION_KEY": ("store", "encryption_key"),
    "MAX_MESSAGE_LENGTH": ("content", "max_chars"),
    "MASKING_LOG_ENABLED": ("content", "pii", "log"),
    "ENVIRONMENT": ("environment",),
    "DEBUG": ("debug",),
    "LOG_LEVEL": ("telemetry", "log_level"),
    "SECURITY_LOG_LEVEL": ("audit", "level"),
}
LIFETIMES = {"JWT_EXPIRATION_HOURS": 3600, "ACCESS_TOKEN_EXPIRE_MINUTES": 60}  # seconds in one; the later one wins
WINDOWS = {"RATE_LIMIT_PER_MINUTE": 60, "RATE_LIMIT_PER_HOUR": 3600}
OTHERS = (
    "ENABLE_MASKING",
    "N8N_API_KEY",
    "CORS_ALLOWED_ORIGINS",
    "RATE_LIMIT_BURST",
    "API_KEYS",
    "WHATSAPP_WEBHOOK_SECRET",
)
VARIABLES = frozenset({*SIMPLE, *LIFETIMES, *WINDOWS, *OTHERS})

ON = frozenset({"true", "1", "yes", "on"})
OFF = frozenset({"false", "0", "no", "off", "[]", "{}"})


def apply_variables(tree: Tree, into: type[BaseModel], env: Mapping[str, str]) -> None:
    """Lay the flat variables on the tree. One that is set to nothing counts as not set."""
    _Variables(tree, into, env, _values(tree, env)).apply()


def near_misses(env: Mapping[str, str]) -> list[Problem]:
    """Names that look like one of ours written wrongly. They may be another program's, so this is a warning."""
    found = []
    for name in sorted(env):
        bare = name.removesuffix("_FILE")
        if bare in VARIABLES or name.startswith(PREFIX):
            continue
        if close := get_close_matches(bare, VARIABLES, n=1, cutoff=0.9):
            found.append(Problem(name, f"not a variable of Sidegate; if it was meant to be, write {close[0]}"))
    return found


def _values(tree: Tree, env: Mapping[str, str]) -> dict[str, str]:
    """What is set, each from X or from the file that X_FILE names."""
    values = {}
    for name in sorted(VARIABLES):
        text, file = env.get(name, ""), env.get(f"{name}_FILE", "")
        if text and file:
            tree.problems.append(Problem(name, f"set twice, also by {name}_FILE; keep one of them"))
            continue
        try:
            text = read_secret(Path(file)).reveal() if file else text
        except ValueError as error:
            tree.problems.append(Problem(f"{name}_FILE", str(error)))
        if not is_text(text):
            tree.problems.append(Problem(name, "not UTF-8 text; write it as UTF-8"))
        elif text.strip():
            values[name] = text
    return values


@dataclass
class _Variables:
    tree: Tree
    into: type[BaseModel]
    env: Mapping[str, str] = field(repr=False)
    values: dict[str, str] = field(repr=False)

    def apply(self) -> None:
        self._origins()
        for name, place in SIMPLE.items():
            if name in self.values:
                self._put(name, place, self.values[name])
        if "N8N_API_KEY" in self.values:
            header = {"kind": "header", "name": "X-N8N-API-KEY", "value": Secret(self.values["N8N_API_KEY"])}
            self._put("N8N_API_KEY", ("upstreams", UPSTREAM, "auth"), header)
        if self.values.keys() & {"N8N_WEBHOOK_URL", "N8N_API_KEY"} and not self._names("sites"):
            self.tree.put(("sites", "default"), {})
        self._masking()
        self._lifetimes()
        self._limits()
        self._api_keys()
        self._whatsapp()

    def _put(self, name: str, place: Place, value: object) -> None:
        """Write the value, after finding out which site or upstream is meant."""
        whole = place[0]
        if len(place) > 1 and place[1] in (SITE, UPSTREAM):
            names = self._names(str(whole)) or ["default"]
            if len(names) > 1:
                which = f"it isn't clear which of {', '.join(names)} is meant"
                use = f"{PREFIX}{whole}__NAME__{place[2]}".upper()
                self.tree.problems.append(Problem(name, f"{which}; write {use} instead"))
                return
            place = (whole, names[0], *place[2:])
            if whole == "upstreams" and self.tree.get((*place[:2], "kind")) is None:
                self.tree.put((*place[:2], "kind"), "n8n", name)
        try:
            known = form_at(self.into, self.tree, place)
            self.tree.put(place, parse(known, value) if isinstance(value, str) else value, name)
        except ValueError as error:
            self.tree.put(place, None, name)
            self.tree.report(place, str(error))

    def _names(self, whole: str) -> list[str]:
        """The sites or upstreams that the file or a variable names."""
        written = self.tree.get((whole,))
        names = list(written) if isinstance(written, dict) else []
        start = f"{PREFIX}{whole}__".upper()
        for variable in sorted(self.env):
            if variable.startswith(start):
                name = named(names, variable.removeprefix(start).split("__")[0])
                names += [name] if name not in names else []
        return names

    def _origins(self) -> None:
        """CORS_ALLOWED_ORIGINS is another name for ALLOWED_ORIGINS: who may call and who may read are one list here."""
        cors = self.values.get("CORS_ALLOWED_ORIGINS")
        if cors is None:
            return
        if "ALLOWED_ORIGINS" not in self.values:
            self._put("CORS_ALLOWED_ORIGINS", SIMPLE["ALLOWED_ORIGINS"], cors)
            return
        allowed, wanted = _origins_in(self.values["ALLOWED_ORIGINS"]), _origins_in(cors)
        if wanted is None:
            text = "not a list; write it as JSON, or with commas between the origins"
            self.tree.problems.append(Problem("CORS_ALLOWED_ORIGINS", text))
        elif allowed is not None and (more := sorted(wanted - allowed)):
            text = f"{', '.join(more)} is not in ALLOWED_ORIGINS; add it there, or leave CORS_ALLOWED_ORIGINS out"
            self.tree.problems.append(Problem("CORS_ALLOWED_ORIGINS", text))

    def _masking(self) -> None:
        """ENABLE_MASKING turns it off, or on as far as the file hasn't said how."""
        if "ENABLE_MASKING" not in self.values:
            return
        written, place = self.values["ENABLE_MASKING"].strip().lower(), ("content", "pii", "mode")
        if written not in OFF | ON:
            self.tree.problems.append(Problem("ENABLE_MASKING", "neither true nor false; write one of them"))
        elif written in OFF:
            self.tree.put(place, "off", "ENABLE_MASKING")
        elif self.tree.get(place) not in ("mask", "restore"):
            self.tree.put(place, "restore", "ENABLE_MASKING")

    def _lifetimes(self) -> None:
        for name, unit in LIFETIMES.items():
            if name not in self.values:
                continue
            number = parse(int, self.values[name])
            if isinstance(number, int | float) and not isinstance(number, bool):
                self.tree.put(("session", "access_lifetime"), round(number * unit), name)
            else:
                self.tree.problems.append(Problem(name, "not a number; write one, such as 60"))

    def _limits(self) -> None:
        """Change the limits per IP within those that are there."""
        if not self.values.keys() & {*WINDOWS, "RATE_LIMIT_BURST"}:
            return
        if self.tree.get(("limits",)) is None:
            self.tree.put(("limits",), [limit.model_dump() for limit in DEFAULT_LIMITS])
        for name, window in WINDOWS.items():
            if name in self.values:
                index = self._limit(window)
                if self.tree.get(("limits", index)) is None:
                    self.tree.put(("limits", index), {"per": "ip", "window": window}, name)
                self.tree.put(("limits", index, "limit"), parse(int, self.values[name]), name)
        if "RATE_LIMIT_BURST" in self.values:
            index = self._limit(60)
            if self.tree.get(("limits", index)) is None:
                text = "there is no limit per IP and minute that it could belong to; set RATE_LIMIT_PER_MINUTE too"
                self.tree.problems.append(Problem("RATE_LIMIT_BURST", text))
            else:
                burst = parse(int, self.values["RATE_LIMIT_BURST"])
                self.tree.put(("limits", index, "burst"), burst, "RATE_LIMIT_BURST")

    def _limit(self, window: int) -> int:
        """Where the limit per IP of that window is in the list; its end, when it isn't there."""
        limits = self.tree.get(("limits",))
        entries = limits if isinstance(limits, list) else []
        found = (
            index
            for index, entry in enumerate(entries)
            if isinstance(entry, dict) and (entry.get("per"), entry.get("window")) == ("ip", window)
        )
        return next(found, len(entries))

    def _api_keys(self) -> None:
        """Keys as they are, or their hashes: added to those of the file, for the one site, which takes them then."""
        if self.values.get("API_KEYS", "").strip().lower() in {"", *OFF}:
            return
        try:
            listed = parse(tuple[str, ...], self.values["API_KEYS"])
        except ValueError:
            listed = None
        if not isinstance(listed, list) or not all(isinstance(key, str) and "." not in key for key in listed):
            text = "not a list of keys; write what `sidegate keys new` prints, with commas between (no key has a dot)"
            self.tree.problems.append(Problem("API_KEYS", text))
            return
        names = self._names("sites") or ["default"]
        if len(names) > 1:
            text = f"it isn't clear which of {', '.join(names)} is meant; write the keys into keys.api"
            self.tree.problems.append(Problem("API_KEYS", text))
            return
        written = self.tree.get(("keys", "api"))
        entries = written if isinstance(written, list) else []
        for number, key in enumerate(listed, 1):
            place: Place = ("keys", "api", len(entries))
            is_hash = key.startswith("sha256:")
            entries = [
                *entries,
                {"name": f"api-keys-{number}", "hash": key if is_hash else hash_of(key), "site": names[0]},
            ]
            self.tree.sources[place] = "API_KEYS"
            if not is_hash and (fault := weakness(key)):
                self.tree.weak[place] = fault
        self.tree.put(("keys", "api"), entries)
        if self.tree.get(("sites", names[0], "auth")) is None:
            self.tree.put(("sites", names[0], "auth"), ["anonymous", "api_key"], "API_KEYS")

    def _whatsapp(self) -> None:
        """The one hook that a variable can name."""
        name = "WHATSAPP_WEBHOOK_SECRET"
        if name in self.values and self.values[name].strip().lower() not in OFF:
            self.tree.put(("hooks", "whatsapp", "secret"), Secret(self.values[name]), name)
            if self.tree.get(("hooks", "whatsapp", "provider")) is None:
                self.tree.put(("hooks", "whatsapp", "provider"), "whatsapp", name)


def _origins_in(text: str) -> set[str] | None:
    """Normalised as far as they are origins; None where it isn't a list."""
    try:
        listed = parse(tuple[str, ...], text)
    except ValueError:
        return None
    return {_normal(str(origin)) for origin in listed} if isinstance(listed, list) else None


def _normal(origin: str) -> str:
    try:
        return normal_origin(origin)
    except ValueError:
        return origin
