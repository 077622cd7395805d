"""Idle WebSockets are pinged, and those whose clients are gone without a word are cut off."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType

from tests.sidegate import sidegate

ECHO = {"kind": "echo"}
ENDS = {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}


async def test_who_answers_pings_stays_and_who_stops_answering_is_cut_off() -> None:
    async with asyncio.timeout(30), sidegate(ECHO, streams={"heartbeat": 0.5}) as visitor:
        await visitor.session()
        url = f"{visitor.url}/v1/ws"
        async with visitor.http.ws_connect(url, headers=visitor.headers, autoping=False) as socket:
            for _ in range(3):
                assert (await socket.receive()).type is WSMsgType.PING
                await socket.pong()
            assert visitor.live.websockets == 1
            assert (await socket.receive()).type is WSMsgType.PING
            assert (await socket.receive()).type in ENDS
        while visitor.live.websockets:  # noqa: ASYNC110 - its end is in another task of this process
            await asyncio.sleep(0.01)


async def test_a_frame_that_is_still_coming_is_a_sign_of_life() -> None:
    async with asyncio.timeout(30), sidegate(ECHO, streams={"heartbeat": 0.5}) as visitor:
        await visitor.session()
        async with visitor.http.ws_connect(f"{visitor.url}/v1/ws", headers=visitor.headers, autoping=False) as socket:
            frame = b"\x81\x8f\0\0\0\0" + b'{"type":"ping"}'  # masked with zeros
            rest = iter(frame[number : number + 6] for number in range(0, len(frame), 6))
            pings = 0
            while (received := await socket.receive()).type is WSMsgType.PING:
                pings += 1
                if some := next(rest, b""):
                    socket._conn.transport.write(some)  # type: ignore[union-attr]
            assert received.json() == {"type": "pong"}
            assert pings >= 4
