"""A real clamd on 127.0.0.1 that knows one signature, EICAR's, and downloads nothing."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.forms import EICAR
from tests.servers import free_port

DEADLINE = 30.0  # seconds for it to start or end
SIGNATURE = "Sidegate.Eicar"


class ClamServer:
    """`with ClamServer() as clam: ... clam.address, clam.socket ...`; stop() ends it earlier."""

    def __init__(self, max_bytes: int = 20_000_000) -> None:
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.directory = Path(tempfile.mkdtemp(prefix="sidegate-clamd-"))
        self.socket = f"unix:{self.directory / 'clamd.ctl'}"
        self._max_bytes = max_bytes
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ClamServer:
        database = self.directory / "database"
        database.mkdir()
        (database / "own.ndb").write_text(f"{SIGNATURE}:0:*:{EICAR.hex()}\n")
        lines = [
            f"DatabaseDirectory {database}",
            f"TemporaryDirectory {self.directory}",
            f"LocalSocket {self.directory / 'clamd.ctl'}",
            f"TCPSocket {self.port}",
            "TCPAddr 127.0.0.1",
            "Foreground yes",
            f"StreamMaxLength {self._max_bytes}",
        ]
        config = self.directory / "clamd.conf"
        config.write_text("\n".join(lines) + "\n")
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            ["clamd", "--config-file", str(config)], stdin=quiet, stdout=quiet, stderr=quiet
        )
        give_up = time.monotonic() + DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise RuntimeError("clamd did not start")
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"zPING\0")
                return connection.recv(16) == b"PONG\0"
        except OSError:
            return False
