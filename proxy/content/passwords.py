"""Passwords with no word like `password` right in front: in commands, in pairs with a name, PINs; tokens over lines.

What it finds: what command line programs take as a password, `login: ann / b1ue-moon`, digits behind PIN and CVV, JSON
Web Tokens over several lines. What it doesn't: programs that aren't listed, and values of letters only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import re2

_VALUE = r"[\"']?([^\s\"'`<>|;]{3,})"
_QUOTED = r"['\"]([^'\"\n]{3,})['\"]"
_COMMANDS = (
    # -p right in front of it: with a blank, MySQL's programs ask for it, and what follows is a database
    rf"\b(?:mysql|mysqldump|mysqladmin|mysqlimport|mariadb)\b[^\n]*?\s-p{_VALUE}",
    rf"\bsshpass\s+-p ?{_VALUE}",
    rf"\b(?:docker|podman|nerdctl|helm registry|skopeo|oc|az|cf)\s+login\b[^\n]*?\s-p ?{_VALUE}",
    rf"\b(?:mongo|mongosh|mongodump|mongorestore|sqlcmd|7z|unrar|mosquitto_(?:pub|sub))\b[^\n]*?\s-[pP] ?{_VALUE}",
    rf"\bredis-cli\b[^\n]*?\s-a {_VALUE}",
    rf"\bldap(?:search|modify|add|whoami)\b[^\n]*?\s-w {_VALUE}",
    rf"\b(?:smbclient|rpcclient|winexe)\b[^\n]*?\s-U ?[\"']?[^\s%\"']+%{_VALUE}",
    rf"\bhtpasswd\s+-[a-zA-Z]*b[a-zA-Z]*\s+\S+\s+\S+\s+{_VALUE}",
    rf"\bnet\s+(?:use|user)\s+(?:[a-zA-Z]:\s+)?[^\s/]+\s+{_VALUE}\s+/",
    rf"(?:-pass(?:in|out)?|-k)\s+pass:{_VALUE}",
    rf"(?i)\b(?:identified\s+(?:with\s+\S+\s+)?by|with\s+(?:encrypted\s+)?password)\s+{_QUOTED}",
    rf"(?i)\bConvertTo-SecureString\s+(?:-String\s+)?{_QUOTED}",
)
_COMMAND = re2.compile("|".join(f"(?:{command})" for command in _COMMANDS))
_SAYS = r"(?:is|are|ist|sind|lautet|son|es|sont|est|sono|jest|to|è|é|e|är|er|:|=|は|是|为|는|은)"
_IS = rf"[ \t]{{0,2}}{_SAYS}?[ \t]{{0,2}}"
_NAME, _LONG_VALUE = r"[\w.@+-]{2,64}", r"([^\s/:|<>\"'`]{6,64})"
_PAIR = re2.compile(
    r"(?i)(?:\b(?:log-?in(?: details| data)?|logins|credentials|zugang(?:sdaten)?|anmeldedaten|identifiants?|acceso"
    r"|credenciales|credenciais|credenziali|inloggegevens|dane logowania)|доступ|логин|账号密码)[ \t]{0,2}"
    rf"(?:{_SAYS}[ \t]{{0,2}}{_NAME}[ \t]?[/:|][ \t]?{_LONG_VALUE}|{_NAME}[:|]{_LONG_VALUE})"
)
_ALONE = r"(?:[^0-9A-Za-z.,:/-]|[.,:/-](?:[^0-9]|\z)|\z)"  # no part of a longer number
_PIN = re2.compile(
    r"(?:\b(?:PIN|[Pp]in ?[Cc]ode|PIN-?[Cc]ode)"
    r"|(?i:\b(?:my|card|mein|meine|mijn|mi|mio|mon|meu|mój|code|sim|debit|atm|bank) pin"
    r"|\bpin(?:=|:)|\bgeheimzahl|пин(?:-?код)?|\bpin kodu?m?|PIN码|暗証番号|비밀번호|\bnip))"
    rf"(?i:{_IS})([0-9]{{4,8}}){_ALONE}"
    rf"|(?i:\b(?:cvv2?|cvc2?|csc|security code|prüfziffer|prüfnummer|cryptogramme){_IS})([0-9]{{3,4}}){_ALONE}"
)
# A year behind the word alone; six digits are a postal code in India.
_OTHER_PIN = re.compile(r"PIN ?(?:19|20)[0-9]{2}|.*pin ?code.*?[0-9]{6}", re.IGNORECASE)
_WRAPPED = r"[A-Za-z0-9_-]+(?:[ \t]?\r?\n[ \t]{0,4}[A-Za-z0-9_-]+)*"
_DOT = r"[ \t]?(?:\r?\n)?[ \t]{0,4}\.[ \t]?(?:\r?\n)?[ \t]{0,4}"
_BROKEN_TOKEN = re2.compile(
    rf"\beyJ{_WRAPPED}{_DOT}ey{_WRAPPED}{_DOT}[A-Za-z0-9_-]{{10,}}(?:[ \t]?\r?\n[ \t]{{0,4}}[A-Za-z0-9_-]{{8,}})*"
)
_DIGIT_AND_LETTER = re.compile(r"(?=.*[0-9]).*[^\W\d_]", re.DOTALL)
_HOLLOW = re2.compile(r"(?i)\A[$%{\[(-]|\A(?:password|passwd|pass|secret|xxx+|\*+|\.+)\z|\A:?\d{1,5}\z|your")
_WORTH_A_LOOK = re2.compile(
    r"(?i)\s-[pawUk]|pass:|htpasswd|identified|securestring|encrypted password|\bnet\s+use|log-?in|credential|zugang"
    r"|anmelde|identifiant|acceso|credenc|credenz|inlog|logowania|доступ|логин|账号|pin|geheimzahl|пин|暗証|비밀번호|\bnip\b"
    r"|\bcvv|\bcvc|\bcsc|security code|prüf|cryptogramme|eyJ"
)


def passwords(text: str) -> Iterator[tuple[int, int]]:
    """Where they are, in no order; they may overlap. `text` is folded. Linear in its length."""
    if _WORTH_A_LOOK.search(text) is None:
        return
    for match in _COMMAND.finditer(text):
        start, end = match.span(match.lastindex or 0)
        if not _HOLLOW.search(text[start:end]):
            yield start, end
    for match in _PAIR.finditer(text):
        start, end = match.span(match.lastindex or 0)
        value = text[start:end].rstrip(".,)")
        if _DIGIT_AND_LETTER.match(value) and not _HOLLOW.search(value):
            yield start, start + len(value)
    for match in _PIN.finditer(text):
        start, end = match.span(match.lastindex or 0)
        if not _OTHER_PIN.fullmatch(text[match.start() : end]):
            yield start, end
    if "\n" in text:
        for match in _BROKEN_TOKEN.finditer(text):
            yield match.span()
