"""Refuses a message that cannot be done: whoever follows the turn is told, the message is kept.

Both services do it alike. The failed event comes first: no turn whose request became a dead letter
stays open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from shared.errors import Failure


class Request(Protocol):
    """A request as it arrives."""

    @property
    def subject(self) -> str: ...

    @property
    def data(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def sequence(self) -> int:
        """Its place in the stream, from 1; 0 where it is in none."""
        ...

    @property
    def unique(self) -> str:
        """Names it among all there ever were; a stream made anew counts from 1 again."""
        ...


@dataclass(frozen=True, slots=True)
class Unqueued:
    """Implements Request: one that is in no stream, or not yet."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    sequence: int = 0
    unique: str = ""


class Message(Request, Protocol):
    """A message of a work queue, leased to this worker until it is acked or handed back."""

    @property
    def deliveries(self) -> int:
        """How often it was handed out, this time included."""
        ...

    @property
    def taken_at(self) -> datetime:
        """When the stream took it, UTC."""
        ...

    async def ack(self) -> None:
        """Returns when the message is removed for good; raises NatsError."""
        ...

    async def nak(self, delay: float = 0.0) -> None:
        """Hands it back, to be delivered again after `delay` seconds."""
        ...


class DeadLetters(Protocol):
    """Where messages are kept that could not be done."""

    async def add(self, message: Message, error: Failure) -> None:
        """Kept once, however often it is added; raises NatsError."""
        ...


class Turns(Protocol):
    """What is known of turns here, and how one that never began is ended."""

    async def knows(self, conversation_id: str, turn_id: str) -> bool:
        """Whether a request for this turn was taken up before; raises NatsError."""
        ...

    async def fail(
        self, message: Message, conversation_id: str, turn_id: str, error: Failure
    ) -> None:
        """Publishes the turn's failed event, once for each message; raises NatsError."""
        ...


def plain_text(data: bytes) -> str:
    """A body that is no JSON object; raises InvalidRequest."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the body is neither a JSON object nor UTF-8 text") from None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a message cannot be done, and whose it is; the conversation only where it is known."""

    error: Failure
    conversation_id: str | None
    turn_id: str


async def refuse(
    message: Message,
    refused: Refused,
    *,
    turns: Turns,
    dead_letters: DeadLetters,
    count: Callable[[Failure], None],
) -> None:
    """A failed event where the conversation is known, a dead letter always; the caller acks.

    Raises:
        NatsError: not all of it was done; the same again is harmless.
    """
    conversation_id, turn_id = refused.conversation_id, refused.turn_id
    # A bad copy of a good request must not end that one's turn.
    if conversation_id is not None and not await turns.knows(conversation_id, turn_id):
        await turns.fail(message, conversation_id, turn_id, refused.error)
    await dead_letters.add(message, refused.error)
    count(refused.error)
