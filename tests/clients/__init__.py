"""Clients, sites and requests as the guard's tests need them: small, and like a real browser's.

The modules beside are tests of real clients that others made, unchanged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxy.model import Client, Message, Request, Session, Site

SHOP = Site("shop", frozenset({"https://shop.example"}), "support")
CLIENT = Client(
    request_id="r1",
    ip="192.0.2.7",
    route="messages",
    host="chat.example",
    scheme="https",
    origin="https://shop.example",
    user_agent="Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0",
    language="de-DE,de;q=0.9",
)
SESSION = Session("s1", "shop", "", 2e9)


def client(**facts: Any) -> Client:  # Any: the fields of Client have many types
    return replace(CLIENT, **facts)


def request(text: str = "hello", *, site: Site = SHOP, session: Session = SESSION, **facts: Any) -> Request:
    who = client(site=site, session=session, **facts)
    return Request("r1", "a1", who, site, session, Message(text))


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
