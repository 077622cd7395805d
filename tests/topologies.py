"""Redis as it is run when one server isn't enough: behind Sentinel, as a Cluster, behind TLS with users of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from tests.servers import RedisServer, free_port

PRIMARY = "main"
GIVE_UP = 20.0
SLOTS = 16_384


@dataclass(frozen=True)
class Topology:
    """Its address, and the servers that keep something."""

    url: str
    servers: list[RedisServer]


@contextmanager
def sentinel() -> Iterator[Topology]:
    """A primary, its replica and three Sentinels, who need half a second to see that the primary is gone."""
    with ExitStack() as stack:
        primary = stack.enter_context(RedisServer(options=("--repl-diskless-sync-delay", "0")))
        replica = stack.enter_context(RedisServer(options=("--replicaof", "127.0.0.1", str(primary.port))))
        until(lambda: _info(replica, "master_link_status") == "up")
        watchers = [stack.enter_context(RedisServer(sentinel_of=(PRIMARY, primary.port))) for _ in range(3)]
        until(lambda: all(_knows_all(watcher) for watcher in watchers))
        hosts = ",".join(f"127.0.0.1:{watcher.port}" for watcher in watchers)
        yield Topology(f"redis+sentinel://{hosts}/{PRIMARY}/0", [primary, replica])


@contextmanager
def cluster() -> Iterator[Topology]:
    """Three primaries, each with a replica that takes over after about a second."""
    options: tuple[str, ...] = (
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "1000",
        "--cluster-replica-validity-factor",
        "0",
    )
    options += ("--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        servers = [stack.enter_context(RedisServer(options=(*options, *_bus()))) for _ in range(6)]
        primaries, replicas = servers[:3], servers[3:]
        for at, server in enumerate(primaries):
            server.call("CLUSTER", "ADDSLOTSRANGE", str(at * SLOTS // 3), str((at + 1) * SLOTS // 3 - 1))
            server.call("CLUSTER", "SET-CONFIG-EPOCH", str(at + 1))
        for server in servers[1:]:
            servers[0].call("CLUSTER", "MEET", "127.0.0.1", str(server.port), server.option("--cluster-port"))
        for replica, primary in zip(replicas, primaries, strict=True):
            name = primary.ask("CLUSTER", "MYID")
            until(partial(_follows, replica, name))
        until(lambda: all("cluster_state:ok" in server.ask("CLUSTER", "INFO") for server in servers))
        until(lambda: all(server.ask("CLUSTER", "NODES").count("slave") == 3 for server in servers))
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in primaries)
        yield Topology(f"redis+cluster://{hosts}", servers)


def _follows(replica: RedisServer, name: str) -> bool:
    if _info(replica, "master_link_status") == "up":
        return True
    replica.call("CLUSTER", "REPLICATE", name)  # an error until it has heard of that node
    return False


def _bus() -> tuple[str, str]:
    """The port on which nodes talk; by default it is the other one plus 10,000, which need not be free."""
    return "--cluster-port", str(free_port())


def _info(server: RedisServer, field: str) -> str:
    lines = dict(line.split(":", 1) for line in server.ask("INFO", "replication").splitlines() if ":" in line)
    return lines.get(field, "")


def _knows_all(watcher: RedisServer) -> bool:
    answer = watcher.ask("INFO", "sentinel")
    return "slaves=1,sentinels=3" in answer and "status=ok" in answer


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + GIVE_UP
    while not condition():
        assert time.monotonic() < give_up, "it doesn't come about"
        time.sleep(0.02)
