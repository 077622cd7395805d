"""What clients send over a WebSocket: text frames, each a message, none longer than a message may be."""

from __future__ import annotations

from aiohttp import WSCloseCode, WSMsgType, web

CLOSE_SECONDS = 2.0  # for the client to answer our close frame
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}  # RFC 6455 section 4.4
_ENDS = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED})


async def text_frame(socket: web.WebSocketResponse, max_bytes: int) -> str | None:
    """The next one, or None: the client is gone, or sent what closes the connection (another kind, too large a one)."""
    frame = await socket.receive()  # heartbeats end it where the client is gone
    if frame.type in _ENDS:
        return None
    if frame.type is not WSMsgType.TEXT:
        await socket.close(code=WSCloseCode.UNSUPPORTED_DATA, message=b"text frames only")
        return None
    text: str = frame.data
    if len(text.encode()) > max_bytes:
        await socket.close(code=WSCloseCode.MESSAGE_TOO_BIG, message=b"frame too large")
        return None
    return text
