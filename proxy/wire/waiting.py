"""The frames of n8n's chat WebSocket, on which an execution asks its visitor back: words, or JSON told apart by `type`.

n8n 2.40 sends words (`n8n|heartbeat`) between its texts; @n8n/chat 1.37 also takes objects for them, and so do we.
A frame that means nothing else is a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from proxy.errors import BadRequest, ProxyError
from proxy.wire.text import Halves, loads

HEARTBEAT, ACK, CONTINUE = "n8n|heartbeat", "n8n|heartbeat-ack", "n8n|continue"
JSON_ACK = '{"type":"heartbeat-ack"}'
MAX_BUTTONS = 20
STYLES = frozenset({"primary", "secondary"})
# What n8n gives a button: the execution, the node that waits, and what is signed.
_PLACE = re.compile(r"(?:/[\x21-\x7e]*)?/webhook-waiting/([A-Za-z0-9_-]+)(/[A-Za-z0-9_-]+)?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN = re.compile(r"[A-Za-z0-9._-]{0,256}")
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,1000}")


@dataclass(frozen=True, slots=True)
class Beat:
    """n8n wants to hear `ack` within a minute."""

    ack: str


@dataclass(frozen=True, slots=True)
class GoOn:
    """The execution works on; there will be more."""


@dataclass(frozen=True, slots=True)
class Failed:
    """n8n has a report of its own, which is nobody's business."""


@dataclass(frozen=True, slots=True)
class Button:
    text: str
    link: str
    style: str = "primary"


@dataclass(frozen=True, slots=True)
class Said:
    """A text for the visitor. `is_closed`: only a button answers it."""

    text: str
    buttons: tuple[Button, ...] = ()
    is_closed: bool = False


Frame = Beat | GoOn | Failed | Said


def waiting_execution(document: object) -> tuple[str, str] | None:
    """Id and token of an execution that waits, where a webhook answers with them. Older versions give no token."""
    match document:
        case {"executionStarted": True, "executionId": str() | int() as name, **more}:
            token = more.get("resumeToken", "")
            if isinstance(token, str) and _ID.fullmatch(str(name)) and _TOKEN.fullmatch(token):
                return str(name), token
    return None


def read(frame: str) -> Frame:
    """What n8n sent."""
    if frame == HEARTBEAT:
        return Beat(ACK)
    if frame == CONTINUE:
        return GoOn()
    match _object(frame):
        case {"type": "heartbeat"}:
            return Beat(JSON_ACK)
        case {"type": "continue"}:
            return GoOn()
        case {"type": "error"}:
            return Failed()
        case {"type": "message", "text": str(text)}:
            return Said(_whole(text))
        case {"type": "with-buttons", "text": str(text), "buttons": [*buttons], **more}:
            found = tuple(button for button in map(_button, buttons[:MAX_BUTTONS]) if button is not None)
            return Said(_whole(text), found, more.get("blockUserInput") is True)
    return Said(_whole(frame))


def write(said: Said) -> str:
    """As the widget takes it. A text that could be taken for an object, or for a word of n8n's, is put into one."""
    if said.buttons:
        buttons = [{"text": one.text, "link": one.link, "type": one.style} for one in said.buttons]
        fields = {"type": "with-buttons", "text": said.text, "blockUserInput": said.is_closed, "buttons": buttons}
        return orjson.dumps(fields).decode()
    if said.text.lstrip().startswith("{") or said.text in (HEARTBEAT, CONTINUE):
        return orjson.dumps({"type": "message", "text": said.text}).decode()
    return said.text


def failure(error: ProxyError, request_id: str) -> str:
    """An error as the widget shows it."""
    fields = {"type": "error", "message": error.public, "code": error.code, "request_id": request_id}
    return orjson.dumps(fields).decode()


def answer(frame: str) -> str | None:
    """What the visitor typed; None for a sign of life. Raises BadRequest."""
    if frame == ACK:
        return None
    try:
        fields = orjson.loads(frame)
    except ValueError:
        raise BadRequest("a frame that is not JSON", public="This is no message of the chat.") from None
    match fields:
        case {"type": "heartbeat-ack"}:
            return None
        case {"files": [_, *_]}:
            raise BadRequest("files are not accepted", public="Files can't be sent as an answer to a question.")
        case {"action": "sendMessage", "chatInput": str(text)}:
            return text
    raise BadRequest("no message", public='"action" must be sendMessage, "chatInput" a string.')


def place(link: str, execution: str) -> str | None:
    """The end of a link to that very execution, `ID/NODE?QUERY`; None for every other link."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    found = _PLACE.fullmatch(parts.path)
    if found is None or found[1] != execution or not _QUERY.fullmatch(parts.query):
        return None
    return f"{execution}{found[2] or ''}?{parts.query}"


def _object(frame: str) -> dict[str, object] | None:
    try:
        value = loads(frame.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _button(value: object) -> Button | None:
    match value:
        case {"text": str(text), "link": str(link), **more}:
            style = more.get("type")
            return Button(_whole(text), link, style if isinstance(style, str) and style in STYLES else "primary")
    return None


def _whole(text: str) -> str:
    halves = Halves()
    return halves.feed(text) + halves.flush()
