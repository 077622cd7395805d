"""What leaves this process of an answer: events in sealed batches, under a name that says nothing.

AES-256-GCM with a key for each answer; a batch opens only as that batch of that answer of that session. What it stops:
reading, changing, swapping or moving batches, for whoever has Redis but not the key. What it doesn't: deleting them,
cutting the last ones off, forging marks (alive, stop), and seeing when and about how much is answered.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.streams.event import Event, long, short

NONCE_BYTES = (
    12  # NIST SP 800-38D section 8.2.2; random ones are good for 2**32 batches of one key, which is one answer
)


class Broken(Exception):
    """A batch that isn't what was sealed."""


class Sealer:
    """Replicas with the same secret read one another's answers."""

    def __init__(self, secret: bytes) -> None:
        self._names = hmac.digest(secret, b"sidegate journal names", "sha256")
        self._keys = hmac.digest(secret, b"sidegate journal keys", "sha256")

    def box(self, *whose: str) -> Box:
        """Of an answer: its site, session and id. Other things have names of their own, or another number of parts."""
        identity = b"".join(len(part).to_bytes(4) + part for part in map(str.encode, whose))
        name = hmac.digest(self._names, identity, "sha256")[:20].hex()
        return Box(name, identity, AESGCM(hmac.digest(self._keys, identity, "sha256")))


class Box:
    """One answer's. `name` is where it is kept."""

    def __init__(self, name: str, identity: bytes, cipher: AESGCM) -> None:
        self.name = name
        self._identity = identity
        self._cipher = cipher

    def seal(self, number: int, events: Sequence[Event], request_id: str, *, has_opened: bool) -> bytes:
        """Batch `number`, in which the events' own numbers go on where those of the batch before ended."""
        return self.wrap(orjson.dumps([request_id, has_opened, *short(events)]), number)

    def open(self, number: int, first: int, data: bytes) -> tuple[str, bool, list[Event]]:
        """The id of the request, whether the upstream had opened, and the events from number `first` on.

        Raises Broken.
        """
        request_id, has_opened, *items = orjson.loads(self.unwrap(data, number))
        try:
            return request_id, has_opened, long(items, first)
        except ValueError as error:
            raise Broken(f"batch {number}: {error}") from error

    def wrap(self, plain: bytes, number: int = 0) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, self._bound_to(number))

    def unwrap(self, data: bytes, number: int = 0) -> bytes:
        """Raises Broken."""
        try:
            return self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], self._bound_to(number))
        except (InvalidTag, ValueError) as error:  # ValueError: too short for a nonce
            raise Broken(f"batch {number} can't be opened") from error

    def _bound_to(self, number: int) -> bytes:
        return self._identity + number.to_bytes(8)
