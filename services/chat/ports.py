"""What answering a turn needs from the world, in its own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.chat.conversation import Conversation
    from services.chat.turn import Turn
    from shared.contract import (
        Done,
        Failed,
        FinishReason,
        PromptMessage,
        SpeechRequest,
        Started,
        Usage,
    )


class Conflict(Exception):
    """The document has moved on since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model is asked, and how."""

    model: str
    messages: Sequence[PromptMessage]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] | None = None
    seed: int | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The model's own end of its answer."""

    reason: FinishReason
    usage: Usage


class Model(Protocol):
    """A chat model, bound to one turn: it is stopped when the turn is."""

    def answer(self, prompt: Prompt, *, until: float) -> AsyncIterator[Said | Thought | Finished]:
        """The answer as it is made, `Finished` last; `until` is on the clock of `Now.monotonic`.

        Raises:
            ProviderError: with what was said so far already given out.
            DeadlineExceeded: `until` has passed.
            Cancelled: the turn was stopped.
        """
        ...


class Conversations(Protocol):
    """The documents, by compare-and-set."""

    async def load(self, conversation_id: str) -> tuple[Conversation, int]:
        """The document and its revision; an empty one at revision 0 where there is none."""
        ...

    async def save(self, conversation_id: str, document: Conversation, revision: int) -> int:
        """Returns the new revision; raises Conflict."""
        ...


class Publish(Protocol):
    """The events of one turn, in order, their acks checked. Raises Superseded when fenced."""

    async def started(self, event: Started) -> int:
        """Returns the event's sequence in the stream."""
        ...

    async def voice(self, request: SpeechRequest) -> None: ...

    async def text(self, turn: Turn) -> None:
        """Publishes what waits in the turn: at once, or joined when the server lags behind."""
        ...

    async def drained(self, turn: Turn) -> None:
        """Everything published so far is acked, and nothing waits in the turn."""
        ...

    async def end(self, event: Done | Failed) -> None:
        """Publishes the end, once; acked when it returns."""
        ...

    async def ended(self, turn_id: str, since: int) -> bool:
        """True when the stream holds this turn's end already."""
        ...


class Heard(Protocol):
    """What a listener heard of a turn's voice."""

    async def text(self, conversation_id: str, turn_id: str, heard_ms: int, text: str) -> str:
        """The beginning of `text` that was heard within `heard_ms`."""
        ...


class Now(Protocol):
    """The clock."""

    def monotonic(self) -> float: ...

    def utc(self) -> str:
        """RFC 3339, milliseconds."""
        ...

    async def pause(self, seconds: float) -> None:
        """Waits; raises Cancelled when the turn is stopped meanwhile."""
        ...

    def uniform(self, low: float, high: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Older:
    """A request of the same conversation that came before."""

    sequence: int
    turn_id: str


class Line(Protocol):
    """The requests of one conversation in the work queue, as one of them sees it."""

    async def older(self, limit: int) -> Sequence[Older]:
        """Those before it, oldest first, at most `limit`; raises Superseded when it is gone."""
        ...

    async def changed(self) -> None:
        """Returns when a turn of the conversation has ended, or after a second at most."""
        ...

    async def interrupt(self, turn_id: str) -> None:
        """Asks whoever has that turn to stop it."""
        ...
