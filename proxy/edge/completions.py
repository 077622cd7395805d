"""Chat completions as OpenAI's clients send and read them: a request's fields, and an answer as document or chunks.

Pure. Source: OpenAI's API reference, "Create chat completion" and "Error codes", and what its own clients read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import orjson
from pydantic import Field

from proxy.config import Section
from proxy.errors import BadRequest, OutputBlocked, ProxyError, UpstreamError
from proxy.model import BYTES_PER_TOKEN, HISTORY, Message
from proxy.streams.event import Event, Fields

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MAX_MESSAGES = 1000
MAX_USER_CHARS = 512
DONE = b"data: [DONE]\n\n"


class CompletionSettings(Section):
    """`history`: so many characters of a conversation's earlier messages go along, the latest ones; 0 for none.

    `system`: what a client writes as `system` or `developer` is dropped, or goes along (and counts in `history`).
    """

    system: Literal["ignore", "allow"] = "ignore"
    history: Annotated[int, Field(ge=0, le=32_768)] = 8192


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for. `user` is its own name for whoever speaks through it; "" where it says none."""

    message: Message
    model: str
    user: str
    is_stream: bool
    wants_usage: bool


def asked(fields: Fields, settings: CompletionSettings) -> Asked:
    """Raises BadRequest. Fields that only steer a model (temperature, tools, …) are ignored: the site does that."""
    model, many = fields.get("model"), fields.get("n")
    if not isinstance(model, str):
        raise BadRequest("model is no string", public='The field "model" must be a string.')
    if many not in (None, 1):
        raise BadRequest("n", public='One answer at a time: "n" must be 1.')
    turns = _turns(fields.get("messages"))
    if not turns or turns[-1][0] != "user":
        raise BadRequest("no question", public='The last of "messages" must be the user\'s.')
    question = turns.pop()[1]
    options = fields.get("stream_options")
    return Asked(
        message=Message(question, _history(turns, settings)),
        model=model,
        user=_user(fields),
        is_stream=fields.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _user(fields: Fields) -> str:
    for name in ("safety_identifier", "user"):
        value = fields.get(name)
        if isinstance(value, str) and len(value) <= MAX_USER_CHARS:
            return value
    return ""


def _turns(messages: object) -> list[tuple[str, str]]:
    """Role and text of each message. Those of tools are left out: whoever has none of ours has no part in it."""
    if not isinstance(messages, list) or len(messages) > MAX_MESSAGES:
        raise BadRequest("messages", public=f'The field "messages" must be a list of at most {MAX_MESSAGES}.')
    turns = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str):
            raise BadRequest("a message without a role", public='Each of "messages" must have a "role".')
        if role in ROLES:
            turns.append((ROLES[role], _text(message.get("content"))))
    return turns


def _text(content: object) -> str:
    """A string, or parts of type text (`refusal` of an assistant's). Nothing where an assistant only called tools."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    texts = [_part(part) for part in content] if isinstance(content, list) else []
    if not texts or None in texts:
        raise BadRequest("content that is no text", public="Messages can hold text only.")
    return "\n".join(text for text in texts if text is not None)


def _part(part: object) -> str | None:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
    return None


def _history(turns: Sequence[tuple[str, str]], settings: CompletionSettings) -> dict[str, object]:
    """What goes along of the earlier messages: those of the system first, then as many of the latest as there is
    room for. None is cut in two.
    """
    left = settings.history
    system: list[object] = []
    said: list[object] = []
    for role, text in turns:
        if role == "system" and settings.system == "allow" and text and len(text) <= left:
            left -= len(text)
            system.append({"role": role, "content": text})
    for role, text in reversed([turn for turn in turns if turn[0] != "system"]):
        if len(text) > left:
            break
        left -= len(text)
        if text:
            said.append({"role": role, "content": text})
    history = system + said[::-1]
    return {HISTORY: history} if history else {}


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer in OpenAI's form. `created`: Unix time. `question` is only counted, where the upstream counts no
    tokens itself.
    """

    id: str
    model: str
    created: int
    question: str

    def document(self, text: str, finish: str, told: object) -> bytes:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return orjson.dumps(self._fields("chat.completion", [choice], usage=self._usage(text, told)))

    def chunk(self, delta: Fields, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event(self._fields("chat.completion.chunk", [choice]))

    def usage(self, text: str, told: object) -> bytes:
        return _event(self._fields("chat.completion.chunk", [], usage=self._usage(text, told)))

    def _fields(self, kind: str, choices: list[object], **more: object) -> Fields:
        return {
            "id": f"chatcmpl-{self.id}", "object": kind, "created": self.created, "model": self.model,
            "choices": choices, **more,
        }  # fmt: skip

    def _usage(self, text: str, told: object) -> Fields:
        """As the upstream says, or estimated."""
        match told:
            case {"input_tokens": int(asked_), "output_tokens": int(said)}:
                pass
            case _:
                asked_, said = _tokens(self.question), _tokens(text)
        return {"prompt_tokens": asked_, "completion_tokens": said, "total_tokens": asked_ + said}


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def chunks(completion: Completion, events: Sequence[Event], *, with_usage: bool, text: str) -> bytes:
    """Events of an answer as OpenAI's stream has them. `text`: all of it, at its end."""
    parts: list[bytes] = []
    for event in events:
        match event.name:
            case "start":
                parts.append(completion.chunk({"role": "assistant", "content": ""}))
            case "delta":
                parts.append(completion.chunk({"content": event.fields["text"]}))
            case "error" if event.fields["code"] != OutputBlocked.code:
                said = error_fields(str(event.fields["code"]), event.fields["message"])
                parts.append(_event({"error": said | {"request_id": event.fields["request_id"]}}))
            case _:
                parts.append(completion.chunk({}, finish_of(event)))
                if with_usage:
                    parts.append(completion.usage(text, event.fields.get("usage")))
                parts.append(DONE)
    return b"".join(parts)


def finish_of(last: Event) -> str:
    """Why the answer with this last event has ended: `length` where the model, or a bound of ours, cut it."""
    return str(last.fields.get("finish", "content_filter" if last.name == "error" else "stop"))


def _event(fields: Fields) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def error_fields(code: str, message: object, status: int = 500) -> Fields:
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": message, "type": kind, "param": None, "code": code}


def may_try_again(error: ProxyError) -> bool:
    """OpenAI's clients repeat by themselves what failed. What reached the upstream would run, and cost, twice."""
    return error.status in (429, 503) or (isinstance(error, UpstreamError) and not error.was_sent)
