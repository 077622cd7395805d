"""What a visitor writes is judged before the workflow is asked, and the workflow learns what was found."""

from __future__ import annotations

from typing import Any

import jwt

from tests.sidegate import JWT_KEY, sidegate
from tests.upstreams import Asked, stream, webhook

ATTACK = "<script>alert('x')</script>"


def verdict(asked: Asked) -> dict[str, Any]:  # Any: JSON
    token = asked.headers["authorization"].removeprefix("Bearer ")
    claims: dict[str, Any] = jwt.decode(token, JWT_KEY, algorithms=["HS256"], audience="n8n")
    found: dict[str, Any] = claims["verdict"]
    return found


async def test_an_attack_is_refused_and_the_workflow_is_not_asked() -> None:
    async with webhook(lambda _: stream("hi")) as hook, sidegate({"kind": "n8n", "url": hook.url}) as visitor:
        await visitor.session()
        for message in (ATTACK, "1' or 1=1 --", "; cat /etc/passwd", "../../../../etc/passwd"):
            status, problem = await visitor.problem(message)
            assert (status, problem["code"]) == (422, "content_blocked")
        status, problem = await visitor.problem("hi", context={"page": ATTACK})
        assert (status, problem["code"]) == (422, "content_blocked")
        assert hook.asked == []
        assert (await visitor.events("How do I write SELECT * FROM users?"))[-1].name == "done"
        assert len(hook.asked) == 1


async def test_what_is_flagged_passes_and_is_named_in_the_token() -> None:
    content = {"rules": {"xss": "flag"}}
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, content=content) as visitor,
    ):
        await visitor.session()
        await visitor.events(ATTACK)
    assert hook.asked[0].json["chatInput"] == ATTACK
    assert verdict(hook.asked[0])["flags"] == ["xss"]


async def test_what_is_sanitised_arrives_as_text() -> None:
    content = {"rules": {"xss": "sanitize"}}
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, content=content) as visitor,
    ):
        await visitor.session()
        await visitor.events(f"why does {ATTACK} do that, if x<y?")
    assert hook.asked[0].json["chatInput"] == "why does &lt;script&gt;alert('x')&lt;/script&gt; do that, if x<y?"


async def test_a_site_has_rules_of_its_own() -> None:
    sites = {"shop": {"origins": ["https://shop.example"], "upstream": "support", "content": {"rules": {"xss": "off"}}}}
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, sites=sites) as visitor,
    ):
        await visitor.session()
        await visitor.events(ATTACK)
        status, _ = await visitor.problem("1' or 1=1 --")
    assert status == 422
    assert hook.asked[0].json["chatInput"] == ATTACK


async def test_what_is_observed_goes_on_as_it_came() -> None:
    async with (
        webhook(lambda _: stream("hi")) as hook,
        sidegate({"kind": "n8n", "url": hook.url}, content={"mode": "observe"}) as visitor,
    ):
        await visitor.session()
        assert (await visitor.events(ATTACK))[-1].name == "done"
    assert hook.asked[0].json["chatInput"] == ATTACK


async def test_a_socket_stays_open_when_a_message_is_refused() -> None:
    async with webhook(lambda _: stream("hi")) as hook, sidegate({"kind": "n8n", "url": hook.url}) as visitor:
        await visitor.session()
        url = f"{visitor.url.replace('http', 'ws')}/v1/ws"
        async with visitor.http.ws_connect(url, headers=visitor.headers, protocols=["sidegate.v1"]) as socket:
            await socket.send_json({"type": "message", "id": "1", "message": ATTACK})
            refused = await socket.receive_json(timeout=5)
            assert (refused["type"], refused["code"]) == ("error", "content_blocked")
            await socket.send_json({"type": "message", "id": "2", "message": "hello"})
            frames = [await socket.receive_json(timeout=5) for _ in range(3)]
    assert [frame["type"] for frame in frames] == ["start", "delta", "done"]
