"""A webhook that answers as it is told, over a real socket, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson


@dataclass
class Asked:
    """One request as it arrived, and whether its connection is gone."""

    path: str
    headers: dict[str, str]
    body: bytes
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> dict[str, object]:
        value = orjson.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass
class Step:
    """Bytes to write, or an event to wait for, or (both empty) the end of the connection without ceremony."""

    data: bytes = b""
    wait: asyncio.Event | None = None


Script = list[Step]


def item(text: str) -> bytes:
    return orjson.dumps({"type": "item", "content": text, "metadata": {"nodeName": "AI Agent"}}) + b"\n"


BEGIN = b'{"type":"begin","metadata":{"nodeId":"n1","nodeName":"AI Agent"}}\n'
END = b'{"type":"end","metadata":{"nodeId":"n1","nodeName":"AI Agent"}}\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream(*texts: str) -> Script:
    """A whole n8n answer."""
    lines = [BEGIN, *map(item, texts), END]
    return [Step(HEAD + b"".join(map(chunk, lines)) + LAST)]


def paced(seconds: float, *texts: str) -> Script:
    """A whole n8n answer, so long between its pieces, counted from when it is asked for."""
    script = [Step(HEAD + chunk(BEGIN))]
    for number, text in enumerate(texts, 1):
        due = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds * number, due.set)
        script += [Step(wait=due), Step(chunk(item(text)))]
    return [*script, Step(chunk(END) + LAST)]


def plain(body: bytes, status: str = "200 OK", *headers: str) -> Script:
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
    return [Step("\r\n".join(head).encode() + body)]


class Webhook:
    """`script` is called for every request and says what is answered."""

    def __init__(self, script: Callable[[Asked], Script]) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.port = 0
        self.open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhook/chat"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(_header(line) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                asked = Asked(head[0].split()[1], headers, body)
                self.asked.append(asked)
                async with asyncio.TaskGroup() as tasks:
                    watch = tasks.create_task(_watch(reader, asked))
                    keep = await _play(self.script(asked), writer, asked)
                    watch.cancel()
                if not keep:
                    break
        writer.close()
        self.open.discard(writer)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


async def _watch(reader: asyncio.StreamReader, asked: Asked) -> None:
    """The client sends nothing while it waits: the end of its stream is all that can come."""
    try:
        while await reader.read(1):
            pass
    except ConnectionError:
        pass
    asked.closed.set()


async def _play(script: Script, writer: asyncio.StreamWriter, asked: Asked) -> bool:
    for step in script:
        if step.wait is not None:
            async with asyncio.TaskGroup() as tasks:
                ends = {tasks.create_task(step.wait.wait()), tasks.create_task(asked.closed.wait())}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ends:
                    end.cancel()
        elif not step.data:
            writer.transport.abort()
            return False
        if asked.closed.is_set():
            return False
        writer.write(step.data)
        try:
            await writer.drain()
        except ConnectionError:
            return False
    return True


@asynccontextmanager
async def webhook(script: Callable[[Asked], Script]) -> AsyncIterator[Webhook]:
    hook = Webhook(script)
    server = await asyncio.start_server(hook.handle, "127.0.0.1", 0)
    hook.port = server.sockets[0].getsockname()[1]
    try:
        yield hook
    finally:
        server.close()
        for writer in hook.open:
            writer.close()
