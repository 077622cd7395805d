"""What keys and tokens look like: provider by provider, as RE2 patterns from their documentation or from tokens seen,
and what tokens have in common, whoever gives them out: a short name in front of characters drawn at random.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import re2

_HEX = "[0-9a-f]"
_WORD = "[0-9A-Za-z_-]"

FORMS: dict[str, tuple[str, ...]] = {
    "1Password": (
        r"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
        r"ops_eyJ[A-Za-z0-9+/]{50,}={0,3}",
    ),
    "age": (r"AGE-SECRET-KEY-1[0-9A-Z]{58}",),
    "Airtable": (rf"pat[0-9A-Za-z]{{14}}\.{_HEX}{{64}}",),
    "Alibaba": (r"LTAI[0-9A-Za-z]{20}",),
    "Anthropic": (rf"sk-ant-(?:api|admin)\d\d-{_WORD}{{40,}}",),
    "Artifactory": (r"AKCp[0-9A-Za-z]{60,}", r"cmVmd[0-9A-Za-z]{59}"),
    "Atlassian": (r"AT[AC]TT3[0-9A-Za-z_=-]{60,}",),
    "AWS": (
        r"(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",
        r"ABSK[A-Za-z0-9+/]{60,}={0,2}",
        r"bedrock-api-key-[A-Za-z0-9+/=]{16,}",
        r"da2-[0-9a-z]{26}",
    ),
    "Azure": (r"[0-9A-Za-z_~.-]{3}\dQ~[0-9A-Za-z_~.-]{31,34}",),
    "Beamer": (r"b_[0-9A-Za-z=_-]{44}",),
    "Bitbucket": (r"BBDC-[0-9A-Za-z_+/=-]{40,}",),
    "Braintree": (rf"access_token\$(?:production|sandbox)\$[0-9a-z]{{16}}\${_HEX}{{32}}",),
    "Brevo": (rf"xkeysib-{_HEX}{{64}}-[0-9A-Za-z]{{16}}",),
    "chat bots": (
        r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",  # Discord
        rf"\d{{5,16}}:A{_WORD}{{34}}",  # Telegram
    ),
    "Clojars": (r"CLOJARS_[0-9A-Za-z]{60}",),
    "Cloudflare": (rf"v1\.0-{_HEX}{{24}}-{_HEX}{{146}}",),
    "Contentful": (rf"CFPAT-{_WORD}{{43}}",),
    "DataStax": (r"AstraCS:[0-9A-Za-z:]{20,}",),
    "Databricks": (rf"dapi{_HEX}{{32}}(?:-\d)?",),
    "Defined Networking": (r"dnkey-[0-9a-z=_-]{26}-[0-9a-z=_-]{52}",),
    "DigitalOcean": (rf"do[opr]_v1_{_HEX}{{64}}",),
    "Docker": (rf"dckr_pat_{_WORD}{{27}}",),
    "Docker Swarm": (r"SWM(?:TKN|KEY)-1-[0-9A-Za-z+/-]{20,}",),
    "Doppler": (r"dp\.(?:pt|st|ct|sa|scim|audit)\.[0-9A-Za-z._-]{40,}",),
    "Dropbox": (rf"sl\.(?:u\.)?{_WORD}{{60,}}",),
    "Duffel": (r"duffel_(?:test|live)_[0-9A-Za-z_=-]{43}",),
    "Dynatrace": (r"dt0[a-z]\d\d\.[0-9A-Za-z]{24}\.[0-9A-Za-z]{64}",),
    "EasyPost": (r"EZ[AT]K[0-9A-Za-z]{54}",),
    "ElevenLabs": (rf"sk_{_HEX}{{48}}",),
    "Facebook": (r"EAA[0-9A-Za-z]{60,}", rf"\d{{15,16}}\|{_WORD}{{27,}}"),
    "Figma": (rf"figd_{_WORD}{{38,}}",),
    "Flutterwave": (r"FLWSECK(?:_TEST)?-[0-9A-Za-z-]{12,}",),
    "Fly.io": (rf"fo1_{_WORD}{{43}}", r"fm[12][ar]?_[0-9A-Za-z+/=]{80,}"),
    "GitHub": (r"gh[oprsu]_[0-9A-Za-z]{36,}", r"github_pat_[0-9A-Za-z_]{50,}"),
    "GitLab": (
        r"gl(?:pat|dt|ptt|rt|rtr|cbt|agent|oas|soat|ft|imt|ffct|wt)-[0-9A-Za-z_=-]{16,}(?:\.[0-9a-z]{2,12}){0,2}",
        rf"GR1348941{_WORD}{{20}}",
        r"_gitlab_session=[0-9a-z]{32}",
    ),
    "Google": (rf"AIza{_WORD}{{35}}", rf"GOCSPX-{_WORD}{{28}}", rf"ya29\.{_WORD}{{20,}}", rf"1//0{_WORD}{{40,}}"),
    "Grafana": (
        r"glc_[A-Za-z0-9+/]{32,}={0,2}",
        r"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}",
        r"eyJrIjoi[A-Za-z0-9]{60,}={0,2}",
    ),
    "HashiCorp": (
        r"[0-9A-Za-z]{14}\.atlasv1\.[0-9A-Za-z_=-]{60,}",
        rf"hv[brs]\.{_WORD}{{24,}}",
        r"s\.[0-9A-Za-z]{24}",
    ),
    "Heroku": (rf"HRKU-{_WORD}{{58,}}",),
    "Hugging Face": (r"hf_[A-Za-z0-9]{30,}", r"api_org_[A-Za-z0-9]{30,}"),
    "Infracost": (r"ico-[0-9A-Za-z]{32}",),
    "Intra 42": (rf"s-s4t2(?:af|ud)-{_HEX}{{64}}",),
    "JSON Web Token": (r"eyJ?[A-Za-z0-9_-]{8,}\.ey[A-Za-z0-9/\\_-]{8,}\.(?:[A-Za-z0-9/\\_-]{10,}={0,2})?",),
    "JSON Web Token, encoded again": (r"ZXlK[A-Za-z0-9+/]{60,}={0,2}",),
    "LangSmith": (rf"lsv2_[ps][tk]_{_HEX}{{32}}_{_HEX}{{10}}",),
    "Langfuse": (rf"sk-lf-{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",),
    "Linear": (r"lin_(?:api|oauth)_[0-9A-Za-z]{40,}",),
    "mail services": (
        r"SG\.[0-9A-Za-z_=.-]{60,}",  # SendGrid
        rf"(?:pub)?key-{_HEX}{{32}}|{_HEX}{{32}}-{_HEX}{{8}}-{_HEX}{{8}}",  # Mailgun
        rf"{_HEX}{{32}}-us\d{{1,2}}",  # Mailchimp
    ),
    "Mapbox": (r"[ps]k\.eyJ1[0-9A-Za-z_-]{60,}\.[0-9A-Za-z_-]{22}",),
    "models": (
        rf"sk-(?:proj|svcacct|admin|or-v1)-{_WORD}{{20,}}|sk-[0-9A-Za-z]{{20,}}",  # OpenAI, OpenRouter
        r"pplx-[0-9A-Za-z]{40,}|gsk_[0-9A-Za-z]{40,}|r8_[0-9A-Za-z]{37}",  # Perplexity, Groq, Replicate
        r"xai-[0-9A-Za-z]{60,}|tvly-[0-9A-Za-z-]{20,}",
    ),
    "n8n": (rf"n8n_api_{_HEX}{{40,}}",),
    "Netlify": (r"nfp_[0-9A-Za-z]{36}",),
    "New Relic": (r"NRAK-[0-9A-Z]{27}", rf"NR(?:JS|BR)-{_HEX}{{19}}", rf"NRI[IQ]-{_WORD}{{32}}"),
    "Notion": (r"ntn_\d{11}[0-9A-Za-z]{32,}", r"secret_[0-9A-Za-z]{43}"),
    "npm": (r"npm_[0-9A-Za-z]{36}",),
    "Octopus Deploy": (r"API-[0-9A-Z]{26}",),
    "OpenShift": (rf"sha256~{_WORD}{{43}}",),
    "PASETO": (rf"v[1-4]\.(?:local|public)\.{_WORD}{{40,}}", rf"k[1-4]\.(?:secret|local)\.{_WORD}{{32,}}"),
    "Pinecone": (r"pcsk_[0-9A-Za-z]{5,6}_[0-9A-Za-z]{50,}",),
    "PlanetScale": (r"pscale_(?:tkn|pw|oauth)_[0-9A-Za-z_=.-]{32,}",),
    "Postman": (r"PMAK-[0-9a-fA-F]{24}-[0-9a-fA-F]{34}", r"PMAT-[0-9A-Z]{26}"),
    "Prefect and others": (rf"pul-{_HEX}{{40}}", r"rdme_[0-9a-z]{70}", r"p8e-[0-9A-Za-z]{32}"),
    "PyPI": (rf"pypi-AgE{_WORD}{{50,}}",),
    "Resend": (r"re_[0-9A-Za-z]{8}_[0-9A-Za-z]{24}",),
    "Riot Games": (rf"RGAPI-{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",),
    "RubyGems": (rf"rubygems_{_HEX}{{48}}",),
    "Salesforce": (r"00[0-9A-Za-z]{13}![0-9A-Za-z_.-]{60,}",),
    "Sentry": (r"sntr(?:ys|yu)_[0-9A-Za-z_+/=.-]{40,}",),
    "SettleMint": (r"sm_(?:aat|pat|sat)_[0-9A-Za-z]{16}",),
    "Shippo": (r"shippo_(?:live|test)_[0-9a-fA-F]{40}",),
    "Shopify": (r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",),
    "Slack": (
        r"xox[abceoprs](?:\.xox[a-z])?-[0-9A-Za-z-]{20,}|xoxd-[0-9A-Za-z%+/=_.-]{40,}",
        r"xapp-\d{1,2}-[0-9A-Za-z-]{20,}",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[0-9A-Za-z+/]{30,}",
    ),
    "SonarQube": (r"sq[pau]_[0-9A-Za-z]{40}",),
    "Sourcegraph": (r"sgp_(?:[0-9a-fA-F]{16}_|local_)?[0-9a-fA-F]{40}",),
    "Square": (rf"EAAA{_WORD}{{22,}}", r"sq0(?:atp|csp|idp)-[0-9A-Za-z_\]-]{22,}"),
    "Stripe": (r"(?:sk|rk|pk)_(?:test|live|prod)_[0-9A-Za-z]{10,}", r"whsec_[0-9A-Za-z+/=]{24,}"),
    "Supabase": (rf"sb[pv]_(?:{_HEX}{{40}}|{_HEX}{{8}}_{_HEX}{{32}})",),
    "Tailscale": (r"tskey-[a-z]+-[0-9A-Za-z]+-[0-9A-Za-z]{16,}",),
    "Teams": (r"[a-z0-9-]{1,60}\.webhook\.office\.com/webhookb2/[0-9A-Za-z@/-]{60,}",),
    "Twilio": (rf"(?:AC|SK){_HEX}{{32}}",),
    "Twitter": (r"A{18}[0-9A-Za-z%]{60,}",),
    "Typeform": (r"tfp_[0-9A-Za-z_=.-]{59}",),
    "Windows": (r"TlRMTVNTUAA[CD][0-9A-Za-z+/]{30,}={0,2}",),  # NTLM
    "Yandex": (
        rf"YC{_WORD}{{38}}|AQVN{_WORD}{{35,38}}",
        rf"t1\.{_WORD}+={{0,2}}\.{_WORD}{{80,}}={{0,2}}",
    ),
}

# `name_` or `name-kind-`, then at least so many letters and digits in a row.
_NAMED = re2.compile(
    r"(?:^|[^A-Za-z0-9_/+.-])((?:(?:[A-Za-z][a-z0-9]{1,11}|[A-Z][A-Z0-9]{1,11})[_.-]{1,2}){1,4}([A-Za-z0-9]{16,})[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]{8,})*)"
)
# What is drawn has the joints in it, too.
_NAMED_JOINTED = re2.compile(
    r"(?:^|[^A-Za-z0-9_/+.-])((?:[a-z][a-z0-9]{1,9}|[A-Z]{2,8})[_-](?:[a-z]{2,8}[_-])?([A-Za-z0-9_-]{18,}={0,2}))"
    r"(?:[^A-Za-z0-9_/+.=-]|[.](?:\s|\z)|\z)"
)
_INNER_DIGIT = re.compile("[A-Za-z][0-9]+[A-Za-z]")
_PARTS = re.compile(r"[_.-]+")
_TELLING = frozenset(
    (
        *("sk", "pat", "api", "apikey", "key", "token", "tkn", "secret", "sec", "live", "test", "prod", "oat", "pw"),
        *("pwd", "auth", "access", "private"),
    )
)
# Names in front of what is shown to everybody: identifiers of things, checksums, files.
_OPEN = frozenset(
    (
        *("pi", "seti", "cs", "ch", "py", "re", "txn", "in", "ii", "sub", "si", "price", "prod", "plan", "evt", "acct"),
        *("pm", "card", "src", "ba", "po", "tr", "dp", "req", "msg", "run", "thread", "asst", "step", "file", "call"),
        *(
            "chatcmpl",
            "resp",
            "toolu",
            "batch",
            "conv",
            "usr",
            "user",
            "org",
            "cus",
            "ord",
            "order",
            "inv",
            "job",
            "wf",
        ),
        *("trace", "span", "id", "commit", "build", "etag", "md5", "sha1", "sha256", "sha384", "sha512"),
        *("img", "image", "photo", "video", "ft", "ftjob", "cp"),
    )
)
_KINDS = re.compile("[a-z]+|[A-Z]+|[0-9]+")
_HEX_ONLY = re.compile("[0-9a-fA-F]+")
# Characters, where the name doesn't tell: in letters of both cases, of one, and in hexadecimal digits.
_LEAST_MIXED, _LEAST_LOWER, _LEAST_HEX = 20, 30, 40
_LEAST_JOINTED = 17


def named_tokens(text: str) -> Iterator[tuple[int, int]]:
    """Where there are some. `text` is folded."""
    for match in _NAMED.finditer(text):
        names = _PARTS.split(text[match.start(1) : match.start(2)].lower())
        is_telling = not _TELLING.isdisjoint(names)
        if not is_telling and not _OPEN.isdisjoint(names):
            continue
        is_file = text[match.end() : match.end() + 1] == "." and match[2] == match[2].lower()
        if not is_file and _is_drawn(match[2], is_telling=is_telling, joint=text[match.start(2) - 1]):
            yield match.span(1)
    for match in _NAMED_JOINTED.finditer(text):
        names = _PARTS.split(text[match.start(1) : match.start(2)])
        if (_OPEN.isdisjoint(names) or not _TELLING.isdisjoint(names)) and _is_jointed(match[2]):
            yield match.span(1)


def _is_jointed(body: str) -> bool:
    """Is it drawn from letters of both cases, digits and joints? So no words, which change case only at their ends."""
    plain = "".join(filter(str.isalnum, body))
    digits = sum(map(str.isdigit, plain))
    is_mixed = plain not in (plain.lower(), plain.upper())
    return (
        digits > 1
        and len(plain) >= _LEAST_JOINTED
        and is_mixed
        and len(_KINDS.findall(plain)) > len(plain) / 2
        and _INNER_DIGIT.search(body) is not None
    )


def _is_drawn(body: str, *, is_telling: bool, joint: str) -> bool:
    """Is it no word and no number? The more it says in front (`is_telling`), the less is asked."""
    if not any(map(str.isdigit, body)) or (joint == "." and not is_telling):
        return False
    changes = len(_KINDS.findall(body)) / len(body)
    if body not in (body.lower(), body.upper()) and len(body) >= _LEAST_MIXED:
        return changes > 0.4
    least = _LEAST_HEX if _HEX_ONLY.fullmatch(body) else _LEAST_LOWER
    return changes > 0.25 and joint != "." and (is_telling or (joint == "_" and len(body) >= least))
