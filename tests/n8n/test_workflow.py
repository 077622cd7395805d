"""The shipped workflow in a real n8n: what it lets through, what it refuses before the model is asked, how it fails."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.n8n import relay, workflows
from tests.n8n.fake_llm import FakeLlm, Plan
from tests.n8n.n8n import BASE, HERE, LANGCHAIN, N8n

pytestmark = pytest.mark.n8n

REFUSED = ["token_refused: This token was not made for this workflow."]
CHANGED = ["body_refused: This body is not the one that was signed."]
FAILED = ["agent_failed: The assistant could not answer."]


async def test_a_signed_message_is_answered_as_a_stream(n8n: N8n, llm: FakeLlm) -> None:
    body = relay.body("How are you?")
    status, answer = await relay.post(n8n.webhook("sidegate-chat"), body, relay.token(body))
    assert status == 200
    assert relay.text(answer) == "".join(Plan().tokens)
    assert [item["type"] for item in relay.items(answer)] == ["begin", *["item"] * len(Plan().tokens), "end"]
    assert [seen.prompt for seen in llm.seen] == ["How are you?"]


async def test_no_token_is_refused_before_the_workflow(n8n: N8n, llm: FakeLlm) -> None:
    status, _ = await relay.post(n8n.webhook("sidegate-chat"), relay.body(), None)
    assert status == 401
    assert not llm.seen


async def test_a_foreign_signature_is_refused_before_the_workflow(n8n: N8n, llm: FakeLlm) -> None:
    body = relay.body()
    status, _ = await relay.post(n8n.webhook("sidegate-chat"), body, relay.token(body, key="x" * 40))
    assert status == 403
    assert not llm.seen


async def test_a_token_one_second_past_its_end_is_refused(n8n: N8n, llm: FakeLlm) -> None:
    """n8n grants no leeway: a clock that is behind n8n's by the token's life makes every call fail."""
    body, now = relay.body(), int(time.time())
    status, _ = await relay.post(
        n8n.webhook("sidegate-chat"), body, relay.token(body, {"iat": now - 61, "exp": now - 1})
    )
    assert status == 403
    assert not llm.seen


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another-workflow"},
        {"aud": None},
        {"aud": ["n8n"]},  # Sidegate sends a plain string, and nothing else is its token
        {"iss": "someone-else"},
        {"iss": None},
        {"exp": 4_000_000_000},
        {"exp": None},
        {"iat": None},
        {"sub": "another-session"},
        {"sub": None},
    ],
    ids=str,
)
async def test_claims_that_n8n_ignores_are_refused_by_the_workflow(
    n8n: N8n, llm: FakeLlm, claims: dict[str, object]
) -> None:
    body = relay.body()
    _, answer = await relay.post(n8n.webhook("sidegate-chat"), body, relay.token(body, claims))
    assert relay.errors(answer) == REFUSED
    assert len(relay.items(answer)) == 1
    assert not llm.seen


async def test_a_session_remembers_what_it_said_and_another_knows_nothing_of_it(n8n: N8n, llm: FakeLlm) -> None:
    url = n8n.webhook("sidegate-chat")
    for session, message in [("memory-1", "My name is Ada"), ("memory-1", "Who am I?"), ("memory-2", "Who am I?")]:
        body = relay.body(message, session)
        await relay.post(url, body, relay.token(body, {"sub": session}))
    first, second, other = [[m.get("content") for m in seen.messages if m.get("role") == "user"] for seen in llm.seen]
    assert first == ["My name is Ada"]
    assert second == ["My name is Ada", "Who am I?"]
    assert other == ["Who am I?"]


@pytest.mark.parametrize(
    ("plan", "before"),
    [
        (Plan(status=500), ""),
        (Plan(status=401), ""),
        (Plan(status=429), ""),
        (Plan(fault="cut", after=2), "Good morning, "),
        (Plan(fault="error", after=2), "Good morning, "),
    ],
    ids=["500", "401", "429", "cut", "error in the stream"],
)
async def test_a_failing_model_ends_in_one_neutral_error(n8n: N8n, llm: FakeLlm, plan: Plan, before: str) -> None:
    llm.plan = plan
    body = relay.body()
    status, answer = await relay.post(n8n.webhook("sidegate-chat"), body, relay.token(body))
    assert status == 200
    assert relay.text(answer) == before
    assert relay.errors(answer) == FAILED
    assert relay.items(answer)[-1]["type"] == "error"
    assert b"scripted failure" not in answer


async def test_without_the_template_s_error_branch_n8n_sends_the_model_s_own_words(n8n: N8n, llm: FakeLlm) -> None:
    """Why the branch is there."""
    llm.plan = Plan(status=500)
    body = relay.body()
    _, answer = await relay.post(n8n.webhook("plain-agent"), body, relay.token(body))
    assert relay.errors(answer) == ["scripted failure 500"]


async def test_the_hash_branch_lets_the_signed_body_through(n8n: N8n, llm: FakeLlm) -> None:
    body = relay.body("Zażółć gęślą jaźń, 日本語 €")
    _, answer = await relay.post(n8n.webhook("hashed"), body, relay.token(body))
    assert relay.text(answer) == "".join(Plan().tokens)
    assert [seen.prompt for seen in llm.seen] == ["Zażółć gęślą jaźń, 日本語 €"]


async def test_the_hash_branch_refuses_a_body_that_was_not_signed(n8n: N8n, llm: FakeLlm) -> None:
    signed, sent = relay.body("Transfer 10"), relay.body("Transfer 99")
    _, answer = await relay.post(n8n.webhook("hashed"), sent, relay.token(signed))
    assert relay.errors(answer) == CHANGED
    assert not llm.seen


async def test_the_hash_branch_refuses_a_token_without_a_hash(n8n: N8n, llm: FakeLlm) -> None:
    body = relay.body()
    _, answer = await relay.post(n8n.webhook("hashed"), body, relay.token(body, {"body_sha256": None}))
    assert relay.errors(answer) == CHANGED
    assert not llm.seen


async def test_the_hash_branch_refuses_the_same_content_in_other_bytes(n8n: N8n, llm: FakeLlm) -> None:
    signed = relay.body()
    sent = json.dumps(json.loads(signed), separators=(",", ":")).encode()
    _, answer = await relay.post(n8n.webhook("hashed"), sent, relay.token(signed))
    assert relay.errors(answer) == CHANGED
    assert not llm.seen


async def test_without_the_hash_branch_another_body_passes_with_the_same_token(n8n: N8n, llm: FakeLlm) -> None:
    """The limit of the template as shipped: a token read in its minute is good for any text in the same session."""
    signed, sent = relay.body("Transfer 10"), relay.body("Transfer 99")
    await relay.post(n8n.webhook("sidegate-chat"), sent, relay.token(signed))
    assert [seen.prompt for seen in llm.seen] == ["Transfer 99"]


async def test_a_replayed_request_is_answered_again_even_with_the_hash_branch(n8n: N8n, llm: FakeLlm) -> None:
    """n8n keeps no list of `jti`: within the token's minute an exact copy passes."""
    body = relay.body()
    bearer = relay.token(body)
    for _ in range(2):
        await relay.post(n8n.webhook("hashed"), body, bearer)
    assert len(llm.seen) == 2


def test_the_template_carries_no_credential_and_leaves_the_hash_branch_off() -> None:
    template = json.loads(workflows.TEMPLATE.read_text())
    assert not [node["name"] for node in template["nodes"] if "credentials" in node]
    assert "id" not in template
    assert [node["name"] for node in template["nodes"] if node.get("disabled")] == [
        "Hash of the body",
        "Body unchanged?",
    ]
    kinds = {node["type"] for node in template["nodes"]}
    assert all(kind.startswith((BASE, LANGCHAIN)) for kind in kinds)


def test_a_second_install_finds_the_first() -> None:
    done = subprocess.run([HERE / "install"], capture_output=True, text=True, timeout=1800, check=True)
    again = subprocess.run([HERE / "install"], capture_output=True, text=True, timeout=60, check=True)
    assert done.returncode == 0
    assert "already there" in again.stdout


def test_the_lock_file_pins_every_package_and_names_no_place_to_get_it_from() -> None:
    packages = json.loads((HERE / "slim/package-lock.json").read_text())["packages"]
    del packages[""]
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert not [name for name, package in packages.items() if not package.get("integrity", "").startswith("sha512-")]
