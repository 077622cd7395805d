"""What the words in front of a number say that it is: a phone, an account, a policy, or something else altogether."""

# ruff: noqa: RUF001 - Turkish and Cyrillic letters are meant

from __future__ import annotations

import re
from bisect import bisect_left

import re2

MAX_GAP = 30  # characters between an account or a policy and its number
_NUMBER = r"(?:\W{0,3}(?:numbers?|num|no|nr|id|code)\b)?"

# English; German, French, Spanish, Italian, Portuguese, Dutch, Polish, Turkish; other scripts. RE2's \b is ASCII's.
_WORDS = {
    "policy": (
        rf"\b(?:insurance|policy|member|subscriber|medicare|medicaid|health plan){_NUMBER}|\bmbi\b",
        r"\begk\b|versicher\w*|krankenkasse\w*|\bpolice\b|assurance|p[oó]lizas?|seguro|polizza|assicurazione",
        r"ap[oó]lice",
        r"verzekering\w*|polis(?:nummer|y|[aeę]|\b)|ubezpiecze\w*|sigorta\w*",
        r"poliçe(?: numara\w*)?|försäkring\w*|보험|증권",
        r"полис\w*|страхов\w*|بوليصة|تأمين|बीमा|पॉलिसी|保单|保單|保险|保險|保険|証券番号",
    ),
    "account": (
        rf"\b(?:account|acct|acc|a/c)\b\.?{_NUMBER}",
        r"\bkonto(?:nummer|nr|\b)|\bkto\b|bankverbindung|\bcompte\b|\bcuenta\b|\bconto\b|\bconta\b|rekening\w*",
        r"\brachun\w*|\bkonta\b|\btilinumero|계좌",
        r"\bhesa[pb]\w*(?: numara\w*)?|сч[её]т\w*|حساب|खाता|खाते|账号|帳號|账户|帳戶|口座\w*",
    ),
    "ssn": (r"\bssn\b|social.?security|\bsocial\b",),
    "phone": (
        r"\bphones?\b|telephone|\btel\b|\bmobile\b|\bcell(?:phone)?\b|\bfax\b|whats.?app|\bsms\b",
        r"\btext(?:ed)? (?:me|us)\b|\bdial\b|\bcall(?:ed|ing|s)?\b|\breach\b|\bring\b|\bphon(?:e|ed|ing) (?:me|us)\b",
        r"\banswering\b|\bmessages? to\b|\bregistered\b|\bhotline\b|\bcontact(?:s|ed|er|ez|ar\w*|o|e)?\b",
        r"\bdesk\b|\bviber\b|\bsignal\b",
        r"\bfijo\b|\blandline\b|\bfestnetz\w*|\bmob\b|\bph[.:]|\btelegram\b|\btelefon\w*|\bhandy\w*|\bmobil\w*",
        r"rufnummer|\banrufen\b|\bruf\w* mich|r[üu]ckruf\w*|\berreich(?:e|en|st|t|bar)\b|durchwahl",
        r"\bgsm\b|\bcontat\w*|\bkontakt\w*",
        r"\brappel\w*|joignable|\brecapito\b|\bfixe\b|\bwhats\b|\bfone\b|\bzap\b|\bbereik\w*",
        r"\bapp (?:me|mij)\b|\bmobiel\w*|\bdzwoni\w*|\bulaş\w*|\bnumara\w*|\bpuhelin\w*",
        r"\bsoita\b|\bvolejte\b|\bhívj\w*|\bhubungi\b|\bwa\b|\bhp\b|\bgọi\b",
        r"t[eé]l[eé]phone|\bportable\b|\bappel\w*|\bjoindre\b|tel[eé]fonos?|m[oó]vil|celular",
        r"\bll[aá]m\w*|telefono|cellulare|chiam\w*|telefone|telem[oó]vel|\bligu\w*|\bligar\b|telefoon\w*",
        r"\bbel(?:len)?\b",
        r"zadzwo\w*|\bkom[oó]rk\w*|numaram|\barayın|\baramak\b|\btlf?\b|\btelp\b|\bpuh\b|\bcel\b|\bfono\b",
        r"τηλ[έε]?\w*|κινητ[όο]|טלפון|נייד|โทร|เบอร์|điện thoại|전화|휴대폰|연락처",
        r"телефон\w*|тел[.:]|позвон\w*|звон\w*|мобильн\w*|дзвон\w*|свя[зж]\w*|контакт\w*|наберите|в[ао]тсап",
        r"هاتف|جوال|اتصل|واتس|موبايل|محمول|تلفون",
        r"התקשר|וואטסאפ|फ़ोन|फोन|मोबाइल",
        r"电话|電話|手机|手機|携帯|致电|連絡先|联系|聯絡|打给|핸드폰|कॉल",
    ),
    "thing": (
        r"\btracking\b|\bshipments?\b|\bparcels?\b|\barticle\b|\bsku\b|\bisbn\b|\bissn\b|\bean\b|\bupc\b|\bbarcode\b",
        r"\bversion\b|\bbuild\b|\bcommit\b|\btime ?stamps?\b|\bepoch\b|\bserial\b|\bpart\b|\bmodel\b|\bartikel\w*",
        r"\bsendung\w*|\bcolis\b|\bart[ií]culo\b",
    ),
    "other": (
        r"\border\w*|\btickets?\b|\binvoices?\b|\bpackage\b|\bcase\b|\bref(?:erence)?\b|\bzip\b|\bpost(?:al|code)\w*",
        r"\brouting\b|\bblz\b|\bsort.?code\b|\bbic\b|\bswift\b|\biban\b|\bcards?\b|\btransaction\w*|\bport\b|\bpid\b",
        r"\bbug\b|\bissue\b|\bcustomer\b|\buser\b|\bids?\b|\bbooking\b|\breservation\b|\bflight\b|\blottery\b",
        r"\btotal\b|\bmaximum\b|\brandom\b|\bbalance\b|\bsaldo\b|\bkontostand\b",
        r"\breturn(?:ed|s)\b|\berror\b|\bcode\b|\bpin\b|\bprice\b|\bamount\b|\bproduct\b|\bitem\b",
        r"licen[cs]e|passport|\btax\b|\bitin\b",
        r"\bbestell\w*|\bauftrag\w*|\brechnung\w*|\bkunden\w*|\bcommandes?\b|\bfactures?\b|\bpedidos?\b|\bfacturas?\b",
        r"\bordine\b|\bfattura\b|\bencomenda\b|\bzam[oó]wieni\w*|\bsipari[sş]\w*|заказ\w*|订单|訂單|注文|طلب",
    ),
}
_WORD = re2.compile("(?i)" + "|".join(f"(?P<{kind}>{'|'.join(words)})" for kind, words in _WORDS.items()))
_NUMBER_WORD = re2.compile(
    r"(?i)number|\bmy no\b|numero|número|numéro|nummer|numeroni|numer|nomor|numărul|номер|رقم|号码|號碼|番号|번호|नंबर"
)
_JUST_NUMBER = re.compile(
    r"\W{0,3}(?:(?:is|was|ist|es|est|è|é|e|er|är|on|to|meu|saya|le|el|die|ي|는|은)\W{1,3}){0,2}\Z", re.IGNORECASE
)
_NO_DIGITS = str.maketrans(dict.fromkeys("0123456789", " "))
LOOK_BACK = 64  # characters in which a word announces a number


class Hints:
    """What the words of a text say of what stands behind them. One search for all places: linear in the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: list[int] | None = None
        self._found: list[tuple[int, str]] = []
        self._numbers: list[tuple[int, int]] = []

    def at(self, place: int) -> str:
        """What the nearest word before `text[place:]` says: a key of _WORDS (`thing` is nobody's, `other` none of
        these), or "" for nothing.
        """
        if self._starts is None:
            self._starts = self._search()
        nearest = ""
        if (last := bisect_left(self._starts, place) - 1) >= 0 and self._starts[last] >= place - LOOK_BACK:
            end, nearest = self._found[last]
            if nearest in ("account", "policy") and place - end > MAX_GAP:
                nearest = ""
        return "phone" if nearest == "" and self._is_just_number(place) else nearest

    def _search(self) -> list[int]:
        words = self._text.translate(_NO_DIGITS)  # so that a word ends where a number begins
        matches = list(_WORD.finditer(words))
        self._found = [(match.end(), match.lastgroup or "") for match in matches]
        self._numbers = [match.span() for match in _NUMBER_WORD.finditer(words)]
        return [match.start() for match in matches]

    def _is_just_number(self, place: int) -> bool:
        last = bisect_left(self._numbers, (place, 0)) - 1
        if last < 0 or self._numbers[last][0] < place - LOOK_BACK:
            return False
        return _JUST_NUMBER.match(self._text, self._numbers[last][1], place) is not None
