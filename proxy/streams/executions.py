"""Which executions that wait were begun by whom: nothing is kept, the browser that began one carries it, sealed.

AES-256-GCM. What it stops: going on with an execution that another session began, guessing one, changing a link, and
learning n8n's ids, tokens and signatures. What it doesn't: whoever gets at such a token, or link, has to be told from
its owner otherwise (`browser`); one can't be taken back before its session ends.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.model import Execution, Session
from proxy.streams.seal import Broken, Sealer

EXECUTION, BUTTON = 0, 1
Fields = dict[str, Any]  # Any: what we sealed ourselves, and nobody else can


@dataclass(frozen=True, slots=True)
class Begun:
    """An execution, and who began it. `browser`: which one it was; `visitor`: digest of the id that it named itself by;
    `origin`: ours, as that browser sees it.
    """

    session: Session
    browser: str
    visitor: str
    origin: str
    execution: Execution


@dataclass(frozen=True, slots=True)
class Press:
    """A button of a question. `place`: what n8n is to be asked for."""

    begun: Begun
    caption: str
    place: str


class Executions:
    """Replicas with the same key read one another's."""

    def __init__(self, sealer: Sealer) -> None:
        self._box = sealer.box("executions that wait for their visitors")

    def token(self, begun: Begun) -> str:
        return self._sealed(begun, EXECUTION)

    def begun(self, token: str) -> Begun | None:
        fields = self._opened(token, EXECUTION)
        return None if fields is None else _begun(fields)

    def link(self, press: Press) -> str:
        """A whole address."""
        return f"{press.begun.origin}/webhook-waiting/{self._sealed(press, BUTTON)}"

    def press(self, end: str) -> Press | None:
        """What a link is about; `end` is its last part."""
        fields = self._opened(end, BUTTON)
        return None if fields is None else Press(_begun(fields["begun"]), fields["caption"], fields["place"])

    def _sealed(self, what: Begun | Press, kind: int) -> str:
        return base64.urlsafe_b64encode(self._box.wrap(orjson.dumps(what), kind)).rstrip(b"=").decode()

    def _opened(self, text: str, kind: int) -> Fields | None:
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(sealed).rstrip(b"=").decode() != text:
                return None  # there is one spelling of each
            fields: Fields = orjson.loads(self._box.unwrap(sealed, kind))
        except (ValueError, Broken):
            return None
        return fields


def digest_of(text: str) -> str:
    """32 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _begun(fields: Fields) -> Begun:
    session, execution = Session(**fields["session"]), Execution(**fields["execution"])
    return Begun(session, fields["browser"], fields["visitor"], fields["origin"], execution)
