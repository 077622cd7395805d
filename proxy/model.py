"""The vocabulary: what passes through Sidegate, and the contracts of what handles it.

client    who is connected            session   a verified visitor of one site
site      a tenant                    request   one message on its way upstream
piece     text as the upstream sent it, one network read
answer    what goes back, as events: start, delta, done | error
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from math import inf
from typing import BinaryIO, Literal, Protocol, TypeVar

from proxy.errors import ProxyError, UpstreamError, UpstreamUnavailable

Mode = Literal["enforce", "observe"]


@dataclass(frozen=True, slots=True)
class Site:
    """A tenant. What one stage needs to know of a site lives in that stage, keyed by the site's name."""

    name: str
    origins: frozenset[str]  # exact serialised origins, lower case
    upstream: str  # the first of them, where there are several
    page: bool = False  # serves the chat page, so its own origin may talk to it
    allow_credentials: bool = False  # CORS: may a page send cookies
    weights: Mapping[str, int] = field(default_factory=dict, hash=False)  # of its upstreams, where there are several
    auth: frozenset[str] = frozenset({"anonymous"})  # the kinds of credential that it accepts
    is_whole: bool = False  # its answers leave only once they are complete


@dataclass(frozen=True, slots=True)
class Credential:
    """What the client proves itself with. The value never shows."""

    kind: Literal["bearer", "cookie", "ticket"]
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a credential that isn't a session's says of its holder; of an anonymous one, nothing."""

    key: str = ""  # see Session
    owner: str = ""  # see Session
    ends: float = inf  # Unix time, as far as the credential says
    born: float = 0.0  # Unix time, of a token


@dataclass(frozen=True, slots=True)
class Session:
    """A verified session."""

    id: str
    site: str
    fingerprint: str
    ends: float  # Unix time
    owner: str = ""  # whom it belongs to, where its credential says so: `key:NAME`, `jwt:ISSUER#SUB`
    key: str = ""  # what it was opened with: `api_key:NAME`, `embed_key:NAME`, `jwt`; nothing for anonymous ones
    born: int = 0  # Unix time of its opening; refreshing doesn't change it
    has_many: bool = False  # its address had opened many when it opened this one


@dataclass(frozen=True, slots=True)
class Facts:
    """What a browser and a trusted front say besides; empty where they don't."""

    hints: str = ""  # Sec-CH-UA, -Platform, -Mobile
    device: str = field(default="", repr=False)  # X-Sidegate-Device: a value that the page keeps
    tls: str = ""
    country: str = ""
    asn: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """Who is connected: facts read off the wire, plus site and session once known."""

    request_id: str
    ip: str
    route: str  # session, refresh, ticket, end, messages, answers, events, ws, widget, waiting, pressed
    method: str = "GET"
    host: str = ""
    scheme: str = "http"
    origin: str | None = None
    referer: str | None = None
    fetch_site: str | None = None
    purpose: str = ""  # why a browser asks, where it says so: prefetch, prerender
    user_agent: str = ""
    language: str = ""
    facts: Facts = Facts()
    solution: str | None = field(default=None, repr=False)  # of a challenge, as the client sent it
    media: str = ""  # of its body: type/subtype in small letters
    csrf: str = ""  # X-CSRF-Token
    has_url_token: bool = False  # a token stands in the URL, where others read it
    traceparent: str | None = None
    site_name: str | None = None  # as named by X-Sidegate-Site
    credential: Credential | None = None
    embed_key: str | None = field(default=None, repr=False)
    conversation: str = ""  # as named by X-Sidegate-Conversation
    sites: tuple[Site, ...] = ()  # those it may be talking to, as far as is known yet
    site: Site | None = None
    needs_owner: bool = False  # no browser speaks for it: only who has an owner may pass
    identity: Identity = Identity()
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Where one limit stands after a decision."""

    name: str
    limit: int
    window: float  # seconds
    remaining: int
    reset: float  # seconds until the oldest counted hit leaves the window (or, when refused, until a hit passes)


# In the context of a chat completion's message: what was said before it, [{"role", "content"}]
HISTORY = "history"


@dataclass(frozen=True, slots=True)
class File:
    """A file that came with a message. Its bytes are in a temporary place, which `close` gives back."""

    name: str = field(repr=False)
    media: str  # as its sender says; from the guard on, what it is
    size: int  # bytes
    sha256: str
    data: BinaryIO = field(compare=False, repr=False)
    close: Callable[[], None] = field(compare=False, repr=False)

    def look(self, at: int, size: int) -> bytes:
        """Bytes of it. Waits for the disk, so not on the event loop; ValueError once it is closed."""
        self.data.seek(at)
        return self.data.read(size)


@dataclass(frozen=True, slots=True)
class Message:
    """What the client said, as the edge decoded it. Shape and size are judged by the guard."""

    text: str
    context: dict[str, object] = field(default_factory=dict)
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the content rules made of a message. It travels in the upstream token."""

    scores: Mapping[str, float] = field(default_factory=dict)  # by category, those above 0
    flags: tuple[str, ...] = ()  # categories that passed, but are to be named
    masked: Mapping[str, int] = field(default_factory=dict)  # how many of each kind of personal data


BYTES_PER_TOKEN = 4  # of ordinary text, about


# Why a model ended its answer, in OpenAI's words.
Finish = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as an upstream counts them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Execution:
    """A run of a workflow that asks its visitor back, and waits. `token`: n8n's, to go on with it."""

    upstream: str  # by name
    id: str
    token: str = field(default="", repr=False)


class Bill:
    """What one message costs, as it becomes known; whoever reserved for it is told at the end. Not frozen: one object
    goes along with a message, however often the message is enriched."""

    def __init__(self) -> None:
        self.ran = False  # the upstream was asked
        self.usage: Usage | None = None  # where the upstream says so
        self.finish: Finish = "stop"  # where the upstream says another
        self.output = 0  # characters that the upstream sent
        self.message_bytes = 0
        self.waiting: Execution | None = None  # it has no answer yet: what it began waits for the visitor
        self._settle: list[Callable[[Bill], None]] = []

    @property
    def executions(self) -> int:
        return int(self.ran)

    @property
    def tokens(self) -> int:
        """As the upstream says, or estimated; 0 where nothing ran."""
        if not self.ran:
            return 0
        if self.usage is not None:
            return self.usage.input_tokens + self.usage.output_tokens
        return -(-(self.message_bytes + self.output) // BYTES_PER_TOKEN)

    def begin(self, text: str) -> None:
        """The upstream is being asked."""
        self.ran = True
        self.message_bytes = len(text.encode())

    def on_close(self, settle: Callable[[Bill], None]) -> None:
        self._settle.append(settle)

    def __enter__(self) -> Bill:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, UpstreamUnavailable) or (isinstance(error, UpstreamError) and not error.was_sent):
            self.ran = False
        for settle in self._settle:
            settle(self)


@dataclass(frozen=True, slots=True)
class Request:
    """One message from one client to one upstream, with what the guard learnt about it."""

    id: str
    answer_id: str
    client: Client
    site: Site
    session: Session
    message: Message
    idempotency_key: str | None = None
    counts: tuple[Count, ...] = ()
    verdict: Verdict = Verdict()
    # What the placeholders of this session stand for, such as "[EMAIL_1]". Its own answers alone may have it.
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    upstream: str = ""  # that is asked, by name
    bill: Bill = field(default_factory=Bill, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Webhook:
    """What a provider sent to `/hooks/NAME`, as it came."""

    client: Client
    hook: str  # by name
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # by names in small letters
    query: str = field(default="", repr=False)  # as called, without the question mark
    delivery: str = ""  # once verified: the same for all attempts at one event; 32 hex digits
    signature: str = ""  # of this attempt alone, where the provider signs the time
    verdict: Verdict = Verdict()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider is answered. `outcome`: done, queued, duplicate or challenge."""

    outcome: str = "done"
    status: int = 200
    body: bytes = field(default=b"", repr=False)
    media: str = ""


T = TypeVar("T")


class Stage(Protocol[T]):
    """One admission check. Connect stages see a Client, message stages a Request."""

    @property
    def name(self) -> str: ...

    @property
    def mode(self) -> Mode: ...

    async def check(self, subject: T) -> T:
        """Return the subject, enriched if need be; raise Denied to turn it away."""
        ...


@dataclass(frozen=True, slots=True)
class LargeBody:
    """A body with files in it, which is sent piece by piece."""

    media: str
    length: int
    sha256: str
    parts: tuple[bytes | File, ...] = field(repr=False)


Body = bytes | LargeBody


class Upstream(Protocol):
    """Something that answers."""

    def encode(self, request: Request) -> Body:
        """The body to send, built from scratch; its hash is signed into the token. Where there are files it reads them,
        so not on the event loop then.
        """
        ...

    def open(self, request: Request, body: Body, token: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Yield the answer's text, one piece per network read. Entering waits until the upstream opened.

        Raises UpstreamError or UpstreamTimeout, from entering as well as from iterating.
        """
        ...


class Filter(Protocol):
    """One answer's way through one rule. Synchronous, pure, fresh for every answer."""

    @property
    def held(self) -> int:
        """How many characters it keeps back now."""
        ...

    @property
    def hits(self) -> Mapping[str, int]:
        """How often each of its rules acted, by name."""
        ...

    def feed(self, text: str) -> str:
        """Take more text; return what may go out now, keeping back what is undecided."""
        ...

    def flush(self) -> str:
        """The answer is over: return what was kept back."""
        ...


class Sink(Protocol):
    """The client's end of an answer. start, send and done raise ClientGone; fail never raises."""

    def admit(self, request: Request) -> None:
        """The guard let the message pass; the upstream is about to be asked."""
        ...

    async def start(self) -> None:
        """The upstream opened."""
        ...

    async def send(self, text: str) -> None: ...
    async def done(self) -> None: ...
    async def fail(self, error: ProxyError) -> None: ...
