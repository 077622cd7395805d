"""GET /widget.js: the chat as one script for pages of other origins, put together from its parts when we start.

The script is public and the same for everybody; whether a page may talk to us is decided where it does.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from importlib import resources

import orjson
from aiohttp import ETag, web

from proxy.edge.read import Reader
from proxy.guard.origin import Host

MAX_AGE = 300  # seconds until browsers ask whether there is another one
PARTS = (
    ("page", "protocol.js"), ("page", "markdown.js"),
    ("embedded", "session.js"), ("embedded", "transports.js"), ("embedded", "files.js"), ("embedded", "widget.js"),
)  # fmt: skip
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_NOTHING = re.compile(r"q=0(?:\.0{0,3})?")


def script() -> str:
    """One function that is called at once, so that nothing of it is global; not twice on a page."""
    edge = resources.files("proxy.edge")
    words = orjson.dumps(orjson.loads((edge / "embedded" / "words.json").read_bytes())).decode()
    style = orjson.dumps((edge / "embedded" / "widget.css").read_text("utf-8")).decode()
    parts = [_EXPORT.sub("", (edge / folder / name).read_text("utf-8")) for folder, name in PARTS]
    head = f"const WORDS = {words};\nconst STYLE = {style};\n"
    return "\n".join(["if (!window.Sidegate) (() => {\n'use strict';\n", head, *parts, "})();\n"])


class EmbedEdge:
    def __init__(self, reader: Reader, host: Host) -> None:
        self._reader = reader
        self._host = host
        self._plain = script().encode()
        self._packed = gzip.compress(self._plain, mtime=0)
        self._tag = ETag(hashlib.sha256(self._plain).hexdigest()[:32], is_weak=True)  # weak: packed or not, the same

    async def serve(self, http: web.Request) -> web.Response:
        await self._host.check(self._reader.client(http, "widget"))
        headers = {
            "Cache-Control": f"public, max-age={MAX_AGE}",
            "Cross-Origin-Resource-Policy": "cross-origin",  # pages that isolate themselves may load it too
            "ETag": f'W/"{self._tag.value}"',
            "Vary": "Accept-Encoding, Origin",
        }
        known = http.if_none_match or ()
        if any(tag.value in (self._tag.value, "*") for tag in known):
            return web.Response(status=304, headers=headers)
        body = self._plain
        if _takes_gzip(http.headers.get("Accept-Encoding", "")):
            body = self._packed
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, content_type="text/javascript", charset="utf-8", headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """RFC 9110 section 12.5.3: named, and not with a weight of 0."""
    for part in accepted.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";")
        if coding == "gzip":
            return _NOTHING.fullmatch(weight) is None
    return False
