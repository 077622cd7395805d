"""Webhooks of providers: their settings, and who and what may pass. See signatures.py for whose they are.

What it stops: forged, changed and old webhooks, bodies of another shape than they say, floods of genuine ones, and
running one twice: a delivery is known by what the provider signed. What it doesn't: a copy of a webhook whose provider
signs no time, once `remember` seconds have passed; during an outage of Redis, copies sent to another replica.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from proxy.config import Secret, Section
from proxy.content.detect import THRESHOLD, Detector
from proxy.errors import BadRequest, Conflict, MethodNotAllowed, RateLimited, Replayed, SignatureInvalid
from proxy.guard import payload
from proxy.guard.payload import FORM, JSON
from proxy.guard.signatures import HmacSettings, Provider, Signed, standard_key, verify
from proxy.model import Client, Mode, Stage, Verdict, Webhook
from proxy.store import Store, Tier
from proxy.telemetry import audit

MEDIA: Mapping[Provider, tuple[str, ...]] = {
    "slack": (JSON, FORM),
    "github": (JSON, FORM),
    "twilio": (FORM, JSON),
}
TWILIO_URL = "https://chat.example/hooks/twilio"
RUNNING, DONE = b"running", b"done"
MAX_JUDGED = 8_000  # characters of what a webhook says


class HookSettings(Section):
    """One webhook address, `/hooks/NAME`. Times in seconds."""

    provider: Provider
    secret: Secret
    previous: Secret | None = None  # still good while the secret is being changed
    verify_token: Secret | None = None  # whatsapp: of the GET that Meta begins with
    url: Annotated[str, Field(max_length=2000)] = ""  # twilio: the address as Twilio calls it, which it signs
    hmac: HmacSettings | None = None  # of the provider `hmac`
    upstream: str = ""  # Once loaded there is one: the only upstream where none is written.
    limit: Annotated[int, Field(ge=1, le=100_000)] = 30
    window: Annotated[float, Field(gt=0, le=86_400)] = 60
    tolerance: Annotated[int, Field(ge=1, le=3600)] = 300  # how far off a signed time may be
    remember: Annotated[int, Field(ge=60, le=2_592_000)] = 259_200  # for which a delivery isn't run again
    max_body_bytes: Annotated[int, Field(ge=1024, le=10_485_760)] = 1_048_576
    ack: Literal["sync", "queue"] = "sync"  # answer as the workflow does, or at once
    attempts: Annotated[int, Field(ge=1, le=100)] = 10  # of a queued one

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for secret in self.secrets if self.provider == "standard" else ():
            try:
                standard_key(secret)
            except ValueError as error:
                raise ValueError(f"the secret is {error}") from None
        if self.provider == "twilio" and not self.url.startswith(("https://", "http://")):
            raise ValueError(f"twilio signs the address that it calls; write it into url, such as {TWILIO_URL}")
        if (self.provider == "hmac") != (self.hmac is not None):
            raise ValueError("the provider hmac has a section hmac, and no other has: hmac: {header: X-Signature}")
        if self.verify_token is not None and self.provider != "whatsapp":
            raise ValueError("verify_token is for the provider whatsapp alone; remove it")
        return self

    @property
    def secrets(self) -> list[str]:
        return [secret.reveal() for secret in (self.secret, self.previous) if secret is not None]


class QueueSettings(Section):
    """The queue of all hooks with `ack: queue`."""

    # Of those that wait, and as much of the dead ones. The largest body, sealed, always fits in.
    max_bytes: Annotated[int, Field(ge=16_777_216, le=17_179_869_184)] = 67_108_864


class OfClient:
    """A stage that judges who sent it."""

    def __init__(self, stage: Stage[Client]) -> None:
        self._stage = stage

    @property
    def name(self) -> str:
        return self._stage.name

    @property
    def mode(self) -> Mode:
        return self._stage.mode

    async def check(self, webhook: Webhook) -> Webhook:
        return replace(webhook, client=await self._stage.check(webhook.client))


class Media:
    """Its Content-Type is one that the provider sends."""

    name = "media"
    mode: Mode = "enforce"

    def __init__(self, hooks: Mapping[str, HookSettings]) -> None:
        self._hooks = hooks

    async def check(self, webhook: Webhook) -> Webhook:
        payload.judge_media(webhook.client.media, MEDIA.get(self._hooks[webhook.hook].provider, (JSON,)))
        return webhook


class Payload:
    """The body is what its Content-Type says. Behind the signature: nobody else's is read."""

    name = "payload"
    mode: Mode = "enforce"

    async def check(self, webhook: Webhook) -> Webhook:
        payload.judge(webhook.client.media, webhook.body)
        return webhook


class Signature:
    """It is the provider's."""

    name = "signature"
    mode: Mode = "enforce"

    def __init__(self, hooks: Mapping[str, HookSettings], clock: Callable[[], float] = time.time) -> None:
        self._hooks = hooks
        self._clock = clock

    async def check(self, webhook: Webhook) -> Webhook:
        hook = self._hooks[webhook.hook]
        url = f"{hook.url.partition('?')[0]}?{webhook.query}" if webhook.query else hook.url
        signed = Signed(webhook.headers, webhook.body, url, webhook.client.media, hook.hmac)
        proof = verify(hook.provider, signed, hook.secrets, self._clock(), hook.tolerance)
        delivery = hashlib.sha256(proof.delivery).hexdigest()[:32]
        return replace(webhook, delivery=delivery, signature="" if proof.at is None else f"{proof.at}-{delivery}")


class Words:
    """What a genuine webhook says, by the content rules: named in the token, and never a reason to refuse it, since its
    provider would send it again and again. The first MAX_JUDGED characters are judged."""

    name = "content"
    mode: Mode = "enforce"

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    async def check(self, webhook: Webhook) -> Webhook:
        said = "\n".join(payload.texts(webhook.client.media, webhook.body))[:MAX_JUDGED]
        scores = self._detector.judge(said).scores
        flags = tuple(sorted(category for category, score in scores.items() if score >= THRESHOLD))
        if flags:
            audit(
                "CONTENT", hook=webhook.hook, action="flag", scores=dict(scores), request_id=webhook.client.request_id
            )
        return replace(webhook, verdict=Verdict(scores, flags))


class Deliveries:
    """Which deliveries were accepted, and how many. What was accepted once isn't run again."""

    name = "delivery"

    def __init__(self, hooks: Mapping[str, HookSettings], store: Store) -> None:
        self._hooks = hooks
        self._store = store

    async def accept(self, webhook: Webhook, longest: float) -> bool:
        """Is it a new one? False for another attempt at one that was accepted; `longest`: seconds it may be under way.

        Raises Replayed for the very same attempt, Conflict while the first one is under way, RateLimited.
        """
        mine = _running(webhook)
        held = await self._store.claim(_name(webhook), mine, longest)
        if held != mine:
            if webhook.signature and held.endswith(webhook.signature.encode()):
                raise Replayed("the same signature again")
            if held.startswith(RUNNING):
                raise Conflict("under way", retry_after=10, public="This delivery is being worked on.")
            return False
        try:
            await self._count(webhook)
        except (RateLimited, Replayed):
            await self._store.release(_name(webhook), mine)
            raise
        return True

    async def finish(self, webhook: Webhook) -> None:
        """It ran, or may have."""
        ttl = self._hooks[webhook.hook].remember
        done = DONE + webhook.signature.encode()
        await self._store.claim(_name(webhook), done, ttl, instead=_running(webhook))

    async def forget(self, webhook: Webhook) -> None:
        """It didn't run: the provider may try again."""
        await self._store.release(_name(webhook), _running(webhook))

    async def _count(self, webhook: Webhook) -> None:
        hook = self._hooks[webhook.hook]
        (hit,) = await self._store.hit([Tier(f"hook:{webhook.hook}/limit", hook.limit, hook.window)])
        if hit.retry_after > 0:
            raise RateLimited(f"over {hook.limit} in {hook.window:g} s", retry_after=hit.retry_after)
        # Beside the claim, which a crowded memory store may forget: this one refuses when there is no room.
        name = f"hook:{webhook.hook}/signed:{webhook.signature}"
        if webhook.signature and not await self._store.add(name, 2 * hook.tolerance + 1):
            raise Replayed("the same signature again")


def greeting(hook: HookSettings, query: Mapping[str, str]) -> bytes:
    """What Meta's GET is to be answered. Raises BadRequest (405 where it begins with none) or SignatureInvalid.

    https://developers.facebook.com/docs/graph-api/webhooks/getting-started (Validating Verification Requests)
    """
    if hook.provider != "whatsapp":
        raise MethodNotAllowed("only whatsapp begins with a GET", headers={"Allow": "POST"})
    if hook.verify_token is None or not hook.verify_token.matches(query.get("hub.verify_token", "")):
        raise SignatureInvalid("another verify_token" if hook.verify_token else "verify_token is not set")
    challenge = query.get("hub.challenge", "")
    if query.get("hub.mode") != "subscribe" or not (
        challenge.isascii() and challenge.isalnum() and len(challenge) < 257
    ):
        raise BadRequest("not a verification as Meta sends it", public="This is no verification request.")
    return challenge.encode()


def _name(webhook: Webhook) -> str:
    return f"hook:{webhook.hook}/delivery:{webhook.delivery}"


def _running(webhook: Webhook) -> bytes:
    """This attempt's own mark."""
    return RUNNING + b" " + webhook.client.request_id.encode() + b" " + webhook.signature.encode()
