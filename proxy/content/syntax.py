"""A text spelled as the words of its syntax, so that a model of word n-grams sees the shape of an attack.

Names and values become `name` and `numb`; words of SQL, markup and script, operators, comments and quotes keep what
they are, behind four letters for their class, which is what the model takes for a word's stem. It sees no meaning, and
nothing of the words that somebody chose. Time and space are linear in the text's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SQL = """
all alter analyse and any as asc ascii attach backup begin benchmark between bin binary bit_length by call case cast
char choose chr coalesce collate column column_name concat concat_ws convert copy cos count crc32 create cross ctxsys
current_user cursor database db_name dbms_ldap dbms_lock dbms_pipe dbms_xmlgen declare decode degrees delay delete
desc distinct distinctrow div domain drop dual dumpfile else elt end escape exec execute exists exp extractvalue false
fetch floor for from full generate_series get_host_address glob greatest group group_concat gtid_subset handler having
hex if ifnull ignore iif ilike immediate in infile information_schema insert instr into is isnull join json
json_extract json_keys kill least left len length like limit load load_file lower ltrim make_set master md5 mid minus
mod name_const natural nchar not now null nullif nvarchar nvl object_id offset on only open openrowset or ord order
outer outfile pg_sleep pi position procedure quote_literal rand randn randomblob read receive receive_message regexp
rename repeat replace returning reverse revoke right rlike rollback row rownum schema select session_user set sha1
shutdown sign similar sin sleep sounds sp_executesql sp_password space sqlite_master strcmp string substr substring
sys sys_eval syscolumns sysobjects system_user table table_name table_schema tables text to_char top tran trim true
truncate try_convert uid unhex union unique unknown update updatexml upper use user using utl_http utl_inaddr values
varchar version waitfor when where while with xmltype xor xp_cmdshell xp_dirtree
"""
_PAGE = """
a action animate animatemotion animatetransform applet area article attributename audio autofocus b background base
behavior bgsound binding blink body br button canvas cdata center classid code codebase content contenteditable data
details dialog div doctype draggable dynsrc embed entity event expression fieldset font foreignobject form formaction
frame frameset h1 head href html http-equiv iframe image img import input isindex keygen label layer li link listener
lowsrc marquee math menu meta method mglyph mtext nobr noembed noscript object ol onclick open option p param path
picture plaintext portal poster pre refresh script section select set slot source spacer span src srcdoc srcset style
svg tabindex table target td template textarea title tr track type ul url use video wbr x xlink xml xmlns xmp xss
"""
_SCRIPT = """
alert atob bind btoa confirm console constructor cookie document domain eval fetch fromcharcode function globalthis
innerhtml let localstorage location map new open parent print prompt prototype return script self sessionstorage
setinterval settimeout source string this throw top tostring try typeof unescape var void window write writeln
xmlhttprequest
"""
_KNOWN = {word: "sqlw" + word.replace("_", "") for word in _SQL.split()}
_TAGS = {word: "tagz" + word for word in _PAGE.split()}
_ATTRIBUTES = {word: "attr" + word.replace("-", "") for word in _PAGE.split()}
_CALLS = {word: "func" + word.replace("_", "") for word in (*_SQL.split(), *_SCRIPT.split())}
_JS = {word: "jscr" + word for word in _SCRIPT.split()}
_LOGIC = {"or": "logior", "and": "logiand", "xor": "logixor", "not": "loginot",
          "like": "cmprlike", "rlike": "cmprrlike", "regexp": "cmprregexp", "between": "cmprbetween", "div": "aritdiv",
          "mod": "aritmod"}  # fmt: skip
_SIGNS = {
    "=": "cmprequal", "<": "cmprless", ">": "cmprmore", "<=": "cmprle", ">=": "cmprge", "<>": "cmprne", "!=": "cmprne",
    "<=>": "cmprsafe", "==": "twoequals", "=>": "arrow", "+": "aritplus", "-": "aritminus", "*": "aritstar",
    "/": "aritslash", "%": "aritpercent", "^": "aritcaret", "~": "arittilde", "(": "paro", ")": "parc", "[": "brao",
    "]": "brac", "{": "curo", "}": "curc", ",": "comma", ";": "semi", ":": "colon", ".": "dot", "?": "ask",
    "!": "bang", "|": "pipe", "&": "ampersand", "\\": "backslash", "$": "dollar", "@": "at", "--": "cmntdashes",
    "#": "cmnthash", "/*": "cmntopen", "*/": "cmntclose", "/*!": "cmntrun", "<!--": "cmntmarkup", "-->": "cmntend",
    "::": "castcolons", "//": "slashes", "/>": "tagselfend", "@@": "varzserver", "||": "logipipes", "&&": "logiamps",
}  # fmt: skip
_QUOTES = {
    "'": "quots", "\u2018": "quots", "\u2019": "quots", "\xb4": "quots",
    '"': "quotd", "\u201c": "quotd", "\u201d": "quotd", "`": "quotb",
}  # fmt: skip

_TOKEN = re.compile(
    r"(?P<mail>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8})"
    r"|(?P<number>0x[0-9a-f]+|\d[\d.]*(?:e\d+)?(?![a-z]))"
    r"|(?P<close></\s*[a-z][\w:-]*)"
    r"|(?P<tag><[^\w\s<>=]{0,3}[a-z][\w:-]*)"
    r"|(?P<event>\bon[a-z]{3,25}(?=[\s+/\x00]*=))"
    r"|(?P<scheme>(?:java|vb|live)\s?script\s*:|data:(?=[\w,;]))"
    r"|(?P<word>@{0,2}[a-z_][\w$]*(?:'(?:s|t|re|ve|ll|d|m)\b)?)"
    r"|(?P<sign><!--|-->|/\*!|/\*|\*/|--|<=>|<>|<=|>=|==|=>|!=|\|\||&&|::|//|/>|@@|[-=<>+*/%^~()\[\]{},;:.?!|&\\$@#])"
    r"|(?P<quote>['\"`\u2018\u2019\u201c\u201d\xb4])"
)

# Tables and packages in which databases describe and administer themselves.
_SYSTEM = re.compile(
    r"(?:all|user|dba|sys|pg|dbms|utl|xp|sp|msys|sqlite|lo|st|ctxsys|innodb|performance)_\w|rdb\$|sys[a-z]{3}"
    r"|information_schema|mysql$|v\$|master$"
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """The words, with a space between them, and where in the text each begins and ends."""

    words: str
    places: tuple[tuple[int, int], ...]

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where in the text the words stand that `words[start:end]` is made of."""
        first, last = self.words.count(" ", 0, start), self.words.count(" ", 0, max(start, end - 1))
        return (self.places[first][0], self.places[last][1]) if self.places else (0, 0)


def spell(text: str) -> Spelling:
    """Spell a text's syntax; what is no token of it (spaces, letters of other scripts, pictures) is left out."""
    text = _lowered(text)
    words, places = [], []
    opened: set[str] = set()
    for found in _TOKEN.finditer(text):
        match found.lastgroup:
            case "sign":
                words.append(_SIGNS[found[0]])
            case "quote":
                words.append(_quote(found, text, opened))
            case _:
                words.append(_word(found, text))
        places.append(found.span())
    return Spelling(" ".join(words), tuple(places))


def _lowered(text: str) -> str:
    """In small letters, each where it was: a few capitals have two."""
    small = text.lower()
    return small if len(small) == len(text) else "".join(c if len(c.lower()) > 1 else c.lower() for c in text)


def _word(found: re.Match[str], text: str) -> str:
    token, end = found[0], found.end()
    match found.lastgroup:
        case "mail":
            return "name"
        case "number":
            return "numbhex" if token.startswith("0x") else "numb"
        case "word":
            return _named(token, text[end : end + 1], text[end : end + 12].lstrip()[:1])
        case "tag":
            return _TAGS.get(token.lstrip("</!?%\\&;-\"'"), "tagzname")
        case "close":
            return "tend" + _TAGS.get(token.lstrip("</ \t\n"), "name")
        case "event":
            return "evnt" + token
        case _:
            if token.startswith("data"):
                return "schmdata"
            return "schmloose" if text[end : end + 1].isspace() else "schmscript"


def _quote(found: re.Match[str], text: str, opened: set[str]) -> str:
    """A quote: what stands right beside it, and whether it opens, closes, or closes what nothing opened."""
    quote = _QUOTES[found[0]]
    before, after = _beside(text, found.start() - 1), _beside(text, found.end())
    if quote in opened:
        opened.discard(quote)
        state = "c"
    elif before == "w":
        state = "x"
    else:
        opened.add(quote)
        state = "o"
    return quote + before + after + state


def _named(word: str, next_to: str, following: str) -> str:
    if word[0] == "@":
        return "varzserver" if word.startswith("@@") else "varz"
    if word in _LOGIC:
        return _LOGIC[word]
    if following == "(" and word in _CALLS:
        return _CALLS[word]
    if _SYSTEM.match(word):
        return "sysw" + ("call" if following == "(" else "name")
    if word in _KNOWN:
        return _KNOWN[word]
    if word in _JS:
        return _JS[word]
    if following == "=" and word in _ATTRIBUTES:
        return _ATTRIBUTES[word]
    return "callname" if next_to == "(" else "name"


def _beside(text: str, at: int) -> str:
    """What stands there: nothing, a letter or digit, a space, or something else."""
    if not 0 <= at < len(text):
        return "e"
    if text[at].isalnum() or text[at] == "_":
        return "w"
    return "s" if text[at].isspace() else "p"
