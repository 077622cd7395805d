"""GET /: the chat page, for sites that switch it on. All it needs comes from here; it may talk to nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from aiohttp import web

from proxy.edge.read import Reader
from proxy.errors import NotFound
from proxy.guard.origin import Host
from proxy.model import Site

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class PageEdge:
    def __init__(self, reader: Reader, host: Host, sites: Mapping[str, Site]) -> None:
        self._reader = reader
        self._host = host
        self._on = any(site.page for site in sites.values())
        folder = resources.files("proxy.edge") / "page"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir()}

    async def index(self, http: web.Request) -> web.Response:
        return await self._serve(http, "index.html")

    async def asset(self, http: web.Request) -> web.Response:
        return await self._serve(http, http.match_info["name"])

    async def _serve(self, http: web.Request, name: str) -> web.Response:
        await self._host.check(self._reader.client(http, "page"))
        suffix = name[name.rfind(".") :] if "." in name else ""
        if not self._on or name not in self._files or suffix not in TYPES:
            raise NotFound(f"no page {name!r}")
        return web.Response(
            body=self._files[name], content_type=TYPES[suffix], charset="utf-8",
            headers={"Content-Security-Policy": CSP, "Cache-Control": "no-cache"},
        )  # fmt: skip
