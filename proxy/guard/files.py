"""Files that come with a message: each has to be of an allowed type by name, by what its sender says and by its bytes.

What it stops: programs, scripts and pages, files under a false flag or of two kinds, bombs, names that do something
where they are written to, contexts that pose as an upload, and what ClamAV finds where it is asked. What it doesn't:
words. What a text, a picture or a PDF says is not judged by the content rules, and nothing in it is masked; only names
are.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, field_validator

from proxy.config import Section
from proxy.content import filetypes
from proxy.content.filetypes import KINDS, FileType, Refused
from proxy.content.images import Piece
from proxy.errors import BadRequest, UploadRejected
from proxy.guard import clamd
from proxy.guard.archives import judge_archive
from proxy.guard.payload import names_a_file
from proxy.model import File, Mode, Request
from proxy.telemetry import Metrics, audit

MAX_NAME_CHARS = 120
BLOCK = 65_536
# What turns the direction of writing.
_TURNING = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))
_FORBIDDEN = re.compile(r'[<>:"|?*;`$&%\']')
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_PUBLIC = {
    "extension": "Files of this type can't be sent.",
    "count": "Too many files.",
    "empty": "This file is empty.",
    "scanner": "Files can't be checked right now. Please try again shortly.",
}


class ScanSettings(Section):
    """`clamd`: tcp://host:port or unix:/path; none, and nothing is scanned. `timeout`: seconds for one file."""

    clamd: str | None = None
    when_unavailable: Literal["reject", "allow"] = "reject"
    timeout: Annotated[float, Field(gt=0, le=120)] = 30

    @field_validator("clamd")
    @classmethod
    def _callable(cls, address: str | None) -> str | None:
        if address is not None:
            clamd.parse_address(address)
        return address


class UploadSettings(Section):
    """`max_bytes`: of a message's files together. `timeout`: seconds in which all of it must arrive.

    `max_spool_bytes`: of all files that a process has at a time; they wait in its temporary directory.
    """

    max_bytes: Annotated[int, Field(ge=1024, le=104_857_600)] = 10_485_760
    max_files: Annotated[int, Field(ge=0, le=20)] = 5
    types: tuple[FileType, ...] = ("image/png", "image/jpeg", "application/pdf", "text/plain")
    strip_metadata: bool = False
    timeout: Annotated[float, Field(gt=0, le=600)] = 60
    max_spool_bytes: Annotated[int, Field(ge=1024, le=10_737_418_240)] = 268_435_456
    scan: ScanSettings = ScanSettings()


def offer(settings: UploadSettings) -> dict[str, object]:
    """What a page may let its visitors choose: `types` by extension."""
    types = {extension: media for media in settings.types for extension in KINDS[media].extensions}
    return {"max_files": settings.max_files, "max_bytes": settings.max_bytes, "types": types}


@dataclass(frozen=True, slots=True)
class Judged:
    file: File
    pieces: Sequence[Piece]


class Files:
    """A message stage. Judging and stripping read files, in threads."""

    name = "files"
    mode: Mode = "enforce"

    def __init__(self, settings: UploadSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics

    async def check(self, request: Request) -> Request:
        """The request with its files' names cleaned and their types known; stripped of metadata where that is wanted.

        Raises UploadRejected; BadRequest where what isn't a file says that it is one.
        """
        if names_a_file(request.message.context):
            raise BadRequest("a context that poses as an upload", public="Files can't be named in a message.")
        files = request.message.files
        if not files:
            return request
        try:
            if len(files) > self._settings.max_files:
                raise Refused("count", f"more than {self._settings.max_files} files")
            judged = [await asyncio.to_thread(self._judge, file) for file in files]
            for one in judged:
                await self._scan(request, one.file)
            if self._settings.strip_metadata:
                judged = [await asyncio.to_thread(stripped, one) for one in judged]
        except Refused as refused:
            self._tell(request, refused.reason)
            public = _PUBLIC.get(refused.reason)
            raise UploadRejected(f"{refused.reason}: {refused}", public=public) from None
        files = tuple(one.file for one in judged)
        request = replace(request, message=replace(request.message, files=files))
        self._tell(request, "accepted")
        return request

    def _judge(self, file: File) -> Judged:
        name = clean_name(file.name)
        media = filetypes.kind_of_name(name)
        if media not in self._settings.types:
            raise Refused("extension", "a type that isn't allowed")
        pieces = filetypes.judge(media, file.media, file.look, file.size)
        if KINDS[media].is_archive:
            judge_archive(media, file.data, file.size)
        return Judged(replace(file, name=name, media=media), pieces)

    async def _scan(self, request: Request, file: File) -> None:
        settings = self._settings.scan
        if settings.clamd is None:
            return
        try:
            found = await clamd.scan(settings.clamd, file.look, file.size, settings.timeout)
        except clamd.Unavailable as unavailable:
            self._tell(request, "unscanned")
            if settings.when_unavailable == "reject":
                raise Refused("scanner", str(unavailable)) from None
            return
        if found is not None:
            raise Refused("malware", found)

    def _tell(self, request: Request, outcome: str) -> None:
        self._metrics.uploads.labels(request.site.name, outcome).inc(len(request.message.files))
        known = [file.media if file.media in KINDS else "other" for file in request.message.files]
        audit(
            "UPLOAD", site=request.site.name, outcome=outcome, types=known,
            sizes=[file.size for file in request.message.files], request_id=request.id, ip=request.client.ip,
        )  # fmt: skip


def clean_name(name: str) -> str:
    """The name without its path and what doesn't belong in one, at most MAX_NAME_CHARS long, its extension kept.

    Raises Refused where cleaning would make another type of it: a NUL or a turn of direction is there to deceive.
    """
    for character in name:
        category = unicodedata.category(character)
        if category == "Cc" or category in ("Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in _TURNING:
            raise Refused("name", "a control character in the name")
    # A path's last part is a name.
    name = name[max(name.rfind("/"), name.rfind("\\")) + 1 :]
    name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name)).strip(" .")
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem.strip(" ."):
        raise Refused("name", "a name without an extension, or nothing but one")
    if _DEVICE.fullmatch(stem.partition(".")[0].strip()):
        stem = f"_{stem}"
    return f"{stem[: MAX_NAME_CHARS - len(extension) - 1]}.{extension}"


def stripped(judged: Judged) -> Judged:
    """The file with its picture alone, moved together in its own place."""
    if all(piece.is_picture for piece in judged.pieces):
        return judged
    file, end = judged.file, 0
    for piece in judged.pieces:
        if not piece.is_picture:
            continue
        for at in range(piece.start, piece.end, BLOCK):
            block = file.look(at, min(BLOCK, piece.end - at))
            file.data.seek(end)
            end += file.data.write(block)
    file.data.truncate(end)
    return Judged(replace(file, size=end), ())
