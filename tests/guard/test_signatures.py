"""Each provider's way to sign: vectors that the providers publish, and what must not pass."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import SignatureInvalid
from proxy.guard.signatures import HmacSettings, Provider, Signed, standard_key, verify

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
SECRET = "6f1d0c7b5e3a49288d7c6b5a4f3e2d1c"


@dataclass(frozen=True)
class Vector:
    """One genuine webhook."""

    provider: Provider
    secret: str
    signed: Signed
    now: float = 1_800_000_000
    has_time: bool = False

    def verify(self, *secrets: str, now: float | None = None) -> bytes:
        when = self.now if now is None else now
        return verify(self.provider, self.signed, secrets or (self.secret,), when, 300).delivery


def mac(secret: bytes, text: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(secret, text, algorithm).digest()


def _stripe() -> Vector:
    body = b'{"id":"evt_1","object":"event"}'
    good = mac(b"whsec_test_secret", b"1700000000." + body).hex()
    header = {"stripe-signature": f"t=1700000000,v1={'0' * 64},v1={good},v0={'1' * 64}"}
    return Vector("stripe", "whsec_test_secret", Signed(header, body), 1_700_000_100, has_time=True)


def _shopify() -> Vector:
    body = b'{"id":820982911946154508}'
    header = {"x-shopify-hmac-sha256": base64.b64encode(mac(SECRET.encode(), body)).decode(), "x-shopify-topic": "x/y"}
    return Vector("shopify", SECRET, Signed(header, body))


def _twilio_json() -> Vector:
    body = b'{"a":1}'
    url = f"https://chat.example/hooks/twilio?bodySHA256={hashlib.sha256(body).hexdigest()}"
    header = {"x-twilio-signature": base64.b64encode(mac(SECRET.encode(), url.encode(), "sha1")).decode()}
    return Vector("twilio", SECRET, Signed(header, body, url, JSON))


def _plain(rule: HmacSettings, signature: str) -> Vector:
    headers = {rule.header.lower(): signature, "x-time": "1700000000"}
    signed = Signed(headers, b"hello", rule=rule)
    return Vector("hmac", SECRET, signed, 1_700_000_000, has_time=rule.time_header is not None)


SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
    b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
    b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
    b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK = {
    "x-slack-request-timestamp": "1531420618",
    "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
}
TWILIO_BODY = b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212"
STANDARD = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,bm9ldHUjKzFob2VudXRob2VodWUzMjRvdWVvdW9ldQo= "
    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
GITHUB = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
VECTORS = {
    # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries, testing
    "github": Vector("github", "It's a Secret to Everybody", Signed(GITHUB, b"Hello, World!")),
    # the same algorithm, with Meta's header
    "whatsapp": Vector("whatsapp", "It's a Secret to Everybody", Signed(GITHUB, b"Hello, World!")),
    # https://docs.slack.dev/authentication/verifying-requests-from-slack
    "slack": Vector(
        "slack", "8f742231b10e8888abcd99yyyzzz85a5", Signed(SLACK, SLACK_BODY, media=FORM), 1531420618, has_time=True
    ),
    # https://www.twilio.com/docs/usage/security
    "twilio": Vector(
        "twilio",
        "12345",
        Signed(
            {"x-twilio-signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="},
            TWILIO_BODY,
            "https://mycompany.com/myapp.php?foo=1&bar=2",
            FORM,
        ),
    ),
    "twilio json": _twilio_json(),
    # https://github.com/standard-webhooks/standard-webhooks, and Svix's documentation
    "standard": Vector(
        "standard",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        Signed(STANDARD, b'{"test": 2432232314}'),
        1614265330,
        has_time=True,
    ),
    "svix": Vector(
        "standard",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        Signed({name.replace("webhook", "svix"): value for name, value in STANDARD.items()}, b'{"test": 2432232314}'),
        1614265330,
        has_time=True,
    ),
    "stripe": _stripe(),
    "shopify": _shopify(),
    "hmac": _plain(HmacSettings(header="X-Mac"), mac(SECRET.encode(), b"hello").hex()),
    "hmac with all": _plain(
        HmacSettings(header="X-Mac", algorithm="sha512", encoding="base64", prefix="mac=", time_header="X-Time"),
        "mac=" + base64.b64encode(mac(SECRET.encode(), b"1700000000.hello", "sha512")).decode(),
    ),
}
each = pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
timed = pytest.mark.parametrize(
    "vector", [one for one in VECTORS.values() if one.has_time], ids=[n for n, one in VECTORS.items() if one.has_time]
)


@each
def test_what_the_provider_signed_passes(vector: Vector) -> None:
    assert vector.verify()


@each
def test_two_secrets_are_good_while_one_is_being_changed(vector: Vector) -> None:
    other = "whsec_" + base64.b64encode(b"another secret of somebody").decode()
    assert vector.verify(other, vector.secret) == vector.verify(vector.secret, other)


@each
def test_another_secret_is_refused(vector: Vector) -> None:
    with pytest.raises(SignatureInvalid):
        vector.verify("whsec_" + base64.b64encode(b"another secret of somebody").decode())


@each
def test_no_bit_of_the_body_may_be_another(vector: Vector) -> None:
    for at in range(len(vector.signed.body)):
        for bit in range(8):
            body = bytearray(vector.signed.body)
            body[at] ^= 1 << bit
            changed = replace(vector, signed=replace(vector.signed, body=bytes(body)))
            if vector.provider == "twilio" and vector.signed.media == FORM and _same(body, vector.signed.body):
                continue
            with pytest.raises(SignatureInvalid):
                changed.verify()


def _same(one: bytes | bytearray, other: bytes) -> bool:
    """To Twilio: it signs names and values, one behind the other; a form's = and & are not among them."""
    letters = [bytes(text).replace(b"=", b"").replace(b"&", b"").lower() for text in (one, other)]
    return letters[0] == letters[1]


@each
def test_no_bit_of_a_signing_header_may_be_another(vector: Vector) -> None:
    for name, value in vector.signed.headers.items():
        if name in ("x-shopify-topic", "x-time") and not (name == "x-time" and vector.has_time):
            continue
        last = value.rpartition("v1=")[2].split(",")[0] if vector.provider == "stripe" else value.split(" ")[-1]
        for at, letter in enumerate(last):
            changed = last[:at] + chr(ord(letter) ^ 1) + last[at + 1 :]
            headers = {**vector.signed.headers, name: value.replace(last, changed)}
            if _decoded(changed) == _decoded(last):
                continue  # base64 has bits in its last letter that say nothing
            with pytest.raises(SignatureInvalid):
                replace(vector, signed=replace(vector.signed, headers=headers)).verify()


def _decoded(text: str) -> bytes | str:
    try:
        return base64.b64decode(text.removeprefix("v1,").removeprefix("mac="), validate=True)
    except ValueError:
        return text


@pytest.mark.parametrize("form", [b"&".join([b"a="] * 1001), b"a=" + b"x" * 65_535])
def test_a_form_over_what_twilio_sends_is_refused_unread(form: bytes) -> None:
    url = "https://chat.example/hooks/twilio"
    base = url.encode() + form.replace(b"=", b"").replace(b"&", b"")
    given = base64.b64encode(mac(SECRET.encode(), base, "sha1")).decode()
    with pytest.raises(SignatureInvalid, match="over what Twilio sends"):
        verify("twilio", Signed({"x-twilio-signature": given}, form, url, FORM), [SECRET], 0, 300)


@each
def test_a_missing_header_is_refused(vector: Vector) -> None:
    for name in vector.signed.headers:
        if name == "x-shopify-topic" or (name == "x-time" and not vector.has_time):
            continue
        for headers in ({**vector.signed.headers, name: ""}, {}):
            with pytest.raises(SignatureInvalid):
                replace(vector, signed=replace(vector.signed, headers=headers)).verify()


@timed
@pytest.mark.parametrize("seconds", [-301, 301])
def test_what_was_signed_too_long_ago_or_ahead_is_refused(vector: Vector, seconds: int) -> None:
    at = verify(vector.provider, vector.signed, (vector.secret,), vector.now, 300).at
    assert at is not None
    with pytest.raises(SignatureInvalid):
        vector.verify(now=at + seconds)
    assert vector.verify(now=at + seconds - (1 if seconds > 0 else -1))


@pytest.mark.parametrize("name", ["github", "slack", "stripe"])
def test_hex_in_capitals_is_refused(name: str) -> None:
    vector = VECTORS[name]
    headers = {key: value.upper().replace("SHA256=", "sha256=").replace("V0=", "v0=").replace("V1=", "v1=")
               for key, value in vector.signed.headers.items()}  # fmt: skip
    with pytest.raises(SignatureInvalid):
        replace(vector, signed=replace(vector.signed, headers=headers)).verify()


@pytest.mark.parametrize("header", ["t=1,t=2,v1=00", "v1=00", "t=now,v1=00", "t=1700000000," + "v1=00," * 9, "=,,="])
def test_stripes_header_is_taken_apart_with_care(header: str) -> None:
    vector = VECTORS["stripe"]
    with pytest.raises(SignatureInvalid):
        replace(vector, signed=replace(vector.signed, headers={"stripe-signature": header})).verify()


def test_telegram_sends_its_secret_along() -> None:
    signed = Signed({"x-telegram-bot-api-secret-token": SECRET}, b'{"update_id":7}')
    assert verify("telegram", signed, (SECRET,), 0, 300).delivery == b"7"
    for headers in ({"x-telegram-bot-api-secret-token": SECRET[:-1] + "d"}, {}):
        with pytest.raises(SignatureInvalid):
            verify("telegram", replace(signed, headers=headers), (SECRET,), 0, 300)


@pytest.mark.parametrize(
    ("body", "name"),
    [(b'{"update_id":7}', b"7"), (b"[1]", b"[1]"), (b"{", b"{"), (b'{"update_id":[1]}', b'{"update_id":[1]}')],
)
def test_an_event_without_a_name_is_named_by_its_body(body: bytes, name: bytes) -> None:
    signed = Signed({"x-telegram-bot-api-secret-token": SECRET}, body)
    assert verify("telegram", signed, (SECRET,), 0, 300).delivery == name


def test_attempts_at_one_event_have_one_name_where_the_body_says_it() -> None:
    body = b'{"event_id":"Ev1"}'
    for at in (b"1531420618", b"1531420700"):
        headers = {
            "x-slack-request-timestamp": at.decode(),
            "x-slack-signature": "v0=" + mac(SECRET.encode(), b"v0:" + at + b":" + body).hex(),
        }
        assert verify("slack", Signed(headers, body), (SECRET,), 1531420650, 300).delivery == b"Ev1"
    assert VECTORS["stripe"].verify() == b"evt_1"


def test_a_parameter_that_comes_twice_is_refused() -> None:
    vector = VECTORS["twilio"]
    body = vector.signed.body + b"&Digits=1234"
    with pytest.raises(SignatureInvalid):
        replace(vector, signed=replace(vector.signed, body=body)).verify()


def test_two_values_of_one_parameter_are_signed_in_order() -> None:
    url = "https://a.example/"
    good = base64.b64encode(mac(SECRET.encode(), b"https://a.example/A1A2", "sha1")).decode()
    assert verify("twilio", Signed({"x-twilio-signature": good}, b"A=2&A=1", url, FORM), (SECRET,), 0, 300).delivery


def test_without_a_rule_the_header_is_x_signature() -> None:
    signed = Signed({"x-signature": mac(SECRET.encode(), b"hello").hex()}, b"hello")
    assert verify("hmac", signed, (SECRET,), 0, 300) == verify("hmac", signed, (SECRET,), 9e9, 300)


@pytest.mark.parametrize("secret", ["whsec_", "", "whsec_ä", "whsec_!!!!", "whsec_abc"])
def test_a_secret_that_is_no_base64_is_told(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        standard_key(secret)


@given(st.sampled_from(list(VECTORS.values())), st.text(max_size=80), st.binary(max_size=200))
@settings(deadline=None)
def test_nobody_guesses_a_signature(vector: Vector, value: str, body: bytes) -> None:
    headers = dict.fromkeys(vector.signed.headers, value)
    with pytest.raises(SignatureInvalid):
        replace(vector, signed=replace(vector.signed, headers=headers, body=body)).verify()
