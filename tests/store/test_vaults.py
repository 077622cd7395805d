"""What every store promises of vaults, on each of them; and what the bounded one in memory gives up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store import StoreDown, Versioned
from proxy.store.redis.link import Link
from proxy.store.redis.vaults import RedisVaults
from proxy.store.url import parse_url
from proxy.store.vaults import OVERHEAD, MemoryVaults
from tests.servers import free_port
from tests.store.conftest import Backend, Clock
from tests.store.test_contract import many


async def test_there_is_nothing_until_something_is_kept(backend: Backend) -> None:
    assert await backend.vaults.read("a", 60) is None
    assert await backend.vaults.write("a", 0, b"\x00one", 60)
    assert await backend.vaults.read("a", 60) == Versioned(1, b"\x00one")
    assert await backend.vaults.read("b", 60) is None


async def test_only_the_version_that_was_read_is_replaced(backend: Backend) -> None:
    assert not await backend.vaults.write("a", 1, b"early", 60)
    assert await backend.vaults.write("a", 0, b"one", 60)
    assert not await backend.vaults.write("a", 0, b"other", 60)
    assert await backend.vaults.write("a", 1, b"two", 60)
    assert not await backend.vaults.write("a", 1, b"late", 60)
    assert await backend.vaults.read("a", 60) == Versioned(2, b"two")


async def test_of_many_who_replace_one_version_one_does(backend: Backend) -> None:
    assert await backend.vaults.write("a", 0, b"one", 60)
    written = await asyncio.gather(*[backend.vaults.write("a", 1, b"%d" % number, 60) for number in range(20)])
    assert sum(written) == 1


async def test_a_vault_ends_with_its_session_which_may_be_prolonged_but_not_cut(backend: Backend) -> None:
    assert await backend.vaults.write("a", 0, b"one", 60)
    backend.advance(59)
    assert await backend.vaults.read("a", 30) is not None
    assert await backend.vaults.write("a", 1, b"two", 10)
    backend.advance(29)
    assert await backend.vaults.read("a", 1) == Versioned(2, b"two")
    backend.advance(1.1)
    assert await backend.vaults.read("a", 60) is None
    assert await backend.vaults.write("a", 0, b"new", 60)


async def test_what_is_deleted_is_gone_and_its_place_is_free(backend: Backend) -> None:
    assert await backend.vaults.write("a", 0, b"one", 60)
    await backend.vaults.delete("a")
    await backend.vaults.delete("a")
    assert not await backend.vaults.write("a", 1, b"late", 60)
    assert await backend.vaults.read("a", 60) is None
    assert await backend.vaults.write("a", 0, b"new", 60)


@many
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(1, 9)),
            st.tuples(st.sampled_from("ab"), st.none(), st.integers(1, 9)),
            st.integers(1, 9),
        ),
        max_size=25,
    )
)
async def test_a_vault_is_as_a_plain_model_says(
    backend: Backend, moves: list[tuple[str, int | None, int] | int]
) -> None:
    prefix, now = backend.prefix(), 0
    kept: dict[str, tuple[int, bytes, int]] = {}
    for number, move in enumerate(moves):
        if isinstance(move, int):
            backend.advance(move + 0.002)  # never at the very end, where Redis keeps keys for a millisecond more
            now += 1000 * move + 2
            continue
        name, version, ttl = move
        known, data, ends = kept.get(name, (0, b"", 0))
        if ends <= now:
            known, ends = 0, 0
        if version is None:
            expected = Versioned(known, data) if known else None
            assert await backend.vaults.read(f"{prefix}{name}", ttl) == expected
            if known:
                kept[name] = known, data, max(ends, now + 1000 * ttl)
        else:
            written = await backend.vaults.write(f"{prefix}{name}", version, b"%d" % number, ttl)
            assert written is (version == known)
            if written:
                kept[name] = known + 1, b"%d" % number, max(ends, now + 1000 * ttl)


async def test_without_room_the_one_that_was_used_longest_ago_is_forgotten(clock: Clock) -> None:
    vaults = MemoryVaults(clock, max_bytes=2 * (OVERHEAD + 10))
    for name in "ab":
        assert await vaults.write(name, 0, b"x" * 10, 60)
    await vaults.read("a", 60)
    assert await vaults.write("c", 0, b"x" * 10, 60)
    assert [await vaults.read(name, 60) is not None for name in "abc"] == [True, False, True]
    assert await vaults.write("a", 1, b"x", 60)
    assert await vaults.read("c", 60) is not None


async def test_a_redis_that_is_away_is_said_to_be() -> None:
    link = Link(parse_url(f"redis://127.0.0.1:{free_port()}"), deadline=30)
    vaults = RedisVaults(link)
    with pytest.raises(StoreDown):
        await vaults.read("a", 60)
    with pytest.raises(StoreDown):
        await vaults.write("a", 0, b"", 60)
    await link.close()
