"""Working stand-ins for the ports of the chat service."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from services.chat import conversation
from services.chat.ports import Finished, Older, Prompt, Said, Thought
from shared.contract import (
    Done,
    Failed,
    FinishReason,
    SpeechRequest,
    Started,
    Text,
    Usage,
)
from shared.errors import Cancelled, Conflict, Superseded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from services.chat.conversation import Conversation
    from services.chat.turn import Turn
    from shared.contract import Delta

# ---------------------------------------------------------------- the chat service's ports

STOP = Finished(FinishReason.STOP, Usage(7, 3))


# What a scripted model does: says words, thinks, ends, breaks, or lets the test step in.
Step: TypeAlias = "str | Thought | Finished | Exception | Callable[[], None]"


class ScriptedModel:
    """Plays one script for each request and keeps what it was asked."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self._scripts = list(scripts)
        self.prompts: list[Prompt] = []
        self.untils: list[float] = []
        self.closed = 0

    async def answer(
        self, prompt: Prompt, *, until: float
    ) -> AsyncIterator[Said | Thought | Finished]:
        self.prompts.append(prompt)
        self.untils.append(until)
        try:
            for step in self._scripts.pop(0):
                if isinstance(step, str):
                    yield Said(step)
                elif isinstance(step, Thought | Finished):
                    yield step
                elif isinstance(step, Exception):
                    raise step
                else:
                    step()
        finally:
            self.closed += 1


class MemoryConversations:
    """Documents as bytes under revisions, changed by compare-and-set.

    `rivals` are changes that somebody else makes just before a save: one for each save, None where
    nobody does; such a save meets a Conflict.
    """

    def __init__(self, journal: list[str] | None = None) -> None:
        self.journal = [] if journal is None else journal
        self.rivals: list[Callable[[Conversation], Conversation] | None] = []
        self.saves = 0
        self._documents: dict[str, tuple[bytes, int]] = {}

    def __getitem__(self, conversation_id: str) -> Conversation:
        return conversation.decode(self._documents[conversation_id][0])

    def put(self, conversation_id: str, document: Conversation) -> None:
        _, revision = self._documents.get(conversation_id, (b"", 0))
        self._documents[conversation_id] = (conversation.encode(document), revision + 1)

    async def load(self, conversation_id: str) -> tuple[Conversation, int]:
        data, revision = self._documents.get(conversation_id, (None, 0))
        return conversation.decode(data), revision

    async def save(self, conversation_id: str, document: Conversation, revision: int) -> int:
        rival = self.rivals.pop(0) if self.rivals else None
        if rival is not None:
            found, _ = await self.load(conversation_id)
            self.put(conversation_id, rival(found))
        _, current = self._documents.get(conversation_id, (b"", 0))
        if current != revision:
            raise Conflict
        self.put(conversation_id, document)
        self.saves += 1
        self.journal.append("save")
        return revision + 1


class Published:
    """Publish for one turn: keeps the events, the requests for a voice, and the order of all.

    With `lags` text waits in the turn until it is drained, as behind a slow server. After
    `fenced_after` events the worker learns that it was replaced.
    """

    def __init__(
        self,
        journal: list[str] | None = None,
        *,
        lags: bool = False,
        fenced_after: int | None = None,
        stored: Sequence[Delta] = (),
    ) -> None:
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
        last = max(event.attempt for event in self.events)
        return "".join(e.text for e in self.events if isinstance(e, Text) and e.attempt == last)

    async def started(self, event: Started) -> int:
        self._keep(event)
        return 100 + len(self.events)

    async def voice(self, request: SpeechRequest) -> None:
        self.voices.append(request)
        self.journal.append("voice")

    async def text(self, turn: Turn) -> None:
        if not self._lags:
            self._send(turn)

    def _send(self, turn: Turn) -> None:
        while (event := turn.take()) is not None:
            self._keep(event)

    async def drained(self, turn: Turn) -> None:
        self._send(turn)
        self.journal.append("drained")

    async def end(self, event: Done | Failed) -> None:
        self._keep(event)

    async def ended(self, turn_id: str, since: int) -> bool:
        self.asked_since.append(since)
        return any(e.turn_id == turn_id and isinstance(e, Done | Failed) for e in self._stored)


class EarOf:
    """Heard: the first `heard_ms` characters, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    async def text(self, conversation_id: str, turn_id: str, heard_ms: int, text: str) -> str:
        self.asked.append((conversation_id, turn_id, heard_ms))
        return text[:heard_ms]


class Clock:
    """Now: a clock that moves only when somebody pauses, or the test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.pauses: list[float] = []
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

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


class Queue:
    """Line: each look sees the next of `looks`; the last one stays."""

    def __init__(self, *looks: Sequence[str]) -> None:
        self._looks = list(looks)
        self.limits: list[int] = []
        self.interrupted: list[str] = []
        self.waits = 0

    async def older(self, limit: int) -> Sequence[Older]:
        self.limits.append(limit)
        look = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        return [Older(n, turn_id) for n, turn_id in enumerate(look, 1)][:limit]

    async def changed(self) -> None:
        self.waits += 1

    async def interrupt(self, turn_id: str) -> None:
        self.interrupted.append(turn_id)
