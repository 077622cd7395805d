"""Is a User-Agent a program's? By a maintained list of crawlers and HTTP libraries (the package crawler-user-agents).

What it stops: programs that say who they are. What it doesn't: one that sends a browser's name; that costs it a line.
"""

from __future__ import annotations

from functools import lru_cache

import re2
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

MAX_CHARS = 512
NAMELESS = 0.5  # browsers always say something


@lru_cache(1)
def _crawlers() -> re2.Set:
    patterns = re2.Set.SearchSet()
    for crawler in CRAWLER_USER_AGENTS_DATA:
        patterns.Add(crawler["pattern"])
    patterns.Compile()
    return patterns


@lru_cache(4096)
def agent_score(user_agent: str) -> float:
    """1.0: a program on the list. 0.5: no name at all. 0.0: nothing is known against it."""
    if not user_agent.strip():
        return NAMELESS
    return 1.0 if _crawlers().Match(user_agent[:MAX_CHARS].encode("utf-8", "replace")) else 0.0
