"""Working stand-ins for the ports of the chat service."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from services.chat import conversation
from services.chat.heard import SpokenPiece
from services.chat.ports import Finished, Said, Thought, Told
from services.chat.queue import Older
from shared.contract import (
    SAMPLE_RATE,
    Done,
    Failed,
    FinishReason,
    SpeechRequest,
    Started,
    Text,
    Usage,
)
from shared.errors import Cancelled, Conflict, Full, NatsError, StorageUnavailable, Superseded, Torn
from shared.nats.documents import Held, amend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from services.chat.conversation import Conversation
    from services.chat.prompt import Prompt
    from services.chat.turn import Turn
    from shared.contract import AudioFailed, CancelRequest, Code, Delta, Message
    from shared.errors import Failure, ProviderError
    from shared.process.cancel import CancelToken
    from shared.refuse import Message as QueuedMessage

# ---------------------------------------------------------------- the model

STOP = Finished(FinishReason.STOP, Usage(7, 3))


# What a scripted model does: says words, thinks, ends, breaks, or lets the test step in.
Step: TypeAlias = "str | Thought | Usage | Finished | Exception | Callable[[], None]"


class ScriptedModel:
    """Plays one script for each request and keeps what it was asked."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self._scripts = list(scripts)
        self.prompts: list[Prompt] = []
        self.untils: list[float] = []
        self.patience: list[float] = []
        self.closed = 0

    async def answer(
        self, prompt: Prompt, *, until: float, patient_until: float = 0.0
    ) -> AsyncIterator[Said | Thought | Usage | Finished]:
        self.prompts.append(prompt)
        self.untils.append(until)
        self.patience.append(patient_until)
        try:
            for step in self._scripts.pop(0):
                if isinstance(step, str):
                    yield Said(step)
                elif isinstance(step, Thought | Usage | Finished):
                    yield step
                elif isinstance(step, Exception):
                    raise step
                else:
                    step()
        finally:
            self.closed += 1


# ---------------------------------------------------------------- what is kept


class MemoryConversations:
    """Documents as bytes under revisions, changed by compare-and-set.

    `rivals` are changes that somebody else makes just before a save: one for each save, None where
    nobody does; such a save meets a Conflict. With `contested` every save does.
    """

    def __init__(self, journal: list[str] | None = None) -> None:
        self.journal = [] if journal is None else journal
        self.rivals: list[Callable[[Conversation], Conversation] | None] = []
        self.contested = False
        self.limit: int | None = None  # bytes of all documents; more finds no room
        self.loads = 0
        self.saves = 0
        self._documents: dict[str, tuple[bytes, int]] = {}

    def __getitem__(self, conversation_id: str) -> Conversation:
        return conversation.decode(self._documents[conversation_id][0])

    def __contains__(self, conversation_id: str) -> bool:
        return conversation_id in self._documents

    def fill(self) -> None:
        """From now on there is no room but that which is taken."""
        self.limit = sum(len(data) for data, _ in self._documents.values())

    def put(self, conversation_id: str, document: Conversation) -> None:
        _, revision = self._documents.get(conversation_id, (b"", 0))
        self._documents[conversation_id] = (conversation.encode(document), revision + 1)

    def damage(self, conversation_id: str) -> None:
        self._documents[conversation_id] = (b"\xff", 1)

    def remove(self, conversation_id: str) -> None:
        self._documents.pop(conversation_id, None)

    async def erase(self, conversation_id: str) -> None:
        self.remove(conversation_id)

    async def load(self, conversation_id: str) -> Held[Conversation]:
        self.loads += 1
        data, revision = self._documents.get(conversation_id, (None, 0))
        return Held(conversation.decode(data), revision)

    async def amend(
        self,
        conversation_id: str,
        change: Callable[[Conversation], Conversation],
        held: Held[Conversation] | None = None,
    ) -> Held[Conversation]:
        return await amend(
            lambda: self.load(conversation_id),
            change,
            lambda document, revision: self._save(conversation_id, document, revision),
            held,
        )

    async def _save(self, conversation_id: str, document: Conversation, revision: int) -> int:
        rival = self.rivals.pop(0) if self.rivals else None
        if rival is not None:
            self.put(conversation_id, rival((await self.load(conversation_id)).value))
        _, current = self._documents.get(conversation_id, (b"", 0))
        if self.contested or current != revision:
            raise Conflict
        others = sum(len(d) for c, (d, _) in self._documents.items() if c != conversation_id)
        size = others + len(conversation.encode(document))
        if self.limit is not None and size > self.limit:
            raise Full(503, 10077, "maximum bytes exceeded")
        self.put(conversation_id, document)
        self.saves += 1
        self.journal.append("save")
        return revision + 1


class MemoryPages:
    """Pages by their number; keeps which ones were asked for."""

    def __init__(self, *pages: Sequence[Message]) -> None:
        self._pages = pages
        self.asked: list[int] = []

    async def page(self, conversation_id: str, number: int) -> Sequence[Message]:
        self.asked.append(number)
        return self._pages[number - 1] if number <= len(self._pages) else []


class MemoryHistory:
    """Past and Remains: events and requests as the test puts them."""

    def __init__(self, conversations: MemoryConversations) -> None:
        self.stored: list[tuple[int, Delta]] = []
        self.queued: list[str] = []  # turns of requests that are not dealt with
        self._conversations = conversations

    async def events(self, conversation_id: str, since: int) -> list[Delta]:
        return [event for sequence, event in self.stored if sequence >= since]

    async def newest_request(self) -> int:
        return 7

    async def requests(self, conversation_id: str, *, until: int) -> list[str]:
        assert until == 7
        return list(self.queued)

    async def drop_requests(self, conversation_id: str) -> None:
        self.queued.clear()

    async def erase(self, conversation_id: str) -> None:
        self.stored.clear()
        self._conversations.remove(conversation_id)


class SteadyVoice:
    """Heard: a voice that says a character in a millisecond, or none; keeps what it was asked."""

    def __init__(self, characters: int | None = 1_000) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self._characters = characters

    async def pieces(
        self, conversation_id: str, turn_id: str, since: str
    ) -> list[SpokenPiece] | None:
        self.asked.append((conversation_id, turn_id, since))
        if self._characters is None:
            return None
        return [SpokenPiece(n, n + 1, SAMPLE_RATE // 1000, True) for n in range(self._characters)]


class ListedVoices:
    """Voices: the turns that the test lists."""

    def __init__(self) -> None:
        self.spoken: list[str] = []
        self.stopped: str | None = None
        self.away = False
        self.on_erase: Callable[[], object] = lambda: None

    async def under_way(self, conversation_id: str) -> list[str]:
        return self.spoken

    async def just_stopped(self, conversation_id: str) -> str | None:
        return self.stopped

    async def erase(self, conversation_id: str) -> None:
        self.on_erase()
        if self.away:
            raise StorageUnavailable("the store is away")
        self.spoken.clear()


# ---------------------------------------------------------------- what is told


class Published:
    """Publish for one turn: keeps the events, the requests for a voice, and the order of all.

    With `lags` text waits in the turn until it is drained, as behind a slow server. After
    `fenced_after` events the worker learns that it was superseded. Whenever it holds as many events
    as `torn_at` says next, what was published last turns out to be torn.
    """

    def __init__(
        self,
        journal: list[str] | None = None,
        *,
        lags: bool = False,
        fenced_after: int | None = None,
        stored: Sequence[Delta] = (),
        torn_at: Sequence[int] = (),
    ) -> None:
        self.torn_at = list(torn_at)
        self.journal = [] if journal is None else journal
        self.events: list[Delta] = []
        self.voices: list[SpeechRequest] = []
        self.asked_since: list[int] = []
        self._stored = list(stored)
        self._lags = lags
        self._fenced_after = fenced_after

    def _keep(self, event: Delta) -> None:
        if self._fenced_after is not None and len(self.events) >= self._fenced_after:
            raise Superseded
        self.events.append(event)
        self.journal.append(type(event).__name__.lower())

    @property
    def read(self) -> str:
        """What a reader of the last attempt has read."""
        last = max((event.attempt for event in self.events), default=1)
        return "".join(e.text for e in self.events if isinstance(e, Text) and e.attempt == last)

    async def started(self, event: Started) -> int:
        self._keep(event)
        return 100 + len(self.events)

    async def voice(self, request: SpeechRequest) -> None:
        self.voices.append(request)
        self.journal.append("voice")

    def text_at_once(self, turn: Turn) -> bool:
        return False

    async def text(self, turn: Turn) -> None:
        if not self._lags:
            self._send(turn)

    def _send(self, turn: Turn) -> None:
        while (event := turn.take()) is not None:
            self._keep(event)
        if self.torn_at and len(self.events) >= self.torn_at[0]:
            del self.torn_at[0]
            raise Torn

    async def drained(self, turn: Turn) -> None:
        self._send(turn)
        self.journal.append("drained")

    async def end(self, event: Done | Failed) -> None:
        self._keep(event)

    async def said(self, turn_id: str, since: int) -> str:
        self.asked_since.append(since)
        own = [e for e in self._stored if e.turn_id == turn_id]
        return "".join(e.text for e in own if isinstance(e, Text))

    async def told(self, turn_id: str, since: str) -> Told:
        assert since
        self.journal.append("looked")
        own = [e for e in self._stored if e.turn_id == turn_id]
        ended = any(isinstance(e, Done | Failed) for e in own)
        return Told(max((e.attempt for e in own), default=0), ended)

    async def ended(self, turn_id: str, since: int) -> bool:
        self.asked_since.append(since)
        return any(e.turn_id == turn_id and isinstance(e, Done | Failed) for e in self._stored)


class MemoryEnds:
    """Ends: keeps them, each once for its message; `away` is how many fail first."""

    def __init__(self, journal: list[str] | None = None) -> None:
        self.journal = [] if journal is None else journal
        self.texts: dict[str, Done | Failed] = {}
        self.voices: dict[str, SpeechRequest | AudioFailed] = {}
        self.away = 0
        self.full = False  # the queue of the voices

    def _reach(self) -> None:
        if self.away:
            self.away -= 1
            raise NatsError("away")

    async def text(self, message: QueuedMessage, end: Done | Failed) -> int:
        self._reach()
        self.texts.setdefault(message.unique, end)
        self.journal.append(type(end).__name__.lower())
        return 100 + len(self.texts)

    async def voice(self, message: QueuedMessage, end: SpeechRequest | AudioFailed) -> None:
        self._reach()
        if self.full and isinstance(end, SpeechRequest):
            raise Full(503, 10077, "maximum bytes exceeded")
        self.voices.setdefault(message.unique, end)
        self.journal.append("voice")


class MemoryDeadLetters:
    def __init__(self, journal: list[str] | None = None) -> None:
        self.journal = [] if journal is None else journal
        self.letters: list[tuple[bytes, Failure]] = []

    async def add(self, message: QueuedMessage, error: Failure) -> None:
        self.letters.append((message.data, error))
        self.journal.append("dead letter")


class SentCancels:
    """Cancels: keeps them, and lets the test do what a worker does on hearing one."""

    def __init__(self) -> None:
        self.sent: list[CancelRequest] = []
        self.on_cancel: Callable[[CancelRequest], object] = lambda _request: None

    async def send(self, request: CancelRequest) -> None:
        self.sent.append(request)
        self.on_cancel(request)


# ---------------------------------------------------------------- the clock, the queue, the slots


class Clock:
    """A clock that moves only when somebody pauses, or the test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.pauses: list[float] = []
        self.on_pause: Callable[[], object] = lambda: None
        self.stopped = False

    def monotonic(self) -> float:
        return self.seconds

    def utc(self) -> str:
        return "2026-01-02T03:04:05.678Z"

    async def pause(self, seconds: float) -> None:
        if self.stopped:
            raise Cancelled
        self.pauses.append(seconds)
        self.seconds += seconds
        self.on_pause()

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


@dataclass
class Queued:
    """A message of the work queue that keeps what became of it."""

    data: bytes = b'{"content":"What is a tide?","turn_id":"t1"}'
    subject: str = "chat.request.c1"
    headers: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 7
    deliveries: int = 1
    unique: str = "7.1"
    taken_at: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    journal: list[str] = field(default_factory=list)

    async def ack(self) -> None:
        self.journal.append("ack")

    async def nak(self, delay: float = 0.0) -> None:
        raise AssertionError(delay)


class ScriptedQueue:
    """Queue and QueuePosition: each look sees the next of `looks`; the last one stays.

    `on_wait` lets the test step in while the request waits.
    """

    def __init__(self, *looks: Sequence[str] | Exception) -> None:
        self._looks = list(looks) or [[]]
        self._stop: CancelToken | None = None
        self.limits: list[int] = []
        self.waits = 0
        self.places = 0  # of those that look or wait now
        self.moved: list[str] = []
        self.holding: set[tuple[str, str]] = set()  # requests that wait or run
        self.on_wait: Callable[[], object] = lambda: None

    @contextlib.asynccontextmanager
    async def position(
        self, conversation_id: str, sequence: int, stop: CancelToken
    ) -> AsyncIterator[ScriptedQueue]:
        self._stop = stop
        self.places += 1
        try:
            yield self
        finally:
            self.places -= 1

    async def holds(self, conversation_id: str, turn_id: str) -> bool:
        return (conversation_id, turn_id) in self.holding

    def ended(self, conversation_id: str) -> None:
        self.moved.append(conversation_id)

    async def older(self, limit: int) -> Sequence[Older]:
        self.limits.append(limit)
        look = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        if isinstance(look, Exception):
            raise look
        return [Older(n, turn_id) for n, turn_id in enumerate(look, 1)][:limit]

    async def changed(self) -> None:
        self.waits += 1
        assert self.waits < 100, "it waits for ever"
        self.on_wait()
        if self._stop is not None and self._stop.cancelled:
            raise Cancelled


class Places:
    """Slots, or a limit: how many are inside now, and how many ever were.

    With `full` nobody gets in; `on_wait` lets the test step in while somebody waits.
    """

    def __init__(self) -> None:
        self.inside = 0
        self.taken = 0
        self.full = False
        self.on_wait: Callable[[], object] = lambda: None

    @contextlib.asynccontextmanager
    async def slot(self, message: QueuedMessage) -> AsyncIterator[None]:
        async with self:
            yield

    async def __aenter__(self) -> None:
        if self.full:
            asyncio.get_running_loop().call_soon(self.on_wait)
            await asyncio.Event().wait()
        self.inside += 1
        self.taken += 1

    async def __aexit__(self, *_: object) -> None:
        self.inside -= 1


@dataclass
class Reported:
    """Implements services.chat.ports.Report; keeps what it is told."""

    attempts: list[int] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    retries: list[Code] = field(default_factory=list)
    spent_on: list[tuple[Usage, float | None]] = field(default_factory=list)

    def begun(self, attempt: int) -> None:
        self.attempts.append(attempt)

    def first_token(self, seconds: float) -> None:
        self.first_tokens.append(seconds)

    def retried(self, error: ProviderError) -> None:
        self.retries.append(error.code)

    def spent(self, usage: Usage, cost: float | None) -> None:
        self.spent_on.append((usage, cost))
