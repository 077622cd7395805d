"""Every way a request can end badly, and what the client is told.

Denied         the guard turned the client away; nothing was sent upstream.
UpstreamError  the thing behind us failed; counts against its circuit breaker.
OutputBlocked  a filter stopped the answer part-way.

`code` is public and stable; `message` is what a visitor may read. `detail` is for the log and never leaves the process.
"""

from __future__ import annotations

from typing import ClassVar, Literal


class ProxyError(Exception):
    """Something went wrong inside. The root of every error that a client can be told about.

    `retry_after` is in seconds; None where waiting doesn't help. `public` replaces the class's message for this one
    error.
    `headers` go out with a plain HTTP refusal (rate limit facts).
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500  # HTTP status, while the response has not started
    close: ClassVar[int | None] = None  # WebSocket close code, where the error ends the connection
    message: ClassVar[str] = "Something went wrong on our side."

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: float | None = None,
        public: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.public = public or self.message
        self.headers = headers or {}


class Denied(ProxyError):
    """The guard said no. `stage` is filled in by the loop that runs the stages."""

    stage: str = ""
    avoids: ClassVar[str] = ""  # for what reason no workflow was run, where it would have been
    is_guess: ClassVar[bool] = False  # a credential that nobody was given: too many of them, and no more are looked at


class OriginDenied(Denied):
    code, status = "origin_denied", 403
    message = "This page may not use this service."


class HostDenied(Denied):
    code, status = "host_denied", 403
    message = "This address is not served here."


class Blocked(Denied):
    code, status = "blocked", 403
    message = "This is not possible from here at the moment."


class AuthRequired(Denied):
    code, status, close = "auth_required", 401, 1008
    message = "Please open a session first."


class AuthFailed(Denied):
    code, status, close = "auth_failed", 401, 1008
    message = "These credentials are not accepted."
    is_guess = True


class CredentialEnded(AuthFailed):
    """It is genuine, and not good now."""

    is_guess = False


class ForbiddenScope(Denied):
    code, status = "forbidden_scope", 403
    message = "This key may not do that."


class SessionInvalid(Denied):
    code, status, close = "session_invalid", 401, 1008
    message = "Your session has ended. Please start again."


class TokenForged(SessionInvalid):
    """It isn't one of ours, or not its bearer's."""

    is_guess = True


class KeysUnavailable(Denied):
    """The keys that a token is to be checked with are not known at the moment: nothing passes unchecked."""

    code, status = "upstream_unavailable", 503
    message = "Signing in is not possible right now. Please try again shortly."


class ChallengeRequired(Denied):
    """RFC 6585 section 3. On a WebSocket a `challenge` frame. `challenge` is the puzzle, where there is one."""

    code, status = "challenge_required", 428
    message = "Please confirm that you are human."

    def __init__(
        self, detail: str = "", *, challenge: dict[str, object] | None = None, public: str | None = None
    ) -> None:
        super().__init__(detail, public=public)
        self.challenge = challenge


class RateLimited(Denied):
    code, status = "rate_limited", 429
    message = "Too many messages. Please wait a moment."


class TooManyConnections(Denied):
    code, status = "too_many_connections", 429
    message = "Too many connections are open. Please close one, or wait a moment."


class BudgetExhausted(Denied):
    code, status, avoids = "budget_exhausted", 429, "budget"
    message = "The assistant has answered as much as it may for now. Please come back later."


class ContentBlocked(Denied):
    code, status, avoids = "content_blocked", 422, "content"
    message = "That message can't be sent."


class UploadRejected(Denied):
    code, status = "upload_rejected", 422
    message = "This file can't be sent."


class BadRequest(Denied):
    code, status = "bad_request", 400
    message = "The request could not be read."


class EmptyMessage(BadRequest):
    avoids = "empty"
    message = "The message is empty."


class Prefetched(BadRequest):
    avoids = "prefetch"
    message = "Nothing is fetched here before it is wanted."


class NotFound(BadRequest):
    """There is nothing at this path; told as `bad_request`, with the status that HTTP has for it."""

    status = 404
    message = "There is nothing here."


class MethodNotAllowed(BadRequest):
    status = 405
    message = "This address doesn't take that method."


class UpgradeRequired(BadRequest):
    status = 426
    message = "This address speaks WebSocket."


class HeadersTooLarge(BadRequest):
    """RFC 6585 section 5."""

    status = 431
    message = "The request's headers are too large."


class RequestTimeout(BadRequest):
    """The client took too long to send its request (RFC 9110 section 15.5.9)."""

    status = 408
    message = "The request took too long to arrive."


class TooLarge(Denied):
    code, status, avoids = "too_large", 413, "too_long"
    message = "That message is too large."


class UnsupportedMedia(Denied):
    code, status = "unsupported_media", 415
    message = "This kind of content is not accepted here."


class Conflict(Denied):
    code, status = "conflict", 409
    message = "Another message is being answered. Please wait for it."


class SignatureInvalid(Denied):
    code, status = "signature_invalid", 401
    message = "The signature is not accepted."


class Replayed(Denied):
    code, status = "replayed", 409
    message = "This was accepted before, and is accepted once."


class UpstreamError(ProxyError):
    """`was_sent` is False where it is certain that the upstream got nothing: then another may be asked."""

    code, status = "upstream_error", 502
    message = "The assistant failed to answer."
    was_sent = True


class UpstreamTimeout(UpstreamError):
    code, status = "upstream_timeout", 504
    message = "The assistant took too long to answer."


class UpstreamUnavailable(ProxyError):
    """The circuit is open or there is no room. Not an UpstreamError: refusing to call is no further failure."""

    code, status = "upstream_unavailable", 503
    message = "The assistant is unavailable right now. Please try again shortly."
    was_sent = False


class OutputBlocked(ProxyError):
    """`allowed` is what may still go out in front of the block: the same text however the answer was
    cut into pieces. `finish`: was it what it says, or only how long it is.
    """

    code, status = "output_blocked", 502
    message = "The rest of this answer was withheld."

    def __init__(
        self,
        detail: str = "",
        *,
        allowed: str = "",
        finish: Literal["content_filter", "length"] = "content_filter",
        public: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail, public=public, retry_after=retry_after)
        self.allowed = allowed
        self.finish = finish


class Draining(ProxyError):
    code, status, close = "draining", 503, 1001
    message = "The service is restarting. Please try again shortly."


class ClientGone(Exception):
    """Raised by a sink when its client has left."""
