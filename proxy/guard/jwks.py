"""The keys of the customer's identity provider, from its `jwks_url` (RFC 7517 section 5).

What it stops: a provider that is slow, large, redirecting or away (what was read stays good for MAX_STALE seconds), and
clients that make us ask it again and again by naming keys that don't exist. What it doesn't: a key that was stolen is
good here until the provider drops it and the set is read again, twice REFRESH seconds later at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import aiohttp
import orjson

from proxy.errors import AuthFailed, KeysUnavailable
from proxy.guard.jwk import Key, UnusableKey, from_jwk

log = logging.getLogger(__name__)

REFRESH = 300.0  # seconds after which the set is read again, beside the requests that use it
MAX_STALE = 86_400.0  # seconds that a set which can't be read again stays good
PAUSE = 30.0  # seconds between two readings for the sake of unknown keys, and while the provider is away
RETRY = 5.0  # seconds between two attempts while there is no set at all
TIMEOUT = 3.0  # seconds for all of one reading
MAX_BYTES = 65_536
MAX_KEYS = 100


class KeySource(Protocol):
    async def find(self, kid: str | None, algorithm: str) -> Key:
        """The one key that a token names. Raises AuthFailed without one, KeysUnavailable while none at all is known."""
        ...


class StaticKey:
    """One key that is configured. Where it has no name of its own, any `kid` means it."""

    def __init__(self, key: Key) -> None:
        self._key = key

    async def find(self, kid: str | None, algorithm: str) -> Key:
        if kid is not None and self._key.id is not None:
            return _choose([self._key], kid, algorithm)
        return self._key


class RemoteKeys:
    """Keys read from a URL, beginning at once; nobody waits for the provider before there is a token to check.

    A set is replaced as a whole: what the provider has dropped is no longer good. `fetched` is told how each reading
    ended, `clock` gives seconds that never go back.
    """

    def __init__(
        self,
        url: str,
        algorithms: Collection[str],
        fetched: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._algorithms = algorithms
        self._fetched = fetched
        self._clock = clock
        self._keys: Sequence[Key] = ()
        self._read_at: float | None = None  # when the set was read
        # No cookies: nobody's state may travel with a key set.
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        self._reading = self._begun()

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])  # at once, since nothing in it holds a cancellation up
        await self._http.close()

    async def find(self, kid: str | None, algorithm: str) -> Key:
        """See KeySource. Waits for the provider where the set is old or has no such key: TIMEOUT at most."""
        now = self._clock()
        if self._read_at is None or now - self._read_at > MAX_STALE:
            if now - self._tried_at >= RETRY:
                self._begin()
            await asyncio.wait([self._reading])  # whoever waits may leave; its timeout ends it
            if self._read_at is None or self._clock() - self._read_at > MAX_STALE:
                raise KeysUnavailable("the key set can't be read", retry_after=RETRY)
        elif now - self._read_at >= REFRESH and now - self._tried_at >= PAUSE:
            self._begin()
            if now - self._read_at >= 2 * REFRESH:  # nobody asked for long: what was dropped is not good once more
                await asyncio.wait([self._reading])
        if kid is not None and all(key.id != kid for key in self._keys):
            if now - self._tried_at >= PAUSE:
                self._begin()
            await asyncio.wait([self._reading])
        return _choose(self._keys, kid, algorithm)

    def _begin(self) -> None:
        """Read the set, unless that is being done."""
        if self._reading.done():
            self._reading = self._begun()

    def _begun(self) -> asyncio.Task[None]:
        self._tried_at = self._clock()
        # The one owner of this task is this object: it ends by its timeout, or in close().
        return asyncio.create_task(self._read(), name="key set")  # noqa: TID251

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                keys = parse(await self._body(), self._algorithms)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # OSError includes TimeoutError
            log.warning("the key set can't be read: %s", error if type(error) is _Unusable else type(error).__name__)
            self._fetched("error")
            return
        self._keys, self._read_at = keys, self._clock()
        self._fetched("ok")

    async def _body(self) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._http.get(self._url, headers=headers, allow_redirects=False) as response:
            if response.status != 200:  # a redirect could lead anywhere, over anything
                raise _Unusable(f"status {response.status}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise _Unusable("compressed, though identity was asked for")
            body = bytearray()
            async for data in response.content.iter_any():
                body += data
                if len(body) > MAX_BYTES:
                    raise _Unusable(f"over {MAX_BYTES} bytes")
            return bytes(body)


class _Unusable(ValueError):
    """Says why, in our own words."""


def parse(body: bytes, algorithms: Collection[str]) -> list[Key]:
    """The keys of a set that are of use here; the others are passed over (RFC 7517 section 5). Raises ValueError."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _Unusable("not JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise _Unusable(f"no list of at most {MAX_KEYS} keys")
    keys = []
    for jwk in listed:
        try:
            key = from_jwk(jwk, algorithms) if isinstance(jwk, dict) and jwk.get("kty") != "oct" else None
        except UnusableKey:
            continue
        if key is not None:  # a shared secret in a public set is known to everybody
            keys.append(key)
    if not keys:
        raise _Unusable("no key in it is of use here")
    return keys


def _choose(keys: Sequence[Key], kid: str | None, algorithm: str) -> Key:
    """The key of that name; without a name the only one that fits. Keys are never tried one after the other."""
    fitting = [key for key in keys if algorithm in key.algorithms and kid in (None, key.id)]
    if len(fitting) != 1:
        raise AuthFailed("the token names no key" if kid is None else "the token's key is not known")
    return fitting[0]
