"""What only the Redis store has: its keys, its script, its connections, and how their failures are told."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.store import Hits, StoreDown, Tier
from proxy.store.redis.counts import MAX_BATCH, RedisStore
from proxy.store.redis.link import Link
from proxy.store.url import parse_url
from tests.servers import RedisServer, free_port

TIERS = [Tier("a", 3, 60), Tier("b", 5, 60, burst=2)]


@asynccontextmanager
async def opened(url: str, deadline: float = 30) -> AsyncIterator[RedisStore]:
    store = RedisStore(Link(parse_url(url), deadline=deadline))
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(still_redis: RedisServer) -> AsyncIterator[RedisStore]:
    still_redis.call("FLUSHALL")
    async with opened(still_redis.url) as store:
        yield store


async def test_every_key_has_the_prefix_and_an_end(store: RedisStore, still_redis: RedisServer) -> None:
    await store.hit(TIERS)
    await store.add("c", 60)
    await store.beat("r1")
    keys = ["sidegate:{a}:hits", "sidegate:{b}:hits", "sidegate:{b}:bucket", "sidegate:{c}:once", "sidegate:{replicas}"]
    for key in keys:
        assert int(still_redis.call("TTL", key)[1:]) > 0, key
    memory = "sidegate:{replicas}:memory"
    assert int(still_redis.call("TTL", memory)[1:]) == 86_400
    assert still_redis.call("DBSIZE") == b":%d" % (len(keys) + 1)
    still_redis.advance(62)
    await store.hit([Tier("other", 1, 1)])
    still_redis.advance(3)
    assert not any(still_redis.call("EXISTS", key) == b":1" for key in keys)


async def test_what_belongs_to_one_key_lies_in_one_cluster_slot(store: RedisStore, still_redis: RedisServer) -> None:
    await store.hit([Tier("b", 5, 60, burst=2)])
    slots = {still_redis.call("CLUSTER", "KEYSLOT", key) for key in ("sidegate:{b}:hits", "sidegate:{b}:bucket", "b")}
    assert slots == {still_redis.call("CLUSTER", "KEYSLOT", "b")}


async def test_a_redis_that_forgot_its_scripts_is_taught_again(store: RedisStore, still_redis: RedisServer) -> None:
    await store.hit(TIERS)
    still_redis.call("SCRIPT", "FLUSH")
    assert [hit.remaining for hit in await store.hit(TIERS)] == [1, 0]


async def test_a_clock_set_back_neither_opens_a_limit_nor_locks_it(store: RedisStore, still_redis: RedisServer) -> None:
    tier = Tier("a", 1, 60)
    await store.hit([tier])
    still_redis.advance(-50)
    assert (await store.hit([tier]))[0].retry_after == 110
    still_redis.advance(-11)  # by more than a window: the log says nothing any more
    assert (await store.hit([tier]))[0].retry_after == 0
    still_redis.advance(61)


async def test_a_bucket_from_the_future_is_a_full_one(store: RedisStore, still_redis: RedisServer) -> None:
    tier = Tier("a", 9, 60, burst=1)
    await store.hit([tier])
    assert (await store.hit([tier]))[0].retry_after > 0
    still_redis.advance(-120)
    assert (await store.hit([tier]))[0].retry_after == 0
    still_redis.advance(120)


async def test_replicas_are_counted_until_they_leave_or_fall_silent(
    store: RedisStore, still_redis: RedisServer
) -> None:
    assert (await store.beat("r1"))[0] == 1
    still_redis.advance(4)
    assert (await store.beat("r2"))[0] == 2
    assert (await store.beat("r3"))[0] == 3
    await store.leave("r3")
    assert (await store.beat("r2"))[0] == 2
    still_redis.advance(6)  # r1 has said nothing for 10 s
    assert (await store.beat("r2"))[0] == 1
    still_redis.advance(-60)
    assert (await store.beat("r1"))[0] == 1
    still_redis.advance(60)


async def test_what_is_remembered_has_another_name_once_it_was_lost(
    store: RedisStore, still_redis: RedisServer
) -> None:
    _, first = await store.beat("r1")
    assert (await store.beat("r2"))[1] == first
    still_redis.call("FLUSHALL")
    assert (await store.beat("r1"))[1] != first


async def test_what_redis_refuses_is_store_down(store: RedisStore, still_redis: RedisServer) -> None:
    still_redis.call("SET", "sidegate:{a}:hits", "not a list")
    with pytest.raises(StoreDown, match="ResponseError"):
        await store.hit(TIERS)
    with pytest.raises(StoreDown, match="ResponseError"):
        await store.restore([Hits("a", 60, [1.0])])


async def test_restored_hits_count_as_those_before_and_behind_them(store: RedisStore, still_redis: RedisServer) -> None:
    tier = Tier("a", 4, 60)
    await store.hit([tier])
    still_redis.advance(20)
    await store.hit([tier])
    await store.restore([Hits("a", 60, [70.0, 30.0, 10.0])])  # the first of them is out of its window
    (refused,) = await store.hit([tier])
    assert (refused.remaining, refused.retry_after) == (0, 30)  # the one of 30 s ago is the oldest
    still_redis.advance(31)
    assert [(await store.hit([tier]))[0].retry_after for _ in range(2)] == [0, 9]


async def test_a_restored_bucket_is_as_empty_as_it_was_there(store: RedisStore, still_redis: RedisServer) -> None:
    tier = Tier("a", 60, 60, burst=3)
    await store.hit([tier])
    await store.restore([Hits("a", 60, [0.0] * 2, full_in=3.0)])
    assert (await store.hit([tier]))[0].retry_after == 1
    await store.restore([Hits("a", 60, [], full_in=1.0)])  # never fuller than it is
    assert (await store.hit([tier]))[0].retry_after == 1
    still_redis.advance(120)


async def test_a_unix_socket_serves_as_well(still_redis: RedisServer) -> None:
    still_redis.call("FLUSHALL")
    async with opened(f"unix://{still_redis.socket}?db=3") as store:
        assert await store.add("a", 60)
    assert still_redis.call("EXISTS", "sidegate:{a}:once") == b":0"  # it is in database 3


async def test_a_login_is_needed_and_used_and_never_told(store: RedisStore, still_redis: RedisServer) -> None:
    still_redis.call("ACL", "SETUSER", "bot", "on", ">s3cret", "~sidegate:*", "+@all")
    place = f"127.0.0.1:{still_redis.port}/0"
    async with opened(f"redis://bot:s3cret@{place}") as known:
        assert await known.add("a", 60)
    async with opened(f"redis://bot:wr0ng@{place}") as unknown:
        with pytest.raises(StoreDown) as caught:
            await unknown.add("a", 60)
    assert str(caught.value) == "AuthenticationError"
    assert "wr0ng" not in str(caught.value.__cause__)


async def test_no_answer_within_the_deadline_is_store_down() -> None:
    with RedisServer() as server:
        server.pause()  # connections are still accepted, by the kernel
        async with opened(server.url, deadline=0.05) as store:
            for call in (store.hit(TIERS), store.add("a", 5), store.has("a"), store.beat("r1"), store.leave("r1")):
                with pytest.raises(StoreDown, match="TimeoutError"):
                    await call


async def test_closing_leaves_nobody_waiting() -> None:
    with RedisServer() as server:
        server.pause()
        store = RedisStore(Link(parse_url(server.url), deadline=30))
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            # More than one batch, so that some are under way and some wait behind them.
            hits = [group.create_task(refused(store)) for _ in range(MAX_BATCH + 5)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await store.close()
        assert {hit.result() for hit in hits} == {"the sender ended"}


async def test_more_hits_than_may_wait_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.store.redis.counts.MAX_WAITING", 3)
    with RedisServer() as server:
        server.pause()
        async with opened(server.url, deadline=0.05) as store:
            reasons = await asyncio.gather(*[refused(store) for _ in range(5)])
    assert reasons == ["TimeoutError"] * 3 + ["too many hits are waiting"] * 2


async def refused(store: RedisStore) -> str:
    with pytest.raises(StoreDown) as caught:
        await store.hit(TIERS)
    return str(caught.value)


async def test_a_restart_costs_no_decision() -> None:
    with RedisServer() as server:
        async with opened(server.url) as store:
            await asyncio.gather(*[store.hit(TIERS) for _ in range(5)])  # several pooled connections, all to be stale
            server.kill()
            server.start()
            for _ in range(5):
                await store.hit([Tier("c", 9, 60)])
            assert server.call("LLEN", "sidegate:{c}:hits") == b":5"


async def test_more_at_once_than_connections_wait_for_one(real_redis: RedisServer) -> None:
    store = RedisStore(Link(parse_url(real_redis.url), deadline=30, max_connections=2))
    hits = await asyncio.gather(*[store.hit([Tier("pool", 100, 60)]) for _ in range(30)])
    assert {hit.remaining for (hit,) in hits} == set(range(70, 100))
    await store.close()


@asynccontextmanager
async def relayed(server: RedisServer, *, lose: bytes = b"nothing") -> AsyncIterator[tuple[RedisStore, list[bytes]]]:
    """A store behind a relay to Redis, and all that it sends. Instead of passing on the first answer to what contains
    `lose`, the relay closes the connection.
    """
    sent: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", server.port)
        while asked := await reader.read(65536):
            behind_writer.write(asked)
            answer = await behind_reader.read(65536)
            is_first = not any(lose in earlier for earlier in sent)
            sent.append(asked)
            if lose in asked and is_first:
                break
            writer.write(answer)
        for end in (writer, behind_writer):
            end.close()
            await end.wait_closed()

    front = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{front.sockets[0].getsockname()[1]}/0"
    async with front, opened(url) as store:
        yield store, sent


async def test_a_hit_on_all_tiers_is_one_round_trip(real_redis: RedisServer) -> None:
    async with relayed(real_redis) as (store, sent):
        await store.hit(TIERS)
        sent.clear()
        await store.hit(TIERS)
        assert len(sent) == 1


async def test_a_lost_answer_is_asked_for_again_and_the_first_stays_first(real_redis: RedisServer) -> None:
    real_redis.call("FLUSHALL")
    async with relayed(real_redis, lose=b"SET") as (store, _):
        assert await store.add("a", 60)
        assert not await store.add("a", 60)


async def test_a_hit_whose_answer_is_lost_counts_twice_rather_than_never(real_redis: RedisServer) -> None:
    real_redis.call("FLUSHALL")
    async with opened(real_redis.url) as direct:
        await direct.hit([Tier("b", 9, 60)])  # teaches the script
    async with relayed(real_redis, lose=b"EVALSHA") as (store, _):
        assert [hit.remaining for hit in await store.hit([Tier("a", 9, 60)])] == [7]


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis for a test")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def test_rediss_talks_to_a_server_it_can_verify_and_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path)
    port = free_port()
    files = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with RedisServer(options=("--tls-port", str(port), *files)):
        async with opened(f"rediss://127.0.0.1:{port}/0") as store:
            with pytest.raises(StoreDown, match="ConnectionError"):
                await store.beat("r1")
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        async with opened(f"rediss://127.0.0.1:{port}/0") as store:
            assert (await store.beat("r1"))[0] == 1
