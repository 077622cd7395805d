"""How a session writes: the same again and again, faster than people do, into a field that people don't see.

What it stops: simple programs. What it doesn't: one that takes its time and varies its words. Kept in this process, for
the sessions that wrote last; another replica or a restart begins anew, since this is a hint and no limit.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from proxy.content import Span
from proxy.content.bots import agent_score
from proxy.content.detect import Hit, Judgement
from proxy.model import Request

MAX_SESSIONS = 10_000
REMEMBERED = 6  # messages of a session
MAX_WORDS = 64  # of a message, that are compared
ALIKE = 0.7  # of the words of two messages together, that both have
WITHIN = 600.0  # seconds: after that, saying it again is no repetition
HASTE = 1.0  # seconds between two messages that nobody types
HONEYPOT = "hp"  # a field of the context that a page hides: whoever fills it in saw no page

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class _Said:
    words: frozenset[str]
    at: float


class Habits:
    """What sessions wrote last. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[tuple[str, str], deque[_Said]] = OrderedDict()

    def judge(self, request: Request) -> Judgement:
        """Remember the message, and say what speaks for a program."""
        said = _Said(frozenset(_WORD.findall(request.message.text.lower())[:MAX_WORDS]), self._clock())
        before = self._remember((request.site.name, request.session.id), said)
        parts = [
            ("bot-agent", "bot", agent_score(request.client.user_agent)),
            ("bot-honeypot", "bot", 1.0 if request.message.context.get(HONEYPOT) else 0.0),
            ("bot-haste", "bot", 0.5 * (sum(_gaps(before, said)) >= 2)),
            ("spam-repeated", "spam", 0.4 * sum(_alike(one, said) for one in before)),
        ]
        hits = tuple(Hit(rule, category, score, Span(0, 0, category)) for rule, category, score in parts if score)
        scores: dict[str, float] = {}
        for hit in hits:
            scores[hit.category] = scores.get(hit.category, 0.0) + hit.weight
        return Judgement(scores, hits)

    def _remember(self, session: tuple[str, str], said: _Said) -> list[_Said]:
        """What the session had said."""
        history = self._sessions.pop(session, None) or deque(maxlen=REMEMBERED)
        self._sessions[session] = history
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        before = list(history)
        history.append(said)
        return before


def _alike(one: _Said, other: _Said) -> bool:
    if other.at - one.at > WITHIN or len(other.words) < 3:  # "yes" and "thank you" may be said again
        return False
    return len(one.words & other.words) >= ALIKE * len(one.words | other.words)


def _gaps(before: list[_Said], said: _Said) -> list[bool]:
    """Which of the last messages came too soon after the one before."""
    times = [one.at for one in before[-2:]] + [said.at]
    return [later - earlier < HASTE for earlier, later in pairwise(times)]
