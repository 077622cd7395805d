"""`sidegate scan`: what the content rules make of a text, of many, or of labelled sets. Nothing is served or kept."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import click
import orjson

from proxy.config import ConfigError
from proxy.content import Span
from proxy.content.detect import THRESHOLD, shipped
from proxy.content.pii import find
from proxy.content.vault import Masker, Vault
from proxy.guard.content import ContentSettings, Finding, weigh
from proxy.rates import NoSets, rates, table
from proxy.reading import load

MAX_LINE_BYTES = 4_194_304
BATCH = 250  # lines that are judged together
ALONE = 4  # batches that take less time than starting other processes
AHEAD = 2 * (os.cpu_count() or 1)  # batches that may wait
SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Scanned:
    """What would become of one message. `masked` are places in it; `text` is what would go upstream, if anything."""

    finding: Finding
    masked: tuple[Span, ...]
    text: str

    def row(self) -> dict[str, object]:
        return {
            "action": self.finding.action,
            "scores": dict(self.finding.scores),
            "flags": list(self.finding.flags),
            "masked": [{"start": span.start, "end": span.end, "kind": span.kind} for span in self.masked],
            "text": self.text,
        }


class Scanner:
    """The content stage without a session: every text is a new visitor's first."""

    def __init__(self, settings: ContentSettings) -> None:
        self._actions = settings.rules.actions()
        self._pii = settings.pii
        self._kinds = () if settings.pii.mode == "off" else settings.pii.kinds
        self._detector = shipped()
        self.rules = {rule.id: rule for rule in self._detector.rules}

    def scan(self, text: str) -> Scanned:
        finding = weigh(text, self._detector.judge(text), self._actions)
        masked = find(text, self._kinds, self._pii.exclude)
        if finding.action == "block":
            return Scanned(finding, masked, "")
        masker = Masker(self._kinds, self._pii.exclude, Vault() if self._pii.mode == "restore" else None)
        is_sanitized = finding.text != text
        return Scanned(finding, masked, masker.text(finding.text) if is_sanitized else masker.replaced(text, masked))

    def judge(self, text: str) -> tuple[Finding, tuple[Span, ...]]:
        scanned = self.scan(text)
        return scanned.finding, scanned.masked

    def explain(self, text: str) -> Iterator[str]:
        """Lines that say what happens, and for each hit which rule, where, and why."""
        scanned = self.scan(text)
        yield scanned.finding.action
        for category, score in sorted(scanned.finding.scores.items(), key=lambda item: -item[1]):
            yield f"  {category} {score:g}{' (detected)' if score >= THRESHOLD else ''}"
            for hit in scanned.finding.hits:
                if hit.category == category:
                    yield f"    {hit.rule} {hit.weight:g} at {hit.span.start}-{hit.span.end}: {self._why(hit.rule)}"
                    yield f"      {shown(text[hit.span.start : hit.span.end])}"
        for span in scanned.masked:
            yield f"  masked: {span.kind} at {span.start}-{span.end}"

    def _why(self, rule: str) -> str:
        return self.rules[rule].why if rule in self.rules else "computed, see docs/detection.md"


def shown(text: str) -> str:
    """A stretch of text as one line for a terminal: no control characters, not long."""
    line = ascii(text) if not text.isprintable() else text
    return line if len(line) <= SHOWN_CHARS else f"{line[: SHOWN_CHARS - 1]}…"


@click.command()
@click.argument("text", required=False)
@click.option("--file", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Scan this file.")
@click.option("--jsonl", type=click.File("rb"), help="One JSON object with `text` a line; `-` is standard input.")
@click.option(
    "--corpus", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Measure labelled sets there."
)
@click.option("--config", "path", type=click.Path(path_type=Path), help="The YAML file; without it, the defaults.")
@click.option("--site", help="Whose rules; not needed where there is one site.")
def scan(
    text: str | None,
    file: Path | None,
    jsonl: IO[bytes] | None,
    corpus: Path | None,
    path: Path | None,
    site: str | None,
) -> None:
    """Say what the content rules make of TEXT, of a file, of many lines or of labelled sets."""
    given = [value for value in (text, file, jsonl, corpus) if value is not None]
    if len(given) != 1:
        raise click.UsageError("give one of TEXT, --file, --jsonl and --corpus")
    settings = _settings(path, site)
    if jsonl is not None:
        _lines(jsonl, settings)
    elif corpus is not None:
        _measure(corpus, Scanner(settings))
    else:
        for line in Scanner(settings).explain(file.read_text("utf-8", "replace") if file else text or ""):
            click.echo(line)


def _settings(path: Path | None, site: str | None) -> ContentSettings:
    if path is None:
        if site is not None:
            raise click.UsageError("--site needs --config")
        return ContentSettings()
    try:
        settings = load(path).settings
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    names = list(settings.sites)
    if site is None and len(names) == 1:
        (site,) = names
    if site not in names:
        raise click.UsageError(f"--site has to be one of {', '.join(names)}")
    return settings.site_content(site)


def _lines(lines: IO[bytes], settings: ContentSettings) -> None:
    """A line out for each line in, in order. The first that can't be read ends it."""
    for written, bad in _scanned(_batches(lines), settings):
        sys.stdout.buffer.write(written)
        if bad is not None:
            sys.stdout.buffer.flush()
            raise click.ClickException(f'line {bad}: write an object such as {{"text": "…"}}')
    sys.stdout.buffer.flush()


Batch = tuple[int, list[bytes]]  # the number of its first line, and its lines
Judged = tuple[bytes, int | None]  # what is written, and the number of the line that can't be read


def _batches(lines: IO[bytes]) -> Iterator[Batch]:
    numbered = enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES), b""), 1)
    while batch := list(islice(numbered, BATCH)):
        yield batch[0][0], [line for _, line in batch]


def _scanned(batches: Iterator[Batch], settings: ContentSettings) -> Iterator[Judged]:
    """In order. The first ones here, the rest in as many processes as there are cores, a few ahead of what is read."""
    _prepare(settings)
    for batch in islice(batches, ALONE):
        yield _judge(batch)
    with ProcessPoolExecutor(initializer=_prepare, initargs=(settings,)) as pool:
        ahead: deque[Future[Judged]] = deque()
        for batch in batches:
            ahead.append(pool.submit(_judge, batch))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


_scanners: list[Scanner] = []  # this process's, since a pool's functions get nothing but what can be pickled


def _prepare(settings: ContentSettings) -> None:
    _scanners[:] = [Scanner(settings)]


def _judge(batch: Batch) -> Judged:
    (scanner,) = _scanners
    first, lines = batch
    written: list[bytes] = []
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        try:
            text = orjson.loads(line)["text"]
            if not isinstance(text, str):
                raise TypeError
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return b"".join(written), number
        written.append(orjson.dumps(scanner.scan(text).row(), option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(written), None


def _measure(folder: Path, scanner: Scanner) -> None:
    try:
        for line in table(rates(folder, scanner.judge)):
            click.echo(line)
    except NoSets as error:
        raise click.ClickException(str(error)) from None
