"""Where personal data or a secret may begin in an answer, and how far it may go on.

Only a place that may be the beginning is held back, and only to its end: a number with what people put between its
groups, or whatever comes up to white space, a quote or a bracket. Words begin one behind a word such as `password` or
`mail`, in capitals, or with a provider's prefix; of other words, words.py says which letters wait.
"""

from __future__ import annotations

import re

import re2
import regex

from proxy.filters.words import WordStart

LOOK_BACK = 96  # characters in front that decide what begins, and that the detectors see
_SURE = 16  # characters after which what began is no longer the beginning of a prefix only
_REACH = 48  # from a word that announces something
# What providers put in front of a token: all letters up to the first character that is none.
_PREFIXES = (
    "sk rk pk gh gho ghp ghs ghu ghr gl glpat glsa glc xox xoxb xoxp xapp ey eyJ ya hf npm pypi dop dapi dckr dp hvs "
    "hvb shpat shpss sq sqa sqp sgp sntrys sntryu lin pscale ntn secret tfp whsec figd github rubygems pplx gsk xai "
    "tvly nfp glptt gldt pul rdme shippo duffel ops key pubkey xkeysib s"
)
_BEGUN = sorted({word[:size] for word in _PREFIXES.split() for size in range(1, len(word) + 1)}, key=len, reverse=True)
_PREFIX = "|".join(sorted(_PREFIXES.split(), key=len, reverse=True))
_START = re.compile(
    r"[\d@\uff20\ufe6b]"
    r"|[+(](?=[+\d]|\Z)"
    r"|(?<=[A-Za-z])_"
    r"|(?<=[A-Za-z0-9][._+%~-])[A-Za-z_]"
    r"|(?<=[a-z])[A-Z]"
    r"|(?<![A-Za-z0-9])[A-Z](?=[A-Z0-9]|\Z)"
    rf"|(?<![A-Za-z0-9_])(?:{_PREFIX})(?=[A-Z0-9_.~-])"
    rf"|(?<![A-Za-z0-9_])(?:{'|'.join(_BEGUN)})\Z"
    r"|[(\[](?= ?(?:[@aA]|\Z))|&(?=[#c]|\Z)"  # an at sign that is spelled
    r"|-----BEGIN|-{1,5}\Z|-----B(?:E|EG|EGI)?\Z"
)
_WORD = re.compile(r"(?<![A-Za-z0-9_.%+-])[A-Za-z_]")
_ANNOUNCES = re2.compile(
    r"(?i)pass(?:word|wort|wd|phrase|code)|\bpwd\b|secret|token|keys?\b|kennwort|contrase|\bclave\b|mot de passe|senha"
    r"|palavra-passe|wachtwoord|has[lł]o|парол|密[码碼钥鑰]|口令|パスワード|キー|비밀번호|비번|암호"
    r"|كلمة (?:المرور|السر)|पासवर्ड"
    r"|\bparol[ae]|şifre|\b(?:pass|pw|mdp|ww)[:=]|schlüssel|\bclé|\bchave|\bllave|\bchiave|\bklucz|ключ"
    r"|\blog-?in\b|zugangsdaten"
    r"|credential|\bcreds?\b|(?:access|client|app)[ _-]?(?:id|srt)\b|_auth|_pass|authorization"
    r"|mail\b|contact|reach|correo|courriel|write to|schreib|\bAn:|\bto:|user"
)
_STOP = re.compile(r"[\s\"`<>,(){}\[\]|]|(?<!&#64)(?<!&#x40)(?<!&commat);|'(?![\w.+%~&/=-]|\Z)")
# How addresses are written where no machine shall find them; the same as in content/pii.py.
_SPELLED = regex.compile(r" ?[(\[] ?(?:at|AT|@|dot|DOT|\.) ?[)\]] ?")
_KEY_BLOCK = "-----BEGIN"
UNENDING = re.compile(r"[^\s\"'`<>,;(){}\[\]|-]*")  # with it, what began surely goes on
_BETWEEN = re.compile(r"\)[ .\-/]?|[ \u00a0\u202f]?\(|[ -]-? ?|[./\t\u00a0\u202f]")
_LINE_END = re.compile(r"[ \t]?(?:\r\Z|\r?\n[ \t]?)")
_GROUP_OF_FOUR = re.compile(r"[0-9]{4}")  # of a card or an IBAN, which lines break
_MAX_WRAPPED = 40  # characters of those with their blanks
_COUNTRY = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d")
_GROUP = re.compile(r"[ -]([A-Za-z0-9]{0,5})")
_MAX_IBAN = 44  # with its blanks


def begins(text: str, at: int, words: WordStart) -> int:
    """Where from `at` on something may begin; the end of the text where nothing does."""
    found = _START.search(text, at)
    first = words(text, at, len(text) if found is None else found.start())
    seen = max(0, at - LOOK_BACK)
    if first == at:
        return at
    for announced in _ANNOUNCES.finditer(text[seen:first]):
        behind = seen + announced.end()
        word = _WORD.search(text, max(at, behind), min(first, behind + _REACH))
        if word is not None:
            return word.start()
    return first


def surely(text: str, start: int) -> bool:
    """Whatever follows, did something begin at `start`? A word alone may yet turn out to be one."""
    found = _START.search(text, start)
    return found is not None and found.start() < len(text) - _SURE


def ends(text: str, start: int, seen: int = 0, *, final: bool) -> tuple[int | None, int]:
    """Where what begins at `start` is over, None while that can't be known; and what to give as `seen` next time."""
    is_iban = _COUNTRY.match(text, start) or _COUNTRY.match(text, max(0, start - 2))
    end = max(seen, start + 1)  # whatever it is: there is progress
    while text[end : end + 1] in ("+", "("):
        end += 1
    spelled = _spelled(text, start)
    if spelled is not None:
        if spelled == len(text):
            return end if final else None, 0
        end = max(end, spelled)
    while True:
        seen = end
        end = _token_end(text, end)
        if end == len(text):
            return end if final else None, seen
        may_wrap = end - start < _MAX_WRAPPED and _GROUP_OF_FOUR.match(text, max(start, end - 4), end) is not None
        after = _goes_on(text, end, may_spell=is_iban is not None and end - start < _MAX_IBAN, may_wrap=may_wrap)
        if after is None or after == len(text):
            return end if final or after is None else None, seen
        end = after


def _token_end(text: str, at: int) -> int:
    stop = _STOP.search(text, at)
    end = len(text) if stop is None else stop.start()
    block = text.find(_KEY_BLOCK, at, end)
    return end if block < 0 else block


def _spelled(text: str, at: int) -> int | None:
    """Where an at sign or a dot that is spelled ends; the end of the text while that is not known, None without one."""
    if text[at : at + 1] not in (" ", "(", "["):
        return None
    found = _SPELLED.match(text, at, partial=True)
    return None if found is None else found.end()


def _goes_on(text: str, end: int, *, may_spell: bool, may_wrap: bool) -> int | None:
    """Where the next group begins; the end of the text while that is not known, None where there is no other group."""
    if may_wrap and (line := _LINE_END.match(text, end)) is not None:
        after = line.end()
        return after if after == len(text) or text[after].isdigit() else None
    if text[end - 1] == "@" and text[end] == " ":
        return end + 1
    between = _BETWEEN.match(text, end)
    if between is not None and text[end - 1].isdigit():
        after = between.end()
        if after == len(text) or text[after].isdigit():
            return after
    spelled = _spelled(text, end)
    if spelled is not None:
        return spelled
    group = _GROUP.match(text, end) if may_spell else None
    if group is None or len(group[1]) > 4:
        return None
    return len(text) if group.end() == len(text) else group.start(1)
