"""Keys, tokens and passwords: by the prefix their provider gives them, or by the word that they are assigned to.

What it finds: the tokens that tokens.py knows, private keys, passwords in URLs, and values that look random or carry
digits behind a word such as `password` or `token`. What it doesn't: a secret that no word and no prefix announces, and
a password of letters only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import log2

import re2

from proxy.content import Span
from proxy.content.passwords import passwords
from proxy.content.tokens import FORMS, named_tokens

_options = re2.Options()
_options.max_mem = 32 << 20  # bytes of remembered states; with RE2's 8 MiB it forgets, and complains, on long texts
_TOKEN = re2.compile(
    r"(?:^|[^A-Za-z0-9_])(" + "|".join(form for forms in FORMS.values() for form in forms) + ")", _options
)
_KEY_BLOCK = re2.compile(
    r"-----BEGIN[ A-Z0-9_-]{0,60}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-[^-]){40,}(?:-----END[ A-Z0-9_-]{0,60}-----)?"
    r"|PuTTY-User-Key-File-\d:(?:[^\x00]){40,}"
)
_MANIFEST = re.compile(r"kind:\s{0,4}[\"']?secret\b", re.IGNORECASE)  # of Kubernetes; its values are base64
_ENTRY = re.compile(
    r"^[ \t]{1,16}[\w.-]{1,64}:[ \t]{1,4}[\"']?([A-Za-z0-9+/]{10,512}={0,2})[\"']?[ \t]{0,4}$", re.MULTILINE
)
_IN_URL = re2.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@\"'<>]{0,64}:([^\s@/\"'<>]{3,})@")
_CURL_USER = re2.compile(r"(?:\s-u|--user)[ =]?[\"']?[^\s:\"']{1,64}:([^\s\"']{4,})")
_AUTHORIZATION = re2.compile(
    r"(?i)authorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?:(?:bearer|basic|token|apikey)\s{1,2})?([A-Za-z0-9_.~+/=:-]{12,1000})"
)
_BEARER = re2.compile(r"(?i)\bbearer\s+([A-Za-z0-9_.~+/-]{20,1000}=*)")
_BEHIND_SIGNS = (_IN_URL, _CURL_USER, _AUTHORIZATION, _BEARER)
_SIGNS = re2.compile(r"(?i)://|\s-u|--user|authorization|bearer")  # one search in place of four
_WORDS = (
    r"(?:token|secrets?|pass?wor[dt]s?|passwd|pwd|passphrase|passcode|passwort|kennwort|contrase(?:ñ|n)a|clave"
    r"|mot de passe|senha|palavra-passe|wachtwoord|has[lł]o|парол[ья]|密码|密碼|口令|パスワード|暗証番号|비밀번호|비번"
    r"|암호|كلمة (?:المرور|السر)|पासवर्ड|parol[ae](?: d'ordine|m\b)?|şifre(?:m|si)?|\bpass\b|\bpw\b|\bmdp\b|\bww\b"
    r"|(?:api|access|auth|private|secret|signing|encryption)[ _-]?keys?"
    r"|(?:account|license)[ _-]?keys?|access[ _-]?id|client[ _-]?(?:secret|srt|id)|app[ _-]?(?:secret|id)"
    r"|schlüssel|\bclé|\bclave|\bchave|\bllave|\bchiave|\bklucz|ключ|密钥|密鑰|キー"
    r"|credentials?|\bcreds?\b|_creds?\b|_auth|_pass|\bkeys?\b|_keys?\b|(?-i:[a-z]Keys?)\b)"
)
_WORD = re2.compile("(?i)" + _WORDS)
# What may stand behind the word in code and prose, and the beginning of the value.
_VALUE = re.compile(
    r"[A-Za-z0-9_.\[\]-]{0,32}[\"'`*\\]{0,3}"
    r"(?:(?:\s(?:for|of|on|to|in|at|de|del|do|da|du|von|für|zu|zum|pour|sur|per|di|van|voor|dla|do|для|от|к)(?:\s[\w'-]{1,20}){1,3}?"
    r"|(?P<topic>\s(?!is|are|ist|lautet|est?|é|è|to)[\w'-]{1,20}))(?=\s{0,2}(?:[:=](?!//)|(?:is|ist|est?)\b)))?"
    r"(?:\s{0,8}(?:=>|:{1,3}=|->|==?|:|\|\|:?|,|>|→|\||是|为|為|は|는|은)\*{0,3}|\s-(?=\s)|\s{1,3}(?:is|are|ist|lautet|es|est|é|è|to|هي|هو|है)\b:?|\s)"
    r"\s{0,8}(?:```\w{0,8}\s{1,4})?(?:[a-z]{1,8}\()?\\?(?P<quote>[\"'`(]?)(?P<value>(?:[^\s\"'`<]|<(?!/)){6,64})",
    re.IGNORECASE,
)
_ENGLISH = "pass?w|pass|pwd|pw"
_FOREIGN = (
    r"passwort|kennwort|contrase|clave|mot de passe|mdp|senha|palavra-passe|wachtwoord|ww|has[lł]o|парол|密"
    r"|口令|パス|暗証|비밀|비번|암호|كلمة|पासवर्ड|parol|şifre"
)
_PASSWORD = re.compile(f"{_ENGLISH}|{_FOREIGN}", re.IGNORECASE)
_PASSWORD_ABROAD = re.compile(_FOREIGN, re.IGNORECASE)
_SHORT = re.compile(r"(?:pass|pw|ww|mdp)\b", re.IGNORECASE)  # words that mean other things, too
_PASSES = re.compile(r"pass\b")
# In front of a word for passwords: whose it is, so that what follows is one.
_WHOSE = re.compile(
    r"\bmy \Z|\b(?:user(?:name)?|log-?in|usuario|benutzer(?:name)?|логин)\b[^\n]{1,40}\Z", re.IGNORECASE
)
_STRONG = re.compile(r"[A-Za-z0-9][@#$%^&*+!~][A-Za-z0-9]|[a-z][0-9]+[A-Za-z]|[0-9][!@#$%^&*?+~]")
_LOUD = re.compile(r"[A-Za-z0-9][#$%^*+!~][A-Za-z0-9]")
_HOLLOW = re2.compile(
    r"(?i)\*{3}|#{4}|0{12}|0123456789|\.{3}|x{4}|your|<|\$\{|\{\{|\$\(|%\(|%s|example(?:[^a-z]|\z)|placeholder|redacted|dummy"
    r"|change[ _-]?(?:me|this)|replace[ _-]?(?:me|this|with)|\A[$%{\[<(]|[A-Za-z_]\(|\A(?:[a-z]{3,4}-)?1234567890\z"
    r"|\A(?:pass(?:word|wd)?|secret|root|admin|user|guest|test|postgres|mysql|token)\z"
)
_NAMES = re.compile(r"[A-Za-z_]\w{0,24}(?:\.[A-Za-z_]\w{0,24})+")  # a.b.c, of code
# A name in front of the word that says that what follows is none, or may be known.
_INNOCENT = re.compile(
    r"(?:public(?:[ _-]?key)?|fake|dummy|mock|example|sample|invalid|wrong|non[a-z]{0,12}|not)[ _-]?\Z", re.IGNORECASE
)
_LONGEST_NAME = 24
_VARIABLE = re.compile(
    r"[a-z]+(?:_[a-z]+)+\d{0,2}|[a-z]+_v\d|\w+(?:/[\w-]+)*/[\w-]+\.[a-z]{2,4}|(?:[a-z]+[+-])+\w{1,3}|\d+[a-z]+"
)
_FIELD = re.compile(r"[a-z]\w{0,24}(?:\.[a-z]\w{0,24}){2,}")
_ODD = re.compile(r"[A-Za-z][_=!@#$%^&*~-][A-Za-z]")
_DIGIT = re.compile(r"\d")
_SIGN = re.compile(r"[=:>]")
_ASSIGNS = re.compile(r"[=:>→|,是为為は]|[는은]\s|\s(?:is|are|ist|lautet|es|est|é|è|to|هي|هو|है)\s", re.IGNORECASE)
_REST = re.compile(r"(?:[^\s\"'`<]|<(?!/))*")
_ENDS = ".,;:)]}>\\"  # what doesn't belong to a value at its end; of a password ! and ? may
# Where the script has no blanks, or puts particles behind: the value is the ASCII in front.
_IN_A_SENTENCE = re.compile(r"([!-~]+)[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
_LINE_END = re.compile(r"[ \t]*(?:\r?\n|\Z)")
_LONGEST_LABEL = 24
_LOOK_BACK = 64
_LEAST_ENTROPY = 2.8  # bits a character; a number of 16 digits has at most 3.3, a word of 12 letters about 3


def secrets(text: str) -> Iterator[Span]:
    """Spans of kind `secret`, in no order; they may overlap. `text` is folded."""
    for match in _TOKEN.finditer(text):
        token = match[1]
        if token.startswith("AGE-") or (_entropy(token) > _LEAST_ENTROPY and not _is_hollow(token)):
            yield Span(match.start(1), match.end(1), "secret")
    if "PRIVATE KEY" in text or "PuTTY" in text:
        for match in _KEY_BLOCK.finditer(text):
            yield Span(match.start(), match.end(), "secret")
    for pattern in _BEHIND_SIGNS if _SIGNS.search(text) else ():
        for match in pattern.finditer(text):
            if not _is_hollow(match[1]) and (pattern is _IN_URL or _is_mixed(match[1])):
                yield Span(match.start(1), match.end(1), "secret")
    if _MANIFEST.search(text):
        yield from _entries(text)
    yield from _assigned(text)
    for start, end in (*passwords(text), *named_tokens(text)):
        yield Span(start, end, "secret")


def _entries(text: str) -> Iterator[Span]:
    for match in _ENTRY.finditer(text):
        if len(match[1]) % 4 == 0 and _is_mixed(match[1]):
            yield Span(match.start(1), match.end(1), "secret")


def _assigned(text: str) -> Iterator[Span]:
    """One search for all words, and one look behind each: a search from behind every word on would be quadratic."""
    at = 0
    for word in _WORD.finditer(text):
        match = _VALUE.match(text, word.end()) if word.start() >= at else None
        if match is None or _INNOCENT.search(text, max(0, word.start() - _LONGEST_NAME), word.start()):
            continue
        start, is_quoted = match.start("value"), match["quote"] in ('"', "'", "`")
        said = text[word.start() : start]
        is_password = _PASSWORD.search(said) is not None
        is_short = _SHORT.match(said) is not None
        if (is_password and match["topic"]) or (is_short and "," in said):  # `password policy: 8chars`, columns
            continue
        value = _trimmed(match["value"], is_password=is_password, is_quoted=is_quoted)
        is_said = _is_said(text, word.start(), said, match.end())
        is_secret = is_password and _is_password(value, is_quoted=is_quoted, is_said=is_said)
        if is_secret or (not is_short and _is_secret(value, said, is_quoted=is_quoted)):
            rest = _REST.match(text, start)
            at = start + len(_trimmed(rest[0] if rest else value, is_password=is_password, is_quoted=is_quoted))
            yield Span(start, at, "secret")


def _trimmed(value: str, *, is_password: bool, is_quoted: bool) -> str:
    """The value without what the sentence puts behind it."""
    if is_quoted:
        return value.rstrip("\\")
    if is_password and (inside := _IN_A_SENTENCE.match(value)):
        value = inside[1]
    return value.rstrip(_ENDS if is_password else _ENDS + "!?")


def _is_said(text: str, start: int, said: str, end: int) -> bool:
    """Does the word for a password in `said` say that the value follows, and isn't just mentioned?"""
    if "\n" in said and not _SIGN.search(said):  # a label on a line of its own, and so the value
        line = text.rfind("\n", max(0, start - _LONGEST_LABEL), start)
        return (line >= 0 or start < _LONGEST_LABEL) and _LINE_END.match(text, end) is not None
    if _WHOSE.search(text, max(0, start - _LOOK_BACK), start):
        return True
    if _PASSES.match(said) and text[max(0, start - 2) : start - 1].isalpha():
        return False  # as in `all tests pass: node20`
    return _ASSIGNS.search(said) is not None or (
        _PASSWORD_ABROAD.search(said) is not None and _SHORT.match(said) is None
    )


def _is_password(value: str, *, is_quoted: bool, is_said: bool) -> bool:
    if len(value) < 6 or _is_hollow(value) or "://" in value or (not is_quoted and _FIELD.fullmatch(value)):
        return False
    if _is_mixed(value):
        return is_said or is_quoted or _STRONG.search(value) is not None
    return is_said and ((is_quoted and _is_odd(value)) or _LOUD.search(value) is not None)


def _is_secret(value: str, word: str, *, is_quoted: bool) -> bool:
    if _is_hollow(value) or "://" in value or not _is_mixed(value):
        return False
    if not is_quoted and (_FIELD.fullmatch(value) or _NAMES.fullmatch(value) or _VARIABLE.fullmatch(value)):
        return False
    if value.isdigit():
        return len(value) >= 12 and _entropy(value) >= 2
    is_bare = not is_quoted and not _SIGN.search(word)  # in prose, `the key X` or `my key is X`
    return len(value) >= (16 if is_bare else 8) and _entropy(value) >= (3.2 if is_bare else _LEAST_ENTROPY)


def _is_mixed(value: str) -> bool:
    return _DIGIT.search(value) is not None


def _is_odd(value: str) -> bool:
    """Letters with something in between that words don't have."""
    return len(value) >= 8 and _ODD.search(value) is not None


def _is_hollow(value: str) -> bool:
    """A stand-in, a variable or a piece of code."""
    return _HOLLOW.search(value) is not None


def _entropy(text: str) -> float:
    """Shannon's, in bits a character."""
    size = len(text)
    return -sum(count / size * log2(count / size) for count in Counter(text).values())
