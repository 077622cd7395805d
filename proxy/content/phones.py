"""Is a number a telephone number: by a plus sign, by a form that little else has, or by the word beside it.

What it doesn't know is which numbers are in use: a wrong one is somebody's, or nearly.
"""

from __future__ import annotations

import re

from proxy.content.runs import Run

_JOINED = re.compile("[A-Za-z0-9_#$€£\u00c0-\u024f\u0400-\u04ff]")
_JOINED_RIGHT = re.compile("[A-Za-z_%$€\u00c0-\u024f\u0400-\u04ff]")
_EXTENSION = re.compile(r" ?(?:x|ext\.? ?|#)[0-9]{1,6}(?![A-Za-z0-9])", re.IGNORECASE)
# Words behind a number that say what it is.
_LABEL = re.compile(
    r"[ \-(]{1,2}(?:office|fax|mobile|cell|home|work|desk|phone|tel)\b"
    r"|,? {1,2}(?:(?:is|ist|es|est|é|è|to|это|-) )?(?:my|mein|meine|mi|mon|meu|il mio|mijn|mój|min|мой)"
    r" (?:[\w-]{1,16} )?(?:phone|mobile|cell|number|contact|tel\w*|\w*nummer|handy\w*|mobil\w*|num[ée]ro"
    r"|portable|celular|m[óo]vil|cellulare|numer|номер|телефон)\b"
    r"| numara\w*| ?(?:まで|へ|に)お?(?:電話|連絡)|(?:로|으로) ?(?:연락|전화)| ?(?:联系|找|打给)我",
    re.IGNORECASE,
)
_TRUNK = "0"  # what a national number begins with in most of the world


def phone_end(run: Run, said: str) -> int | None:
    """Where it ends, with its extension; None when it is no phone number. `said`: see hints.Hints."""
    extension = _EXTENSION.match(run.text, run.end)
    before, after = run.before, "" if extension else run.after
    if "+" in run.prefix:  # so it is no part of a name
        before, after = before.replace("_", ""), after.replace("_", "")
    if _JOINED.match(before) or _JOINED_RIGHT.match(after):
        return None
    if not 5 < run.count < 18 or said in ("other", "thing") or not _is_phone(run, said):
        return None
    return extension.end() if extension else run.end


def _is_phone(run: Run, said: str) -> bool:
    if "+" in run.prefix:
        return 6 < run.count < 16 and run.digits[0] != _TRUNK  # ITU-T E.164
    if run.is_date or _is_measure(run) or _is_isbn(run) or run.is_amount or _is_negative(run):
        return False
    if (said == "phone" or _LABEL.match(run.text, run.end)) and run.count < 14:
        return run.count > 6 or len(run.sizes) > 1
    if run.before and run.before in "/=-.:&?" and run.text[max(0, run.start - 2) : run.start - 1].isalnum():
        return False  # a part of something longer, such as a path or an article number
    return _has_form(run)


def _is_measure(run: Run) -> bool:
    """A decimal fraction or an IPv4 address."""
    is_fraction = len(run.sizes) == 2 and run.sizes != [4, 4]
    return set(run.between) == {"."} and (is_fraction or (len(run.sizes) == 4 and max(run.sizes) < 4))


def _is_negative(run: Run) -> bool:
    return run.before == "-" and run.text[max(0, run.start - 2) : run.start - 1].isspace()


def _is_isbn(run: Run) -> bool:
    """A book's number of ten digits, whose last stands alone: 0-306-40615-2."""
    return run.count == 10 and len(run.sizes) == 4 and run.sizes[-1] == 1


def _has_form(run: Run) -> bool:
    """Forms that are phone numbers without being called so: North American, in parentheses, with a trunk zero."""
    sizes = run.sizes
    if run.prefix == "(":
        return 6 < run.count < 14 and 1 < sizes[0] < 6 and len(sizes) > 1 and run.between[0].startswith(")")
    if sizes[-3:] == [3, 3, 4] and (len(sizes) == 3 or run.digits[:-10] in ("1", "001")) and "/" not in run.between:
        area, exchange = run.digits[-10], run.digits[-7]
        if min(area, exchange) > "1":
            return True
    if sizes == [1, 3, 3, 2, 2] and "(" in run.between[0] and run.digits[0] in "78":
        return True  # Russia, Kazakhstan
    if len(sizes) == 1 and _is_international(run.digits):
        return True
    if run.digits[0] != _TRUNK or run.digits.startswith("000") or (sizes[0] == 1 and len(sizes) < 3):
        return False
    if sizes == [5, 4] and run.between == ["-"]:
        return False  # a US postal code, ZIP+4
    most = 17 if run.digits[1] == "0" else 12  # 00 is the international prefix
    return 9 <= run.count <= most and (len(sizes) > 1 or run.count in (10, 11)) and len(sizes) < 7


def _is_international(digits: str) -> bool:
    """00 and a country's code without any gap. Not 001: so are numbers padded; and no EAN-13 (GS1, check digit)."""
    if not digits.startswith("00") or digits[2] < "2" or not 12 < len(digits) < 16:
        return False
    weighted = sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(digits))
    return len(digits) != 13 or weighted % 10 != 0
