"""`sidegate scan`: what the content rules make of a text, of many, or of labelled sets. Nothing is served or kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
import orjson

from proxy.config import ConfigError
from proxy.content import Span
from proxy.content.detect import THRESHOLD, Detector
from proxy.content.pii import find
from proxy.content.vault import Masker, Vault
from proxy.guard.content import ContentSettings, Finding, weigh
from proxy.rates import NoSets, rates, table
from proxy.reading import load

MAX_LINE_BYTES = 4_194_304
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
        self._detector = Detector()
        self.rules = {rule.id: rule for rule in self._detector.rules}

    def scan(self, text: str) -> Scanned:
        finding = weigh(text, self._detector.judge(text), self._actions)
        masked = find(text, self._kinds, self._pii.exclude)
        if finding.action == "block":
            return Scanned(finding, masked, "")
        vault = Vault() if self._pii.mode == "restore" else None
        return Scanned(finding, masked, Masker(self._kinds, self._pii.exclude, vault).text(finding.text))

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
    scanner = Scanner(_settings(path, site))
    if jsonl is not None:
        _lines(jsonl, scanner)
    elif corpus is not None:
        _measure(corpus, scanner)
    else:
        for line in scanner.explain(file.read_text("utf-8", "replace") if file else text or ""):
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


def _lines(lines: IO[bytes], scanner: Scanner) -> None:
    """A line out for each line in, in order. The first that can't be read ends it."""
    write: Callable[[bytes], object] = sys.stdout.buffer.write
    for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES), b""), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            text = row["text"]
            if not isinstance(text, str):
                raise TypeError
        except (orjson.JSONDecodeError, KeyError, TypeError):
            sys.stdout.flush()
            raise click.ClickException(f'line {number}: write an object such as {{"text": "…"}}') from None
        write(orjson.dumps(scanner.scan(text).row(), option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _measure(folder: Path, scanner: Scanner) -> None:
    try:
        for line in table(rates(folder, scanner.judge)):
            click.echo(line)
    except NoSets as error:
        raise click.ClickException(str(error)) from None
