"""What is made of a chat completion's fields, whatever they are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.edge.completions import CompletionSettings, asked
from proxy.errors import BadRequest
from proxy.model import HISTORY

SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=8)
CONTENT = SCALARS | st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "refusal", "image_url"]), "text": SCALARS}) | SCALARS,
    max_size=3,
)
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool", "other"])
MESSAGE = st.fixed_dictionaries({"role": ROLES, "content": CONTENT})
TEXT = st.fixed_dictionaries({"role": ROLES, "content": st.text(max_size=12)})
FIELDS = st.fixed_dictionaries(
    {"model": SCALARS, "messages": st.lists(MESSAGE | SCALARS, max_size=6) | SCALARS},
    optional={"n": SCALARS, "stream": SCALARS, "stream_options": SCALARS, "user": SCALARS},
)
CHOICES = st.builds(
    CompletionSettings, system=st.sampled_from(["ignore", "allow"]), history=st.integers(min_value=0, max_value=40)
)


@settings(deadline=None)
@given(FIELDS, CHOICES)
def test_any_fields_are_a_question_or_a_refusal(fields: dict[str, object], choice: CompletionSettings) -> None:
    refused = ""
    try:
        asked(fields, choice)
    except BadRequest as error:
        refused = error.public
    assert refused != BadRequest.message  # it says what is wrong


@settings(deadline=None)
@given(st.lists(TEXT, max_size=8), CHOICES)
def test_what_goes_along_is_bounded_in_order_and_the_latest(
    before: list[dict[str, str]], choice: CompletionSettings
) -> None:
    found = asked({"model": "shop", "messages": [*before, {"role": "user", "content": "question"}]}, choice)
    history = found.message.context.get(HISTORY, [])
    assert isinstance(history, list)
    assert found.message.text == "question"
    assert sum(len(turn["content"]) for turn in history) <= choice.history
    roles = [turn["role"] for turn in history]
    assert set(roles) <= {"system", "user", "assistant"}
    assert "system" not in roles or choice.system == "allow"
    said = [turn for turn in history if turn["role"] != "system"]
    theirs = [turn for turn in before if turn["role"] in ("user", "assistant") and turn["content"]]
    assert said == theirs[len(theirs) - len(said) :]
