"""Real servers for tests: started on 127.0.0.1, watched until they answer, and ended by the test that started them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

DEADLINE = 10.0  # seconds for a server to start or end


class RedisServer:
    """A redis-server that keeps nothing on disk. `with RedisServer() as redis: ... redis.url ...`

    kill() and start() again give an empty one at the same address; pause() makes it hang with its connections open.
    With `fake_clock` its time stands still until advance(): TIME and key expiry follow, its own timers don't.
    With `sentinel_of` it is a Sentinel that watches the primary of this name and port, with two of its kind.
    """

    def __init__(
        self,
        *,
        fake_clock: bool = False,
        options: tuple[str, ...] = (),
        sentinel_of: tuple[str, int] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.directory = Path(tempfile.mkdtemp(prefix="sidegate-redis-"))
        self.socket = self.directory / "redis.sock"
        self._options = options
        self._sentinel_of = sentinel_of
        self._process: subprocess.Popen[bytes] | None = None
        self._now = 1_800_000_000_000_000 if fake_clock else None  # microseconds

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        environment = dict(os.environ)
        if self._now is not None:
            self._write_clock()
            environment |= {
                # Debian's redis-server is linked to jemalloc, which asks for the time before libfaketime is ready and
                # ends in a recursion. With libc in front, malloc is libc's.
                "LD_PRELOAD": f"{_libfaketime()} libc.so.6",
                "FAKETIME_TIMESTAMP_FILE": str(self.directory / "clock"),
                "FAKETIME_FMT": "%s",
                "FAKETIME_NO_CACHE": "1",
                "DONT_FAKE_MONOTONIC": "1",  # its event loop's timers would stand still, too
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # the same from libfaketime 0.9.10 on
            }
        self._process = subprocess.Popen(
            ["redis-server", *(self._arguments() if self._sentinel_of is None else self._sentinel(*self._sentinel_of))],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                log = (self.directory / "log").read_text() if (self.directory / "log").exists() else "no log"
                self.kill()
                raise RuntimeError(f"redis-server did not start: {log[-2000:]}")
            time.sleep(0.01)

    def _arguments(self) -> list[str]:
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", str(self.socket)]
        place += ["--dir", str(self.directory), "--logfile", str(self.directory / "log")]
        return [*place, "--save", "", "--appendonly", "no", *self._options]

    def _sentinel(self, name: str, port: int) -> list[str]:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.directory}",
            f"logfile {self.directory / 'log'}",
            f"sentinel monitor {name} 127.0.0.1 {port} 2",
            f"sentinel down-after-milliseconds {name} 500",
            f"sentinel failover-timeout {name} 4000",
        ]
        file = self.directory / "sentinel.conf"  # it writes there what it learns
        file.write_text("\n".join(lines) + "\n")
        return [str(file), "--sentinel"]

    def option(self, name: str) -> str:
        """What it was started with."""
        return self._options[self._options.index(name) + 1]

    def stop(self) -> None:
        """End it the regular way, also while it is paused or has ended before."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def advance(self, seconds: float) -> None:
        """Set its clock forward, or back with a negative number."""
        if self._now is None:
            raise RuntimeError("this server's clock is the real one; start it with fake_clock=True")
        self._now += round(seconds * 1_000_000)
        self._write_clock()

    def ask(self, *words: str) -> str:
        """Send one command that is answered with a text, return that. Raises OSError while it can't answer."""
        return self._send(words, whole=True).decode()

    def call(self, *words: str) -> bytes:
        """Send one command, return the first line of the answer. Raises OSError while it can't answer."""
        return self._send(words, whole=False)

    def _send(self, words: tuple[str, ...], *, whole: bool) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection,
            connection.makefile("rwb") as file,
        ):
            parts = [word.encode() for word in words]
            file.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
            file.flush()
            line = file.readline().rstrip(b"\r\n")
            return file.read(max(0, int(line[1:]))) if whole else line

    def _answers(self) -> bool:
        try:
            return self.call("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)  # a paused process sees no SIGTERM
        self._process.wait(DEADLINE)
        self._process = None

    def _write_clock(self) -> None:
        # Replaced in one step, since the server reads it all the time. Half a microsecond more, because libfaketime
        # cuts the fraction off after a multiplication that can end just below the whole number.
        assert self._now is not None
        seconds, micro = divmod(self._now, 1_000_000)
        new = self.directory / "clock.new"
        new.write_text(f"{seconds}.{micro:06d}5\n")
        new.replace(self.directory / "clock")


def free_port() -> int:
    """A port that nobody listens on now. Somebody else may take it before it is used, if rarely."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _libfaketime() -> Path:
    # The package puts it below the architecture's directory; libfaketimeMT is the one for programs with threads.
    for place in ("/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/lib/faketime"):
        found = sorted(Path("/").glob(f"{place[1:]}/libfaketimeMT.so.1"))
        if found:
            return found[0]
    raise RuntimeError("libfaketime is not installed (Debian: apt install faketime)")
