"""An identity provider: keys, tokens signed with them, and the address of its key set."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.upstreams import Asked, Script, Webhook, plain, webhook

ISSUER, AUDIENCE = "https://idp.example", "chat"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def claims(**more: Any) -> dict[str, Any]:  # Any: JSON
    """Those of a good token; None leaves one out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600}
    return {name: value for name, value in (good | more).items() if value is not None}


@dataclass
class Provider:
    """`keys` are what it signs with, by `kid`; `script` is what it answers instead of its key set."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=lambda: {"k1": new_key()})
    script: Script | None = None
    web: Webhook | None = None

    @property
    def url(self) -> str:
        assert self.web is not None
        return self.web.url

    @property
    def asked(self) -> int:
        """How often its key set was asked for."""
        assert self.web is not None
        return len(self.web.asked)

    def key_set(self) -> dict[str, Any]:
        public = {kid: ECAlgorithm.to_jwk(key.public_key(), as_dict=True) for kid, key in self.keys.items()}
        return {"keys": [{**jwk, "kid": kid, "use": "sig", "alg": "ES256"} for kid, jwk in public.items()]}

    def answer(self, _: Asked) -> Script:
        return plain(orjson.dumps(self.key_set())) if self.script is None else self.script

    def token(self, kid: str = "k1", header: dict[str, Any] | None = None, **more: Any) -> str:
        headers = {"kid": kid, **(header or {})}
        return jwt.encode(claims(**more), self.keys[kid], algorithm="ES256", headers=headers)


@asynccontextmanager
async def identity_provider() -> AsyncIterator[Provider]:
    provider = Provider()
    async with webhook(provider.answer) as provider.web:
        yield provider
