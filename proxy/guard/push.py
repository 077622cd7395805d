"""Who may send to a session later: whoever holds the key that signs for the upstream, or the ops token.

What it stops: forged, expired, long-lived and replayed tokens, and a token for one session used for another. What it
doesn't: the key is the same for all upstreams, so each of them can send to any session whose name it knows; and a token
says nothing of the text, so who reads one on the way, and is faster, sends their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from proxy.config import Secret
from proxy.errors import AuthRequired, Replayed, SignatureInvalid
from proxy.store import Store

AUDIENCE = "sidegate/push"
MAX_SECONDS = 300  # that a token may have left
MAX_CLAIM_CHARS = 256


@dataclass(frozen=True, slots=True)
class Pusher:
    """Somebody who may send: to one session, once; or, without these three, to any."""

    site: str | None = None
    owned: str | None = None
    jti: str | None = None
    ends: float = 0.0  # Unix time


class Pushers:
    """`claims` judges a token's signature, and raises SignatureInvalid. `clock` gives Unix time."""

    def __init__(
        self,
        claims: Callable[[str], Mapping[str, object]],
        ops_token: Secret | None,
        sites: Collection[str],
        store: Store,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._claims = claims
        self._ops_token = ops_token
        self._sites = sites
        self._store = store
        self._clock = clock

    def identify(self, authorization: str | None) -> Pusher:
        """Raises AuthRequired without a Bearer token, SignatureInvalid for one that may not send."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise AuthRequired("no bearer token", public="Send a signed token as Authorization: Bearer.")
        if self._ops_token is not None and self._ops_token.matches(token):
            return Pusher()
        claims = self._claims(token)
        audience = claims.get("aud")
        if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
            raise _refused(f"aud is not {AUDIENCE}")
        site, owned, jti = (_text(claims, name) for name in ("site", "sub", "jti"))
        if site not in self._sites:
            raise _refused("site names none")
        return Pusher(site, owned, jti, self._ends(claims))

    async def spend(self, pusher: Pusher) -> None:
        """Use the token up. Raises Replayed the second time."""
        if pusher.jti is None:
            return
        name = sha256(pusher.jti.encode()).hexdigest()  # any text, while keys are plain ASCII
        if not await self._store.add(f"push:{name}", max(1.0, pusher.ends - self._clock() + 1)):
            raise Replayed("this jti was used before")

    def _ends(self, claims: Mapping[str, object]) -> float:
        now, ends, begins = self._clock(), _number(claims, "exp"), _number(claims, "nbf")
        if ends is None:
            raise _refused("exp is missing or no number")
        if ends <= now:
            raise _refused("it has expired")
        if ends > now + MAX_SECONDS:
            raise _refused(f"exp is more than {MAX_SECONDS} s ahead")
        if begins is not None and begins > now:
            raise _refused("nbf is ahead")
        return ends


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CLAIM_CHARS:
        raise _refused(f"{name} is missing or no short text")
    return value


def _number(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _refused(why: str) -> SignatureInvalid:
    """Said aloud: whoever gets here holds the key, and has a workflow to put right."""
    return SignatureInvalid(why, public=f"The token is signed, but {why}.")
