"""What the verbs of the chat service need, in their own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from services.chat.conversation import Conversation
    from services.chat.heard import SpokenPiece
    from services.chat.prompt import Prompt
    from services.chat.queue import Older
    from services.chat.turn import Turn
    from shared.contract import (
        AudioFailed,
        CancelRequest,
        ChatRequest,
        Delta,
        Done,
        Failed,
        FinishReason,
        Message,
        SpeechRequest,
        Started,
        Usage,
    )
    from shared.errors import ProviderError
    from shared.nats.documents import Held
    from shared.process.cancel import CancelToken
    from shared.refuse import Message as QueuedMessage

# ---------------------------------------------------------------- the model


class Said(Struct, frozen=True):
    text: str


class Thought(Struct, frozen=True):
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The model's own end of its answer, with all the usage that was told."""

    reason: FinishReason
    usage: Usage
    model: str = ""  # that answered, as the provider names it


class Model(Protocol):
    """A chat model, bound to one turn: it is stopped when the turn is."""

    def answer(
        self, prompt: Prompt, *, until: float, patient_until: float = 0.0
    ) -> AsyncIterator[Said | Thought | Usage | Finished]:
        """The answer as it is made, `Finished` last.

        `Usage` is what the provider has told of this answer so far. Both times are on the clock of
        `Clock.monotonic`: `until` is the end of the turn; while the provider is known to be away,
        it is not asked before `patient_until`.

        Raises:
            ProviderError: with what was said so far already given out.
            DeadlineExceeded: `until` has passed.
            Cancelled: the turn was stopped.
        """
        ...


# ---------------------------------------------------------------- what is kept


class Conversations(Protocol):
    """The documents, changed by compare-and-set only."""

    async def load(self, conversation_id: str) -> Held[Conversation]:
        """The document as it is now; an empty one at revision 0 where there is none."""
        ...

    async def amend(
        self,
        conversation_id: str,
        change: Callable[[Conversation], Conversation],
        held: Held[Conversation] | None = None,
    ) -> Held[Conversation]:
        """Saves what `change` makes of the document, and returns that.

        `held` is the document as it was read or saved last, so that nothing need be read. `change`
        is asked again, with what is there by then, whenever somebody else was faster; it may raise,
        and returns the very document that it was given where nothing is to be saved.

        Raises:
            NatsError: lost too often, or not saved in time.
        """
        ...

    async def erase(self, conversation_id: str) -> None:
        """Removes document and pages. Raises NatsError."""
        ...


class Pages(Protocol):
    """The messages that a document has handed on to pages."""

    async def page(self, conversation_id: str, number: int) -> Sequence[Message]:
        """Oldest first; none where there is no such page. Raises NatsError."""
        ...


class Past(Protocol):
    """What was told of a conversation."""

    async def events(self, conversation_id: str, since: int) -> Sequence[Delta]:
        """The events of its text from a stream sequence on, in the stream's order."""
        ...


class Remains(Protocol):
    """What has to go when a conversation is erased."""

    async def newest_request(self) -> int:
        """The sequence of the newest request that is on its way, of any conversation; else 0."""
        ...

    async def requests(self, conversation_id: str, *, until: int) -> Sequence[str]:
        """The turns of its requests that are not dealt with, and "" for those on their way.

        Of what is on its way that counts which came by sequence `until`.
        """
        ...

    async def drop_requests(self, conversation_id: str) -> None: ...

    async def erase(self, conversation_id: str) -> None:
        """Removes the events of its text, its dead letters, then document and pages."""
        ...


class Heard(Protocol):
    """What a listener may have heard of a turn's voice."""

    async def pieces(
        self, conversation_id: str, turn_id: str, since: str
    ) -> Sequence[SpokenPiece] | None:
        """The pieces so far, in their order; `since`: a time (RFC 3339) before the first one.

        None where the turn has no voice, or where it is no longer kept.
        """
        ...


class Voices(Protocol):
    """The voices of conversations."""

    async def under_way(self, conversation_id: str) -> Sequence[str]:
        """Their turns, in the order in which they were asked for: those that wait, those spoken."""
        ...

    async def erase(self, conversation_id: str) -> None:
        """Stops them and removes all that is kept of them.

        Raises StorageUnavailable where that could not be done, or in time.
        """
        ...

    async def just_stopped(self, conversation_id: str) -> str | None:
        """The turn whose voice was stopped a moment ago."""
        ...


# ---------------------------------------------------------------- what is told


@dataclass(frozen=True, slots=True)
class Told:
    """What listeners have had of a turn: its highest attempt, 0 for none, and whether it ended."""

    attempt: int
    ended: bool


class Publish(Protocol):
    """The events of one turn, in order, their acks checked.

    Raises Superseded when fenced; Torn where some are stored out of order: `started` begins anew.
    """

    async def started(self, event: Started) -> int:
        """Returns the event's sequence in the stream."""
        ...

    async def voice(self, request: SpeechRequest) -> None: ...

    def text_at_once(self, turn: Turn) -> bool:
        """Publishes what waits in the turn, where nothing stands in the way; False: `text` does."""
        ...

    async def text(self, turn: Turn) -> None:
        """Publishes what waits in the turn: at once, or joined when the server lags behind."""
        ...

    async def drained(self, turn: Turn) -> None:
        """Everything published so far is acked, and nothing waits in the turn."""
        ...

    async def end(self, event: Done | Failed) -> None:
        """Publishes the end, once; acked when it returns."""
        ...

    async def said(self, turn_id: str, since: int) -> str:
        """The words of the turn's last attempt, as the stream holds them."""
        ...

    async def told(self, turn_id: str, since: str) -> Told:
        """What the stream holds of the turn from a time on (RFC 3339)."""
        ...

    async def ended(self, turn_id: str, since: int) -> bool:
        """True when the stream holds this turn's end already."""
        ...


class Ends(Protocol):
    """The ends of turns that never began: published once for each message, acked."""

    async def text(self, message: QueuedMessage, end: Done | Failed) -> int:
        """Returns the event's sequence in the stream."""
        ...

    async def voice(self, message: QueuedMessage, end: SpeechRequest | AudioFailed) -> None:
        """A failure is told as it is; a request leaves it to the speech worker to say the end."""
        ...


class Cancels(Protocol):
    """Reaches whoever holds a turn."""

    async def send(self, request: CancelRequest) -> None: ...


# ---------------------------------------------------------------- what operators see


class Report(Protocol):
    """What operators see of one turn, as one worker answers it."""

    def begun(self, attempt: int) -> None:
        """Its `started` is out."""
        ...

    def first_token(self, seconds: float) -> None:
        """So long after it was asked for there is text."""
        ...

    def retried(self, error: ProviderError) -> None:
        """The provider is asked again, since this went wrong."""
        ...

    def spent(self, usage: Usage, cost: float | None) -> None:
        """What all its tries have used, and the dollars where they are known."""
        ...


# ---------------------------------------------------------------- the clock, the queue, the slots


class Clock(Protocol):
    """Time; where it belongs to a turn, a pause ends when the turn is stopped."""

    def monotonic(self) -> float: ...

    def utc(self) -> str:
        """RFC 3339, milliseconds."""
        ...

    async def pause(self, seconds: float) -> None:
        """Waits; raises Cancelled when the turn is stopped meanwhile."""
        ...

    def uniform(self, low: float, high: float) -> float: ...


class QueuePosition(Protocol):
    """The requests of one conversation in the work queue, as one of them sees it."""

    async def older(self, limit: int) -> Sequence[Older]:
        """Those before it, oldest first, at most `limit`; raises Superseded when it is gone."""
        ...

    async def changed(self) -> None:
        """Returns when the queue may have moved on; raises Cancelled when the turn is stopped."""
        ...


class Requests(Protocol):
    """The way into the work queue."""

    async def put(
        self, request: ChatRequest, warnings: Sequence[str], *, anew: bool = False
    ) -> bool:
        """False where the stream has had the turn's request of late, and took no second one.

        `anew`: it takes it all the same.

        Raises:
            StorageUnavailable: the stream takes no more.
            NatsError: it was not acked.
        """
        ...


class Queue(Protocol):
    """The work queue, by conversation."""

    def position(
        self, conversation_id: str, sequence: int, stop: CancelToken
    ) -> AbstractAsyncContextManager[QueuePosition]:
        """Of the request with that sequence, for as long as it waits."""
        ...

    async def holds(self, conversation_id: str, turn_id: str) -> bool:
        """Whether a request of that turn waits or runs: in the queue, or on its way to it."""
        ...

    def ended(self, conversation_id: str) -> None:
        """A request of this conversation has left the queue, by this process."""
        ...


class Slots(Protocol):
    """How many turns may run at once in this process."""

    def slot(self, message: QueuedMessage) -> AbstractAsyncContextManager[None]:
        """One of them; waits for it."""
        ...


class Answering(Protocol):
    """Answers a request that may run: services.chat.answer, with all that it needs."""

    async def __call__(self, request: ChatRequest, stop: CancelToken) -> Done | Failed | None:
        """As services.chat.answer.answer."""
        ...
