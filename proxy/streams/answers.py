"""All answers of this process: the place that owns their tasks, and keeps them for whoever comes back."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress

import orjson

from proxy.errors import Draining, NotFound, ProxyError, SessionInvalid, UpstreamUnavailable
from proxy.model import Request, Session
from proxy.store import ALIVE, StoreDown
from proxy.streams import StreamSettings
from proxy.streams.answer import Answer, Transcript
from proxy.streams.claims import Claim, Claims
from proxy.streams.journal import Journal
from proxy.streams.remote import RemoteAnswer

MAX_KEPT_BYTES = 64 * 1024 * 1024
MAX_KEPT = 20_000
PATIENCE = ALIVE  # seconds in which an answer that another replica has begun gets into the journal

Run = Callable[[Request, Answer], Coroutine[None, None, None]]


class Answers:
    """`settings` by site; `announce` is called when an answer has begun. With a journal, replicas reach one another's.
    `claims` says which of them answers a message that is sent again.

    Kept answers are bounded in number and bytes: the oldest finished ones go first.
    """

    def __init__(
        self,
        settings: Mapping[str, StreamSettings],
        claims: Claims,
        announce: Callable[[Request], None] = lambda _: None,
        avoided: Callable[[str], None] = lambda _: None,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._claims = claims
        self._clock = clock
        self._announce = announce
        self._avoided = avoided
        self._journal = journal
        self._now = now
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._questions: dict[bytes, str] = {}  # what is being answered
        self._ends: dict[str, asyncio.TimerHandle] = {}  # of the sessions of those that run
        self._sizes: dict[str, int] = {}  # of those that are over
        self._size = 0
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        return len(self._tasks)

    async def ask(self, request: Request, run: Run) -> Transcript:
        """begin(); or where the message's key began an answer before, and it hasn't failed, that one, wherever it runs.

        Without a key, a browser's message that its session is being given an answer to, here and now, is a second click
        on the same button. (A program that means that has the key; the same words again after their answer is done are
        a new message.) Raises what begin() does, Conflict when the key came with another message, and
        UpstreamUnavailable when another replica's answer can't be looked at.
        """
        if request.idempotency_key is None:
            if (answer := self._clicked(request)) is None:
                return self.begin(request, run)
            self._avoided("duplicate")
            return answer
        claim = self._claims.of(request, request.idempotency_key)
        if (known := await self._known(request.session, claim)) is not None:
            self._avoided("repeated")
            return known
        try:
            return self.begin(request, _releasing(run, claim))
        except ProxyError:
            await claim.release()
            raise

    def begin(self, request: Request, run: Run) -> Answer:
        """Start answering, apart from whoever asked. Raises Draining, UpstreamUnavailable when too many run."""
        if self._is_draining:
            raise Draining("no new answers while draining")
        if len(self._tasks) >= MAX_KEPT:
            raise UpstreamUnavailable("too many answers are running", retry_after=1)
        answer = Answer(request, self._settings[request.site.name], self._announce)
        self._answers[answer.id] = answer
        # The one owner of these tasks is this object; `_ended` forgets them, `close` ends them.
        task = asyncio.create_task(run(request, answer), name=f"answer {answer.id}")  # noqa: TID251
        self._tasks[answer.id] = task
        question = _question(request)
        self._questions[question] = answer.id
        self._idle.clear()
        left = request.session.ends - self._now()
        self._ends[answer.id] = asyncio.get_running_loop().call_later(max(0, left), self._expel, answer)
        answer.abandon_by(lambda: self._cancel(answer.id))
        if self._journal is not None:
            self._journal.follow(answer, self._settings[request.site.name], lambda: self._cancel(answer.id))
        task.add_done_callback(lambda _: self._ended(answer, question))
        return answer

    def expel(self, has_ended: Callable[[Session], bool]) -> None:
        """End the answers of sessions that have ended; whoever listens is told."""
        for answer_id in list(self._tasks):
            answer = self._answers[answer_id]
            if has_ended(answer.request.session):
                self._expel(answer)

    async def find(self, session: Session, answer_id: str) -> Transcript:
        """An answer of this very session, running or kept, here or at another replica.

        Raises NotFound, whoever else's it may be; UpstreamUnavailable when the other replicas' can't be looked at.
        """
        answer = self._answers.get(answer_id)
        if answer is not None and _identity(answer.request.session) == _identity(session):
            return answer
        if self._journal is not None:
            try:
                remote = await self._journal.find(session, answer_id)
            except StoreDown as down:
                raise UpstreamUnavailable(f"journal: {down}", retry_after=1) from down
            if remote is not None:
                return remote
        raise NotFound("no such answer of this session")

    async def stop(self, answer: Transcript) -> None:
        """End it for its owner; its upstream is closed at once. Raises UpstreamUnavailable."""
        if isinstance(answer, RemoteAnswer):
            try:
                await answer.stop()
            except StoreDown as down:
                raise UpstreamUnavailable(f"journal: {down}", retry_after=1) from down
        self._cancel(answer.id)

    @property
    def are_shared(self) -> bool:
        """Other replicas can read them."""
        return self._journal is not None

    async def drain(self, seconds: float) -> None:
        """Begin no more, and give those that run their time."""
        self._is_draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended()

    async def ended(self) -> None:
        """Wait until none runs. The caller sets the time limit."""
        await self._idle.wait()

    def part(self) -> None:
        """Send all who listen away, to come back through another replica. The answers go on."""
        if self._journal is not None:
            self._journal.cut()
        for answer_id in self._tasks:
            self._answers[answer_id].part()

    async def close(self) -> None:
        """End those that run, with `draining`."""
        self._is_draining = True
        for answer_id, task in list(self._tasks.items()):
            await self._answers[answer_id].fail(Draining("the process is shutting down", retry_after=1))
            task.cancel()
        await self._idle.wait()  # at once: a cancelled flow ends without waiting for anybody
        for answer in self._answers.values():
            answer.close()

    def _clicked(self, request: Request) -> Answer | None:
        """The answer to this very message of this session that is under way here."""
        if request.client.fetch_site is None:
            return None
        answer = self._answers.get(self._questions.get(_question(request), ""))
        return answer if answer is not None and not answer.is_over else None

    async def _known(self, session: Session, claim: Claim) -> Transcript | None:
        """The answer that holds the key; None when the key is ours now. Ends when one of both is clear."""
        value = instead = b""
        since = self._clock()
        while (held := await claim.take(instead)) is not None:
            if held.value != value:
                value, since = held.value, self._clock()
            instead = b""
            try:
                answer = await self.find(session, held.answer_id)
            except NotFound:
                # Another replica has only just begun it; or it was refused, forgotten, or lost with its replica.
                if self._journal is None or self._clock() - since >= PATIENCE:
                    instead = value
            else:
                if answer.failure is None:
                    return answer
                instead = value
        return None

    def _expel(self, answer: Answer) -> None:
        answer.break_off(SessionInvalid("the session ended while it was answered"))
        self._cancel(answer.id)

    def _cancel(self, answer_id: str) -> None:
        task = self._tasks.get(answer_id)
        if task is not None:
            task.cancel()

    def _ended(self, answer: Answer, question: bytes) -> None:
        answer.stop()  # only where it was cancelled it hasn't an end yet
        answer.close()
        if self._journal is not None and not answer.is_admitted:
            self._journal.forget(answer.id)
        del self._tasks[answer.id]
        if self._questions.get(question) == answer.id:
            del self._questions[question]
        self._ends.pop(answer.id).cancel()
        if not self._tasks:
            self._idle.set()
        self._sizes[answer.id] = size = answer.pack()
        self._size += size
        ttl = self._settings[answer.request.site.name].journal_ttl
        asyncio.get_running_loop().call_later(ttl, self._forget, answer.id)
        while self._answers and (self._size > MAX_KEPT_BYTES or len(self._answers) > MAX_KEPT):
            oldest = next((known for known in self._answers if known not in self._tasks), None)
            if oldest is None:
                break
            self._forget(oldest)

    def _forget(self, answer_id: str) -> None:
        answer = self._answers.pop(answer_id, None)
        if answer is not None:
            self._size -= self._sizes.pop(answer_id)
            if self._journal is not None:
                self._journal.forget(answer_id)


def _releasing(run: Run, claim: Claim) -> Run:
    """A message that the guard refuses, or that is stopped before, gives its key back."""

    async def running(request: Request, answer: Answer) -> None:
        answer.on_refusal(claim.release)  # whoever reads of the refusal may send the key again at once
        try:
            await run(request, answer)
        finally:
            if not answer.is_admitted:
                await claim.release()

    return running


def _question(request: Request) -> bytes:
    """A session's message as the client sent it."""
    message = request.message
    files = [[file.name, file.media, file.sha256] for file in message.files]
    said = orjson.dumps([*_identity(request.session), message.text, message.context, files], default=str)
    return hashlib.sha256(said).digest()


def _identity(session: Session) -> tuple[str, str, str]:
    return session.site, session.id, session.owner
