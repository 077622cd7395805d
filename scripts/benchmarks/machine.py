"""Where the figures come from: this machine, its cores, and what a process has used of them. Linux only."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from proxy import __version__


@dataclass(frozen=True, slots=True)
class Cores:
    """The server under test has one core to itself; everything else runs on the other ones."""

    server: frozenset[int]
    rest: frozenset[int]

    @contextlib.contextmanager
    def for_the_server(self) -> Iterator[None]:
        """What is started in here is pinned to the server's core."""
        os.sched_setaffinity(0, self.server)
        try:
            yield
        finally:
            os.sched_setaffinity(0, self.rest)


def share_cores() -> Cores:
    """Pin this process. With a single core, all share it, and the figures say less."""
    first, *others = sorted(os.sched_getaffinity(0))
    cores = Cores(frozenset({first}), frozenset(others or {first}))
    os.sched_setaffinity(0, cores.rest)
    return cores


def allow_many_files() -> None:
    """Every idle connection is a file in two processes; children inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have used so far, in user and kernel mode.

    The clock id is what clock_getcpuclockid(3) gives, which Python doesn't have. /proc/PID/schedstat would be of the
    first thread only.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory_bytes(pid: int) -> int:
    """Anonymous resident memory: what a process allocated, without program files. Socket buffers are the kernel's."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) * 1024


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def facts(redis: str | None) -> dict[str, str]:
    """What a reader needs to know to make something of the figures."""
    model = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    packages = ("aiohttp", "uvloop", "redis", "PyJWT", "orjson")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {model[0] if model else platform.machine()}, {platform.system()}",
        "load": f"{os.getloadavg()[0]:.1f} at the start",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": f"sidegate {__version__}, " + ", ".join(f"{name} {version(name)}" for name in packages),
        "redis-server": _redis_version(redis) if redis else "not installed: rows with Redis are left out",
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _redis_version(path: str) -> str:
    words = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout.split()
    return next((word.removeprefix("v=") for word in words if word.startswith("v=")), "unknown")
