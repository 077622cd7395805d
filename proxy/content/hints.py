"""What the words in front of a number say that it is: a phone, an account, a policy, or something else altogether."""

# ruff: noqa: RUF001 - Turkish and Cyrillic letters are meant

from __future__ import annotations

import re

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
        r"\btext(?:ed)? (?:me|us)\b|\bdial\b|\bcall(?:ed|ing|s)?\b|\breach\b|\bring\b",
        r"\banswering\b|\bmessages? to\b|\bregistered\b|\bhotline\b|\bcontact\b|\bdesk\b|\bviber\b|\bsignal\b",
        r"\btelegram\b|\btelefon\w*|\bhandy\w*|\bmobil\w*",
        r"rufnummer|\banrufen\b|\bruf\w* mich",
        r"t[eé]l[eé]phone|\bportable\b|\bappel\w*|\bjoindre\b|tel[eé]fonos?|m[oó]vil|celular",
        r"\bll[aá]m\w*|telefono|cellulare|chiam\w*|telefone|telem[oó]vel|\bligu\w*|\bligar\b|telefoon\w*",
        r"\bbel(?:len)?\b",
        r"zadzwo\w*|\bkom[oó]rk\w*|numaram|\barayın|\baramak\b|\btlf?\b|\btelp\b|\bpuh\b|\bcel\b|\bfono\b",
        r"τηλ[έε]?\w*|κινητ[όο]|טלפון|נייד|โทร|เบอร์|điện thoại|전화|휴대폰|연락처",
        r"телефон\w*|тел[.:]|позвон\w*|звон\w*|мобильн\w*|هاتف|جوال|اتصل|फ़ोन|फोन|मोबाइल",
        r"电话|電話|手机|手機|携帯|致电",
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
        r"\bcode\b|\bpin\b|\bprice\b|\bamount\b|\bproduct\b|\bitem\b|licen[cs]e|passport|\btax\b|\bitin\b",
        r"\bbestell\w*|\bauftrag\w*|\brechnung\w*|\bkunden\w*|\bcommandes?\b|\bfactures?\b|\bpedidos?\b|\bfacturas?\b",
        r"\bordine\b|\bfattura\b|\bencomenda\b|\bzam[oó]wieni\w*|\bsipari[sş]\w*|заказ\w*|订单|訂單|注文|طلب",
    ),
}
_WORD = re2.compile("(?i)" + "|".join(f"(?P<{kind}>{'|'.join(words)})" for kind, words in _WORDS.items()))
_JUST_NUMBER = re.compile(
    r"(?:number|numero|número|numéro|nummer|numer|numeroni|nomor|numărul|номер|رقم|号码|號碼|番号)\W{0,3}"
    r"(?:(?:is|ist|es|est|è|é|e|er|är|on|to|meu|saya)\W{1,3}){0,2}\Z",
    re.IGNORECASE,
)


def hint(before: str) -> str:
    """What the nearest word says: a key of _WORDS (`thing` is nobody's, `other` none of these), or "" for nothing."""
    nearest = ""
    for match in _WORD.finditer(before):
        nearest = match.lastgroup or ""
        if nearest in ("account", "policy") and len(before) - match.end() > MAX_GAP:
            nearest = ""
    if nearest == "" and _JUST_NUMBER.search(before):
        return "phone"
    return nearest
