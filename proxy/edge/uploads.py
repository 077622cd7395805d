"""Messages that come as multipart/form-data: texts into memory, files into a temporary place, both bounded.

What it stops: bodies that are too large, too slow, or that drip; names never touch the disk, since the temporary files
have none (they are gone when they are closed, and when the process ends, however it ends). What the files are is judged
by guard/files.py. What it doesn't stop: many clients that upload slowly at the same time fill `max_spool_bytes`.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

from proxy.errors import BadRequest, RequestTimeout, TooLarge, UnsupportedMedia, UpstreamUnavailable
from proxy.guard.files import UploadSettings
from proxy.model import Client, File
from proxy.telemetry import Metrics
from proxy.wire.multipart import FormReader, Part, boundary_of

MULTIPART = "multipart/form-data"
FILES = "files"  # the name of the fields that may hold files
MAX_FIELDS = 16  # texts
HEADS = 65_536  # bytes that boundaries and heads of parts may take


@dataclass(frozen=True, slots=True)
class Form:
    """What came. Its files are closed when the block that got it is left, unless they were handed on."""

    fields: dict[str, str]
    files: tuple[File, ...]
    _opened: ExitStack = field(repr=False)

    def hand_on(self) -> None:
        """Somebody else closes the files from now on."""
        self._opened.pop_all()


class Uploads:
    """`sites`: those whose upstreams take files. `max_text_bytes`: of all texts of a form together."""

    def __init__(self, settings: UploadSettings, sites: Collection[str], max_text_bytes: int, metrics: Metrics) -> None:
        self._settings = settings
        self._sites = sites if settings.max_files else ()
        self._max_text_bytes = max_text_bytes
        self._metrics = metrics
        self._spooled = 0

    @asynccontextmanager
    async def reading(self, http: web.Request, client: Client) -> AsyncIterator[Form]:
        """The form that an admitted client sends, whole.

        Raises UnsupportedMedia, TooLarge, RequestTimeout, BadRequest, or UpstreamUnavailable where there is no room. A
        client that leaves ends the handler, and with it this.
        """
        with ExitStack() as opened:
            try:
                reader = self._reader(http, client)
                async with asyncio.timeout(self._settings.timeout):
                    form = await self._read(http, reader, opened)
            except TimeoutError:
                http.protocol.close()
                raise RequestTimeout(f"no whole form within {self._settings.timeout} s") from None
            except web.RequestPayloadError as error:
                http.protocol.close()
                raise BadRequest(str(error)) from None
            except (BadRequest, TooLarge, UnsupportedMedia, UpstreamUnavailable):
                http.protocol.close()  # what else comes is not read
                raise
            yield form

    def _reader(self, http: web.Request, client: Client) -> FormReader:
        if client.site is None or client.site.name not in self._sites:
            raise UnsupportedMedia("files, for a site that takes none", public="Files are not accepted here.")
        if http.headers.get("Content-Encoding", "identity") != "identity":
            raise UnsupportedMedia("Content-Encoding", public="Please send the message without Content-Encoding.")
        most = self._settings.max_bytes + self._max_text_bytes + HEADS
        if (http.content_length or 0) > most:
            raise TooLarge(f"Content-Length over {most}", public="These files are too large.")
        return FormReader(boundary_of(http.headers["Content-Type"]), self._settings.max_files + MAX_FIELDS)

    async def _read(self, http: web.Request, reader: FormReader, opened: ExitStack) -> Form:
        pending = _Pending(self._settings, self._max_text_bytes, lambda: self._open(opened))
        async for data in http.content.iter_any():
            for item in reader.feed(data):
                if isinstance(item, Part):
                    pending.begin(item)
                elif pending.spool is not None:
                    await pending.add(item, pending.spool)
                else:
                    pending.add_text(item)
        reader.finish()
        pending.end()
        return Form(pending.fields, tuple(pending.files), opened)

    def _open(self, opened: ExitStack) -> _Spool:
        spool = _Spool(self._take)
        opened.callback(spool.close)
        return spool

    def _take(self, size: int) -> None:
        """Room for so many bytes more; less than 0 gives them back."""
        if self._spooled + size > self._settings.max_spool_bytes:
            raise UpstreamUnavailable("over uploads.max_spool_bytes", retry_after=5)
        self._spooled += size
        self._metrics.upload_bytes.inc(size)


class _Spool:
    """One file's bytes, in a temporary file without a name."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self._take = take
        self.data = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it, when the answer is over
        self.size = 0
        self.digest = hashlib.sha256()

    async def add(self, data: bytes) -> None:
        self._take(len(data))
        self.size += len(data)
        try:
            await asyncio.to_thread(self._write, data)
        except OSError as error:
            detail = f"the temporary directory takes no more: {type(error).__name__}"
            raise UpstreamUnavailable(detail, retry_after=5) from error

    def _write(self, data: bytes) -> None:
        self.digest.update(data)
        self.data.write(data)
        self.data.flush()  # a full disk is told of here

    def close(self) -> None:
        if not self.data.closed:
            with suppress(OSError):  # where the disk is full, it tries to write once more
                self.data.close()
            self._take(-self.size)


class _Pending:
    """A form while it comes."""

    def __init__(self, settings: UploadSettings, max_text_bytes: int, open_spool: Callable[[], _Spool]) -> None:
        self._settings = settings
        self._open_spool = open_spool
        self._left = settings.max_bytes
        self._text_left = max_text_bytes
        self._part: Part | None = None
        self._text = bytearray()
        self.spool: _Spool | None = None
        self.fields: dict[str, str] = {}
        self.files: list[File] = []

    def begin(self, part: Part) -> None:
        self.end()
        if (part.filename is None) == (part.name == FILES):
            raise BadRequest("multipart: a text as files, or a file elsewhere", public='Files belong in "files".')
        if part.name in self.fields:
            raise BadRequest("multipart: a field that comes twice", public="A field came twice.")
        if part.filename is not None and len(self.files) >= self._settings.max_files:
            raise TooLarge(f"more than {self._settings.max_files} files", public="These are too many files.")
        if part.filename is None and len(self.fields) >= MAX_FIELDS:
            raise TooLarge(f"more than {MAX_FIELDS} fields")
        self._part = part
        if part.filename is not None:
            self.spool = self._open_spool()

    async def add(self, data: bytes, spool: _Spool) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(f"files over {self._settings.max_bytes} bytes", public="These files are too large.")
        await spool.add(data)

    def add_text(self, data: bytes) -> None:
        self._text_left -= len(data)
        if self._text_left < 0:
            raise TooLarge("a form's texts are too large")
        self._text += data

    def end(self) -> None:
        """Of the part, if there was one."""
        part, spool = self._part, self.spool
        if part is None:
            return
        if spool is not None and part.filename is not None:
            digest = spool.digest.hexdigest()
            self.files.append(File(part.filename, part.media, spool.size, digest, spool.data, spool.close))
        else:
            try:
                self.fields[part.name] = self._text.decode()
            except UnicodeDecodeError:
                raise BadRequest("multipart: a text that is no UTF-8", public="The form is no UTF-8.") from None
        self._part = self.spool = None
        self._text = bytearray()
