"""Newline-delimited JSON: bytes, cut anywhere, to whole lines. A line over the bound is an error."""

from __future__ import annotations

from proxy.errors import UpstreamError


class LineSplitter:
    """Lines end at LF and come without it; a CR before it stays (JSON counts it as blank).

    A line over `max_bytes` raises UpstreamError, and so does every later call. Whole lines that came before it are
    returned first: then the error is raised by the next call.
    """

    def __init__(self, max_bytes: int = 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        # The unfinished line stays in parts: appending to one bytes object would copy it again for every cut.
        self._parts: list[bytes] = []
        self._size = 0
        self._is_over = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now."""
        if self._is_over:
            raise self._error()
        lines = data.split(b"\n")
        tail = lines.pop()
        if lines:
            if self._parts:
                self._parts.append(lines[0])
                lines[0] = b"".join(self._parts)
                self._parts.clear()
                self._size = 0
            for number, line in enumerate(lines):
                if len(line) > self._max_bytes:
                    self._is_over = True
                    del lines[number:]
                    break
        if tail and not self._is_over:
            self._parts.append(tail)
            self._size += len(tail)
            self._is_over = self._size > self._max_bytes
        if self._is_over:
            self._parts.clear()
            if not lines:
                raise self._error()
        return lines

    def flush(self) -> bytes:
        """The bytes are over: return the last line, if it had no end of its own, else nothing."""
        if self._is_over:
            raise self._error()
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return line

    def _error(self) -> UpstreamError:
        return UpstreamError(f"a line over {self._max_bytes} bytes")
