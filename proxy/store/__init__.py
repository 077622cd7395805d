"""State shared by replicas. Operations are whole decisions, so that a backend can take each atomically.

Every backend passes tests/store/test_contract.py. Times are seconds; keys are plain ASCII without spaces. Keys that are
judged together are the same up to the first slash, so that a cluster keeps them on one server.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tier:
    """One sliding-window limit to be counted against: at most `limit` hits in any `window` seconds.

    `burst` > 0 adds a token bucket of that size, refilled at `limit / window`.
    """

    key: str
    limit: int
    window: float
    burst: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """Where one tier stands after the decision.

    `retry_after` is 0 when this tier let the hit pass; otherwise that many seconds from now, a hit passes this tier
    (if nobody else hits it first). `reset` is the time until the oldest hit that still counts leaves the window.
    """

    remaining: int
    reset: float
    retry_after: float


@dataclass(frozen=True, slots=True)
class Hits:
    """What one replica counted in one tier: how many seconds ago each was, and in how many its bucket is full again."""

    key: str
    window: float
    ages: Sequence[float]
    full_in: float = 0.0


class StoreDown(Exception):
    """A backend could not decide in time. Says why, without addresses or passwords."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """An upstream's circuit as the replicas know it. `generation` tells one opening from the next.

    `rest`: seconds until it may be tried, 0 for now; None where it is closed.
    """

    generation: int
    rest: float | None


class Circuits(Protocol):
    """What replicas tell each other of their upstreams' circuits. Every operation raises StoreDown within 300 ms."""

    async def trip(self, name: str, cooldown: float, after: int = 0) -> Circuit:
        """It opened here, and everybody is told; where it is open already, other than in generation `after`, it
        stays as it is."""
        ...

    async def probe(self, name: str, generation: int, probes: int, seconds: float, lease: str) -> bool:
        """May this one try the upstream? Of all replicas' so many may at a time; one that says nothing of it for
        `seconds` is given up."""
        ...

    async def release(self, name: str, lease: str) -> None:
        """The probe ended and says nothing."""
        ...

    async def good(self, name: str, generation: int, probes: int, lease: str) -> None:
        """The probe was a success. When all of them were, everybody is told that it closed."""
        ...

    async def state(self, name: str) -> Circuit: ...

    def changes(self) -> AsyncGenerator[tuple[str, Circuit] | None, None]:
        """What is told from now on; None once, when listening has begun."""
        ...


class Store(Protocol):
    async def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        """Count one hit against all tiers, or, if any refuses, against none. One round trip. Order as given."""
        ...

    async def add(self, key: str, ttl: float) -> bool:
        """Remember the key for `ttl` seconds. True only for the one caller who was first."""
        ...

    async def has(self, key: str) -> bool: ...

    async def claim(self, key: str, value: bytes, ttl: float, instead: bytes = b"") -> bytes:
        """What the key stands for: `value`, for `ttl` seconds from now, unless it stands for something else already
        that isn't `instead`. Values are not empty."""
        ...

    async def release(self, key: str, value: bytes) -> None:
        """Forget what the key stands for, if it is this."""
        ...

    def degraded(self) -> str | None:
        """Why decisions are local only at the moment, or None when all is well."""
        ...

    async def close(self) -> None: ...


ALIVE = 3.0  # seconds that a sign of life, or of listening, is good for


@dataclass(frozen=True, slots=True)
class Batch:
    """One replica's word on an answer that it runs: batch `number` (from 0), or with empty data only a sign of life."""

    name: str
    number: int
    data: bytes
    ttl: float  # seconds to keep the whole answer from now on


@dataclass(frozen=True, slots=True)
class Kept:
    """How an answer stands in the journal. `length` counts its batches; fewer than were written: they were lost."""

    length: int
    is_stopped: bool = False  # its owner asked another replica to end it
    is_heard: bool = False  # somebody listens through another replica
    is_buried: bool = False  # another replica saw no sign of life and declared it broken off


@dataclass(frozen=True, slots=True)
class Look:
    """What another replica finds. `length` counts all batches, of which `batches` are the next ones."""

    is_alive: bool
    length: int
    batches: Sequence[bytes]


class Journals(Protocol):
    """Answers that replicas read of one another, as batches of bytes that mean nothing here. All raise StoreDown."""

    async def keep(self, batches: Sequence[Batch]) -> list[Kept]:
        """Write all in one round trip. A batch that is there already, or whose turn it isn't, changes nothing."""
        ...

    async def look(self, name: str, number: int, *, listens: bool) -> Look | None:
        """The batches from `number` on, as many as one answer should hold. None when there is no such answer."""
        ...

    async def bury(self, name: str, number: int, data: bytes) -> bool:
        """End it with this batch, if it has no sign of life and `number` batches. False when it hasn't come to that."""
        ...

    async def stop(self, name: str) -> None:
        """Tell the replica that runs it, if there is one."""
        ...


@dataclass(frozen=True, slots=True)
class Post:
    """Something sealed, as it is kept in a box. Numbers grow over all boxes."""

    number: int
    kind: str
    data: bytes


class Posts(Protocol):
    """Boxes of posts that replicas share. What is in a post means nothing here. All raise StoreDown.

    `kinds` are told apart only in how many a box, and all boxes, keep.
    """

    async def post(self, box: str, kind: str, data: bytes, ttl: float) -> int:
        """Put it in the box; its number. The oldest of its kind go where there are too many."""
        ...

    async def posts(self, box: str, after: int, ttl: float) -> list[Post]:
        """What is in the box behind number `after`, in order, and not older than `ttl` seconds."""
        ...

    async def boxes(self, after: int | None) -> tuple[int, set[str]]:
        """Which boxes got something behind that number, and the number to ask with next; None: begin with now."""
        ...

    async def take(self, number: int) -> None:
        """Say that somebody got this post."""
        ...

    async def is_taken(self, number: int) -> bool: ...


MOST_JOBS = 1000  # that wait, and as many that were given up


@dataclass(frozen=True, slots=True)
class Job:
    """Something sealed that is to be done. `tries`: with this one. `at`: Unix time at which it was given up."""

    name: str
    data: bytes
    tries: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """What waits (or is being done), what was given up, and how many bytes of data each of the two has."""

    waiting: int
    waiting_bytes: int
    dead: int
    dead_bytes: int


class Jobs(Protocol):
    """What is to be done, by whichever replica takes it. All raise StoreDown.

    Of what waits, and of what was given up, MOST_JOBS are kept each, and `most_bytes` of data.
    """

    async def put(self, name: str, data: bytes, most_bytes: int) -> bool:
        """In place of a job of that name. False where there is no room."""
        ...

    async def take(self, lease: float) -> Job | None:
        """One that is due. Nobody else gets it for `lease` seconds; it is due again then, unless it is ended before."""
        ...

    async def done(self, name: str) -> None: ...

    async def later(self, name: str, seconds: float, *, is_try: bool = True) -> None:
        """Due again in so many seconds. Unless it `is_try`, this one isn't counted."""
        ...

    async def bury(self, name: str, most_bytes: int) -> None:
        """Give it up. The oldest of those given up go where there is no room."""
        ...

    async def again(self, name: str) -> bool:
        """One that was given up is due, as if it were new, whether there is room or not. False where there is none."""
        ...

    async def dead(self, number: int) -> list[Job]:
        """Those that were given up, the latest first."""
        ...

    async def held(self) -> Held: ...


@dataclass(frozen=True, slots=True)
class Mark:
    """One revocation: of what, of those that began at `at` or before, and until when it matters. Unix time."""

    subject: str
    at: int
    until: int


@dataclass(frozen=True, slots=True)
class Marks:
    """The next entries of the log of revocations. `place` is the last one's number, `newest` the log's.

    `name` tells one log from the next that replaced it: None where Redis has none, because it is new or lost it.
    What began before `since` (Unix time) is older than the log: whether it was revoked can't be known.
    """

    name: str | None
    since: int
    newest: int
    place: int
    marks: Sequence[Mark]


class RevocationLog(Protocol):
    """Revocations that replicas tell one another. All raise StoreDown."""

    async def begin(self, name: str, since: int) -> None:
        """Begin a log where there is none."""
        ...

    async def revoke(self, marks: Sequence[Mark], keep: float) -> None:
        """Add all or none; none where too many are kept. Each is kept for `keep` seconds at least."""
        ...

    async def revoked(self, after: int) -> Marks:
        """What was added behind number `after`, as much as one answer should hold."""
        ...


@dataclass(frozen=True, slots=True)
class Versioned:
    """What is kept under a name, and how often it was changed."""

    version: int
    data: bytes


class Vaults(Protocol):
    """Something sealed for each session, which means nothing here. All raise StoreDown."""

    async def read(self, name: str, ttl: float) -> Versioned | None:
        """What is kept, from now on for `ttl` seconds more at least."""
        ...

    async def write(self, name: str, version: int, data: bytes, ttl: float) -> bool:
        """Keep it in place of that version (0: of nothing). False when that isn't what is kept any more."""
        ...

    async def delete(self, name: str) -> None:
        """Keep it no longer."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """One session in the list. `facts` mean nothing here. `seen`: Unix time, filled in by the list."""

    name: str
    owner: str  # "" where it has none
    facts: bytes
    seen: float = 0.0


class SessionList(Protocol):
    """Sessions that were seen of late, by site; gone `keep` seconds after they were last seen. All raise StoreDown."""

    async def enter(self, site: str, session: Listed, most: int, most_of_owner: int, keep: int) -> list[str] | None:
        """Add a new one. None where the site has `most` already; otherwise the names of its owner's that were seen
        longest ago and had to go, since an owner has at most so many."""
        ...

    async def seen(self, site: str, sessions: Sequence[Listed], keep: int) -> None:
        """They were seen just now. Those that had gone are back."""
        ...

    async def leave(self, site: str, session: Listed) -> None: ...

    async def listed(self, site: str, owner: str, first: int, number: int, keep: int) -> list[Listed]:
        """Of the site, or of an owner there: `number` of them behind the `first`, the last seen in front."""
        ...
