"""Is a webhook its provider's? Each provider's own way to sign, over the bytes as they came.

What it stops: forged and changed webhooks, and old ones where the provider signs the time. What it doesn't: who holds
the secret; a captured webhook of a provider that signs no time, once nobody remembers it (see hooks.py); and what a
provider leaves unsigned: most headers, and with Telegram, which sends its secret along, everything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

import orjson
from pydantic import Field

from proxy.config import Section
from proxy.errors import SignatureInvalid

Provider = Literal[
    "whatsapp", "github", "slack", "stripe", "shopify", "twilio", "telegram", "standard", "hmac"
]  # fmt: skip
MAX_SIGNATURES = 8  # in one header; two while a secret is being changed
MAX_FORM, MAX_FIELDS = 65_536, 1000  # bytes and fields of a form that is taken apart before anything is known of it
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_TIME = re.compile(r"[0-9]{1,12}")


class HmacSettings(Section):
    """How a sender without a preset signs: HMAC of the body, or of `TIME.body` where it names a header for the time."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    algorithm: Literal["sha256", "sha1", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: Annotated[str, Field(max_length=32)] = ""  # in front of the signature, such as sha256=
    time_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """What a webhook is judged by. `headers` by names in small letters; `url` as the provider calls it."""

    headers: Mapping[str, str]
    body: bytes
    url: str = ""
    media: str = ""
    rule: HmacSettings | None = None

    def header(self, name: str) -> str:
        """Raises SignatureInvalid where it is missing."""
        value = self.headers.get(name.lower(), "")
        if not value:
            raise SignatureInvalid(f"no {name}")
        return value


@dataclass(frozen=True, slots=True)
class Proof:
    """It is genuine. `delivery` is the same for all attempts to deliver one event; `at`: Unix time of this attempt's
    signature, where the provider signs the time."""

    delivery: bytes
    at: int | None = None


def whatsapp(signed: Signed, secrets: Sequence[str]) -> Proof:
    """https://developers.facebook.com/docs/graph-api/webhooks/getting-started (Validating Payloads)"""
    return _of_body(signed, secrets, "X-Hub-Signature-256")


def github(signed: Signed, secrets: Sequence[str]) -> Proof:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries

    X-GitHub-Delivery isn't signed: whoever captured a delivery could name it anew. The body names it.
    """
    return _of_body(signed, secrets, "X-Hub-Signature-256")


def slack(signed: Signed, secrets: Sequence[str]) -> Proof:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    given, at = signed.header("X-Slack-Signature"), _time(signed.header("X-Slack-Request-Timestamp"))
    base = b"v0:" + at.encode() + b":" + signed.body
    _judge([_hex(given.removeprefix("v0=") if given.startswith("v0=") else "")], secrets, base)
    return Proof(_field(signed, "event_id") or base, int(at))


def stripe(signed: Signed, secrets: Sequence[str]) -> Proof:
    """https://docs.stripe.com/webhooks#verify-manually: several v1 while a secret is being changed."""
    parts = [part.partition("=") for part in signed.header("Stripe-Signature").split(",")]
    times = [value for name, _, value in parts if name.strip() == "t"]
    if len(times) != 1:
        raise SignatureInvalid("not one time")
    at = _time(times[0])
    given = [_hex(value) for name, _, value in parts if name.strip() == "v1"]
    _judge(given, secrets, at.encode() + b"." + signed.body)
    return Proof(_field(signed, "id") or signed.body, int(at))


def shopify(signed: Signed, secrets: Sequence[str]) -> Proof:
    """https://shopify.dev/docs/apps/build/webhooks/subscribe/https

    One event may be delivered under several topics with the same body, and the topic isn't signed.
    """
    _judge([_base64(signed.header("X-Shopify-Hmac-Sha256"))], secrets, signed.body)
    return Proof(signed.headers.get("x-shopify-topic", "").encode("utf-8", "replace") + b"\0" + signed.body)


def twilio(signed: Signed, secrets: Sequence[str]) -> Proof:
    """https://www.twilio.com/docs/usage/security#validating-requests

    Nothing parts names from values in what is signed: `a=bc` and `ab=c` are the same to it.
    """
    given = [_base64(signed.header("X-Twilio-Signature"))]
    base = signed.url
    if signed.media == "application/x-www-form-urlencoded":
        pairs = _fields(signed.body)
        if len(set(pairs)) != len(pairs):
            raise SignatureInvalid("the same parameter twice")
        base += "".join(name + value for name, value in sorted(pairs))
    else:
        wanted = dict(parse_qsl(urlsplit(signed.url).query)).get("bodySHA256", "")
        if not hmac.compare_digest(wanted.encode("utf-8", "replace"), hashlib.sha256(signed.body).hexdigest().encode()):
            raise SignatureInvalid("the body's hash in the address is another")
    _judge(given, secrets, base.encode("utf-8", "replace"), "sha1")
    return Proof(base.encode("utf-8", "replace"))


def _fields(form: bytes) -> list[tuple[str, str]]:
    """Raises SignatureInvalid."""
    if len(form) > MAX_FORM or form.count(b"&") >= MAX_FIELDS:
        raise SignatureInvalid("a form over what Twilio sends")
    return parse_qsl(form.decode("utf-8", "replace"), keep_blank_values=True)


def telegram(signed: Signed, secrets: Sequence[str]) -> Proof:
    """https://core.telegram.org/bots/api#setwebhook: no signature, but a secret that comes along."""
    given = signed.header("X-Telegram-Bot-Api-Secret-Token").encode("utf-8", "replace")
    if not _any([given], [secret.encode() for secret in secrets]):
        raise SignatureInvalid("another secret token")
    return Proof(_field(signed, "update_id") or signed.body)


def standard(signed: Signed, secrets: Sequence[str]) -> Proof:
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md; Svix's names too."""
    kind = "svix" if "svix-id" in signed.headers else "webhook"
    name, at = signed.header(f"{kind}-id"), _time(signed.header(f"{kind}-timestamp"))
    parts = [part.partition(",") for part in signed.header(f"{kind}-signature").split(" ")]
    given = [_base64(value) for version, _, value in parts if version == "v1"]
    base = f"{name}.{at}.".encode("utf-8", "replace") + signed.body
    _judge(given, [], base, keys=[standard_key(secret) for secret in secrets])
    return Proof(name.encode("utf-8", "replace"), int(at))


def plain(signed: Signed, secrets: Sequence[str]) -> Proof:
    """As HmacSettings say."""
    rule = signed.rule or HmacSettings(header="X-Signature")
    value = signed.header(rule.header)
    given = value.removeprefix(rule.prefix) if value.startswith(rule.prefix) else ""
    at = None if rule.time_header is None else _time(signed.header(rule.time_header))
    base = signed.body if at is None else at.encode() + b"." + signed.body
    _judge([_hex(given) if rule.encoding == "hex" else _base64(given)], secrets, base, rule.algorithm)
    return Proof(signed.body, None if at is None else int(at))


VERIFIERS: Mapping[Provider, Callable[[Signed, Sequence[str]], Proof]] = {
    "whatsapp": whatsapp,
    "github": github,
    "slack": slack,
    "stripe": stripe,
    "shopify": shopify,
    "twilio": twilio,
    "telegram": telegram,
    "standard": standard,
    "hmac": plain,
}


def verify(provider: Provider, signed: Signed, secrets: Sequence[str], now: float, tolerance: float) -> Proof:
    """Raises SignatureInvalid for what isn't the provider's, and for what was signed more than `tolerance` seconds ago
    or ahead."""
    proof = VERIFIERS[provider](signed, secrets)
    if proof.at is not None and abs(now - proof.at) > tolerance:
        raise SignatureInvalid(f"signed {now - proof.at:.0f} s ago")
    return proof


def standard_key(secret: str) -> bytes:
    """The key in `whsec_…`. Raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64; write it as the provider shows it: whsec_…") from None
    if not key:
        raise ValueError("empty; write it as the provider shows it: whsec_…")
    return key


def _of_body(signed: Signed, secrets: Sequence[str], header: str) -> Proof:
    given = signed.header(header)
    _judge([_hex(given.removeprefix("sha256=") if given.startswith("sha256=") else "")], secrets, signed.body)
    return Proof(signed.body)


def _judge(
    given: Sequence[bytes], secrets: Sequence[str], base: bytes, algorithm: str = "sha256", keys: Sequence[bytes] = ()
) -> None:
    """Is any of them that of any secret? Raises SignatureInvalid."""
    if len(given) > MAX_SIGNATURES:
        raise SignatureInvalid("too many signatures")
    macs = [hmac.digest(key, base, algorithm) for key in (*keys, *(secret.encode() for secret in secrets))]
    if not _any([each for each in given if each], macs):
        raise SignatureInvalid("no signature of ours")


def _any(given: Iterable[bytes], wanted: Sequence[bytes]) -> bool:
    """Takes a time that doesn't tell which of them was how close."""
    found = False
    for each in given:
        for one in wanted:
            found |= hmac.compare_digest(each, one)
    return found


def _hex(text: str) -> bytes:
    """Nothing where it isn't small hex digits: providers write no others."""
    return bytes.fromhex(text) if _HEX.fullmatch(text) else b""


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise SignatureInvalid("no time")
    return text


def _field(signed: Signed, name: str) -> bytes:
    """A JSON body's own name for its event, empty where it has none."""
    try:
        fields = orjson.loads(signed.body)
    except orjson.JSONDecodeError:
        return b""
    value = fields.get(name) if isinstance(fields, dict) else None
    return str(value).encode("utf-8", "replace") if isinstance(value, str | int) and value else b""
