"""State shared by replicas, in Redis. Each operation is one atomic decision there, in one round trip, or StoreDown.

What it doesn't stop: a Redis that loses its memory (a restart, a failover to a replica that lags) forgets the hits and
the once-only keys it lost, and their limits start anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from math import ceil
from typing import Any, TypeVar
from uuid import uuid4

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from proxy.store import ALIVE, Batch, Circuit, Hit, Kept, Look, Post, StoreDown, Tier
from proxy.store.patience import patience
from proxy.store.url import StoreUrl

MICRO = 1_000_000
SILENCE = 10  # seconds after which a replica that says nothing is no longer counted
REPLICAS = "sidegate:replicas"
CIRCUITS = "sidegate:circuits"  # a channel
MAX_BATCH = 100  # hits in one round trip: about a millisecond of Redis
MAX_WAITING = 10_000
LOOK_AT = 16  # batches in one round trip
JOURNAL_DEADLINE = 1.0  # nobody waits for it, and a round trip may carry a megabyte
POSTS = "sidegate:{posts}"  # one slot of a cluster, since one script forgets posts of any box
MAX_IN_BOX = {"push": 100, "start": 20}
MAX_POSTS = {"push": 5_000, "start": 20_000}  # of each kind; a push has 64 KiB at most
MAX_NEWS = 1_000  # posts looked at in one round trip
TAKEN_SECONDS = 10
T = TypeVar("T")
_Calls = Sequence[tuple[Sequence[str], Sequence[str | int | bytes]]]  # keys and arguments of one script's calls


class RedisStore:
    """One standalone Redis or Valkey. Time is the server's, so replicas need not agree on it.

    No operation takes longer than `deadline` seconds and a quarter of it; the rest of the 300 ms that a decision may
    take is for deciding without Redis.
    """

    def __init__(self, url: StoreUrl, *, deadline: float = 0.2, max_connections: int = 50) -> None:
        self._deadline = deadline
        # redis-py's defaults retry for seconds, and raise when all connections are in use instead of waiting for one.
        self._redis = Redis.from_pool(
            BlockingConnectionPool(
                max_connections=max_connections,
                timeout=deadline,
                retry=Retry(NoBackoff(), 0),
                # _ask has the one timeout. This one would be a task more for every command, a sixth of its cost.
                socket_timeout=None,
                socket_connect_timeout=deadline,
                # Anything else is one more round trip for every new connection.
                protocol=2,
                driver_info=None,
                **_address(url),
            )
        )
        # Script objects load themselves again into a Redis that was restarted.
        self._hit = self._redis.register_script(_lua("hit"))
        self._beat = self._redis.register_script(_lua("beat"))
        self._keep = self._redis.register_script(_lua("keep"))
        self._look = self._redis.register_script(_lua("look"))
        self._bury = self._redis.register_script(_lua("bury"))
        self._stop = self._redis.register_script(_lua("stop"))
        self._post = self._redis.register_script(_lua("post"))
        self._waiting: deque[_Call] = deque()
        self._has_waiting = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    async def hit(self, tiers: Sequence[Tier]) -> list[Hit]:
        keys: list[str] = []
        args: list[str] = []
        for tier in tiers:
            keys.append(_key(tier.key, "hits"))
            # A bucket as large as the limit never refuses what the log lets pass.
            has_bucket = 0 < tier.burst < tier.limit
            if has_bucket:
                keys.append(_key(tier.key, "bucket"))
            args.append(f"{tier.limit} {round(tier.window * MICRO)} {tier.burst if has_bucket else 0}")
        answer = await self._send(keys, args)
        numbers = list(map(int, answer.split()))
        return [Hit(numbers[i], numbers[i + 1] / MICRO, numbers[i + 2] / MICRO) for i in range(0, len(numbers), 3)]

    async def add(self, key: str, ttl: float) -> bool:
        """Remember the key for `ttl` seconds. True only for the one caller who was first."""
        name, mark, life = _key(key, "once"), uuid4().hex, _milliseconds(ttl)

        async def be_first() -> bool:
            if await self._redis.set(name, mark, nx=True, px=life):
                return True
            # A second look, where somebody was first: it may have been us, and the answer got lost with its connection.
            return bool(await self._redis.get(name) == mark.encode())

        return await self._ask(be_first)

    async def has(self, key: str) -> bool:
        return bool(await self._ask(lambda: self._redis.exists(_key(key, "once"))))

    async def beat(self, replica: str) -> int:
        """Say that this replica is alive; return how many are."""
        alive: int = await self._ask(lambda: self._beat([REPLICAS], [replica, SILENCE]))
        return alive

    async def leave(self, replica: str) -> None:
        """Say that this replica ends."""
        await self._ask(lambda: self._redis.zrem(REPLICAS, replica))

    async def keep(self, batches: Sequence[Batch]) -> list[Kept]:
        calls = [
            (_journal(batch.name), (batch.number, _milliseconds(batch.ttl), _milliseconds(ALIVE), batch.data))
            for batch in batches
        ]
        kept = []
        for answer in await self._ask(partial(self._evaluate, self._keep, calls), JOURNAL_DEADLINE):
            if not isinstance(answer, bytes):
                raise StoreDown(type(answer).__name__)  # such as OOM: Redis is full
            length, is_stopped, is_heard = map(int, answer.split())
            kept.append(Kept(length, bool(is_stopped), bool(is_heard), is_buried=length < 0))
        return kept

    async def look(self, name: str, number: int, *, listens: bool) -> Look | None:
        args = [number, LOOK_AT, _milliseconds(ALIVE), int(listens)]
        found = await self._ask(lambda: self._look(_journal(name), args), JOURNAL_DEADLINE)
        return None if found is None else Look(bool(found[0]), int(found[1]), found[2])

    async def bury(self, name: str, number: int, data: bytes) -> bool:
        args: list[int | bytes] = [number, _milliseconds(ALIVE), data]
        return bool(await self._ask(lambda: self._bury(_journal(name), args)))

    async def stop(self, name: str) -> None:
        await self._ask(lambda: self._stop(_journal(name)[1:]))

    async def post(self, box: str, kind: str, data: bytes, ttl: float) -> int:
        keys = [_box(kind, box), f"{POSTS}:all:{kind}", f"{POSTS}:last"]
        args: list[str | bytes | int] = [box, data, _milliseconds(ttl), MAX_IN_BOX[kind], MAX_POSTS[kind]]
        return int(await self._ask(lambda: self._post(keys, args)))

    async def posts(self, box: str, after: int, ttl: float) -> list[Post]:
        async def read() -> list[Any]:  # Any: as redis-py parses it
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.time()
            for kind in MAX_IN_BOX:
                pipeline.xrange(_box(kind, box), f"{after + 1}-0" if after >= 0 else "-")
            return await pipeline.execute()

        (now, micro), *lists = await self._ask(read)
        found = [
            Post(_number(entry), kind, fields[b"d"])
            for kind, entries in zip(MAX_IN_BOX, lists, strict=True)
            for entry, fields in entries
        ]
        since = now * MICRO + micro - round(ttl * MICRO)
        return sorted((post for post in found if post.number > since), key=lambda post: post.number)

    async def boxes(self, after: int | None) -> tuple[int, set[str]]:
        if after is None:
            return int(await self._ask(lambda: self._redis.get(f"{POSTS}:last")) or 0), set()
        streams: dict[Any, Any] = {f"{POSTS}:all:{kind}": f"{after}-0" for kind in MAX_POSTS}  # Any: redis-py's names
        answer: Any = await self._ask(lambda: self._redis.xread(streams, count=MAX_NEWS))
        lists = [entries for _, entries in answer or []]
        # Where one list was cut short, the other waits for it: the place in both is one number.
        cut = [_number(entries[-1][0]) for entries in lists if len(entries) == MAX_NEWS]
        found = {_number(entry): fields[b"n"].decode() for entries in lists for entry, fields in entries}
        place = min(cut) if cut else max(found, default=after)
        return place, {box for number, box in found.items() if number <= place}

    async def take(self, number: int) -> None:
        await self._ask(lambda: self._redis.set(f"{POSTS}:taken:{number}", 1, ex=TAKEN_SECONDS))

    async def is_taken(self, number: int) -> bool:
        return bool(await self._ask(lambda: self._redis.exists(f"{POSTS}:taken:{number}")))

    def degraded(self) -> str | None:
        return None

    async def close(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])  # at once, since nothing in it holds a cancellation up
        await self._redis.aclose()

    async def _send(self, keys: list[str], args: list[str]) -> bytes:
        """Have the sender ask for one hit. Raises StoreDown."""
        if len(self._waiting) >= MAX_WAITING:
            raise StoreDown("too many hits are waiting")
        loop = asyncio.get_running_loop()
        call = _Call(keys, args, loop.time(), loop.create_future())
        self._waiting.append(call)
        self._has_waiting.set()
        if self._sender is None or self._sender.done():
            # The one owner of this task is this object, and close() ends it.
            self._sender = asyncio.create_task(self._send_waiting(), name="redis sender")  # noqa: TID251
        return await call.answer  # the sender answers every call, within the deadline and a quarter

    async def _send_waiting(self) -> None:
        """Send what has come together while the last batch was under way: under load, many hits share a round trip."""
        batch: list[_Call] = []
        try:
            while True:
                await self._has_waiting.wait()
                self._has_waiting.clear()
                while self._waiting:
                    batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
                    try:
                        calls = [(call.keys, call.args) for call in batch]
                        answers = await self._ask(partial(self._evaluate, self._hit, calls), self._left(batch[0]))
                    except StoreDown as error:
                        self._settle(batch, error)  # with those behind, who would wait for the same silence
                        continue
                    for call, answer in zip(batch, answers, strict=True):
                        call.settle(answer)
        finally:
            self._settle(batch, StoreDown("the sender ended"))

    def _left(self, oldest: _Call) -> float:
        """What waiting behind another batch has left of the deadline, but enough for a Redis that is well."""
        return max(self._deadline / 4, self._deadline - (asyncio.get_running_loop().time() - oldest.since))

    def _settle(self, batch: list[_Call], down: StoreDown) -> None:
        for call in (*batch, *self._waiting):
            call.settle(down)
        self._waiting.clear()

    async def _evaluate(self, script: AsyncScript, calls: _Calls) -> list[bytes | Exception]:
        answers = await self._pipeline(script, calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):  # Redis was restarted; none of them counted
            await self._redis.script_load(script.script)
            answers = await self._pipeline(script, calls)
        return answers

    async def _pipeline(self, script: AsyncScript, calls: _Calls) -> list[bytes | Exception]:
        pipeline = self._redis.pipeline(transaction=False)
        for keys, args in calls:
            pipeline.evalsha(script.sha, len(keys), *keys, *args)
        answers: list[bytes | Exception] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _ask(self, call: Callable[[], Awaitable[T]], deadline: float | None = None) -> T:
        try:
            async with patience(self._deadline if deadline is None else deadline):
                try:
                    return await call()
                except RedisConnectionError:
                    # A pooled connection that broke says nothing about Redis, which may have been restarted since. If
                    # the first attempt did arrive, a hit counts twice: that errs on the safe side.
                    return await call()
        # OSError includes TimeoutError. RuntimeError is uvloop's for a connection that closes while it is written to.
        except (RedisError, OSError, RuntimeError) as error:
            raise StoreDown(type(error).__name__) from error


class RedisCircuits:
    """A Circuits over the connections of a store."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._script = store._redis.register_script(_lua("circuit"))

    async def trip(self, name: str, cooldown: float, after: int = 0) -> Circuit:
        return _circuit(await self._do("trip", name, round(cooldown * MICRO), after))

    async def probe(self, name: str, generation: int, probes: int, seconds: float, lease: str) -> bool:
        return bool(await self._do("probe", name, generation, probes, round(seconds * MICRO), lease))

    async def release(self, name: str, lease: str) -> None:
        await self._do("release", name, lease)

    async def good(self, name: str, generation: int, probes: int, lease: str) -> None:
        await self._do("good", name, generation, probes, lease)

    async def state(self, name: str) -> Circuit:
        return _circuit(await self._do("state", name))

    async def changes(self) -> AsyncGenerator[tuple[str, Circuit] | None, None]:
        try:
            async with self._store._redis.pubsub() as listening:
                await self._store._ask(lambda: listening.subscribe(CIRCUITS))
                while True:
                    message = await listening.get_message(timeout=None)  # whoever listens ends this
                    if message is None:
                        continue
                    if message["type"] == "message":
                        name, _, circuit = message["data"].partition(b" ")
                        yield name.decode(), _circuit(circuit)
                    else:
                        yield None
        except (RedisError, OSError, RuntimeError) as error:
            raise StoreDown(type(error).__name__) from error

    async def _do(self, what: str, name: str, *more: str | int) -> Any:  # Any: what the script answers
        keys = [_key(name, "circuit"), _key(name, "probes")]
        return await self._store._ask(lambda: self._script(keys, [what, name, CIRCUITS, *more]))


def _circuit(text: bytes) -> Circuit:
    generation, rest = map(int, text.split())
    return Circuit(generation, None if rest < 0 else rest / MICRO)


@dataclass(slots=True)
class _Call:
    """One hit on its way."""

    keys: list[str]
    args: list[str]
    since: float  # by the loop's clock
    answer: asyncio.Future[bytes]

    def settle(self, answer: bytes | Exception) -> None:
        if self.answer.done():  # whoever asked has left
            return
        if isinstance(answer, bytes):
            self.answer.set_result(answer)
        else:
            error = answer if isinstance(answer, StoreDown) else StoreDown(type(answer).__name__)
            self.answer.set_exception(error)


def _address(url: StoreUrl) -> dict[str, Any]:  # Any: the pool takes what its connections take, untyped
    """How redis-py is told where Redis is."""
    login = {"username": url.username, "password": url.password.reveal() if url.password else None, "db": url.db}
    if url.kind == "unix":
        return login | {"connection_class": UnixDomainSocketConnection, "path": url.path}
    ((host, port),) = url.hosts
    return login | {"connection_class": SSLConnection if url.tls else Connection, "host": host, "port": port}


def _key(key: str, kind: str) -> str:
    """The braces are Redis Cluster's hash tag: what belongs to one key lies in one slot."""
    return f"sidegate:{{{key}}}:{kind}"


def _journal(name: str) -> list[str]:
    return [_key(name, "batches"), _key(name, "marks")]


def _milliseconds(seconds: float) -> int:
    return max(1, ceil(seconds * 1000))


def _box(kind: str, box: str) -> str:
    return f"{POSTS}:{kind}:{box}"


def _number(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


def _lua(name: str) -> str:
    return resources.files("proxy.store").joinpath("lua", f"{name}.lua").read_text("utf-8")
