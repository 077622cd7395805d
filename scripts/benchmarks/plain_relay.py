"""What Sidegate is measured against: an aiohttp relay without a guard, set up as a careful developer would.

`python -m scripts.benchmarks.plain_relay PORT UPSTREAM_URL`. POST bodies go on as they are, answers come back as they
arrive; so do a WebSocket's messages, one after another.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager

import aiohttp
import uvloop
from aiohttp import web


class Relay:
    def __init__(self, pool: aiohttp.ClientSession, url: str) -> None:
        self._pool = pool
        self._url = url

    async def post(self, http: web.Request) -> web.StreamResponse:
        async with self._ask(await http.read()) as reply:
            response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.headers["Content-Type"]})
            response.content_length = reply.content_length
            await response.prepare(http)
            async for piece in reply.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def websocket(self, http: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=15, compress=False, max_msg_size=65_536)
        await socket.prepare(http)
        async for frame in socket:
            async with self._ask(str(frame.data).encode()) as reply:
                async for piece in reply.content.iter_any():
                    await socket.send_bytes(piece)
        return socket

    def _ask(self, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        return self._pool.post(self._url, data=body, headers=headers, allow_redirects=False)


async def main(port: int, url: str) -> None:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1000, keepalive_timeout=4),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=5, sock_read=60),
        auto_decompress=False,
        read_bufsize=16 * 1024,
    ) as pool:
        relay = Relay(pool, url)
        app = web.Application(client_max_size=65_536)
        app.router.add_post("/", relay.post)
        app.router.add_get("/ws", relay.websocket)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.Event().wait()  # a signal ends the process


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
