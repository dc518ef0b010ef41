"""One attempt of a turn: its states, its numbered events, the text that waits to be published."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING

from shared.contract import (
    Done,
    Failed,
    FinishReason,
    Reasoning,
    SpeechOrFalse,
    Started,
    Text,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contract import Error


def seconds_since(taken_at: datetime, now: str) -> float:
    """How long ago the stream took a request; `now` is RFC 3339.

    The clocks are those of two machines: nobody has waited for less than nothing.
    """
    return max(0.0, (datetime.fromisoformat(now) - taken_at).total_seconds())


class State(enum.Enum):
    NEW = "new"
    STARTED = "started"
    ENDED = "ended"


class Step(enum.Enum):
    START = "start"
    SAY = "say"
    END = "end"
    REFUSE = "refuse"  # an end without a start


# Everything that may happen to an attempt; what is not here is a bug and raises KeyError.
NEXT = {
    (State.NEW, Step.START): State.STARTED,
    (State.NEW, Step.REFUSE): State.ENDED,
    (State.STARTED, Step.SAY): State.STARTED,
    (State.STARTED, Step.END): State.ENDED,
}


class Turn:
    """Numbers the events of one attempt, 0, 1, 2 …, and joins text that was not yet taken."""

    def __init__(self, conversation_id: str, turn_id: str, attempt: int = 1) -> None:
        self.conversation_id = conversation_id
        self.turn_id = turn_id
        self.attempt = attempt
        self._state = State.NEW
        self._seq = 0
        self._said: list[str] = []
        self._waiting: list[str] = []
        self._thinking: list[str] = []
        self._thought: list[str] = []

    def _number(self, step: Step) -> int:
        self._state = NEXT[self._state, step]
        self._seq += 1
        return self._seq - 1

    @property
    def text(self) -> str:
        """All that was said in this attempt, taken or not."""
        return "".join(self._said)

    @property
    def silent(self) -> bool:
        """True while nothing of an answer was said or thought in this attempt."""
        return self._seq <= 1 and not self._said and not self._thinking

    def started(
        self,
        *,
        model: str,
        metadata: dict[str, str],
        speech: SpeechOrFalse,
        created_at: str,
        warnings: Sequence[str] = (),
    ) -> Started:
        seq = self._number(Step.START)
        return Started(
            self.conversation_id,
            self.turn_id,
            self.attempt,
            seq,
            model=model,
            metadata=metadata,
            speech=speech,
            created_at=created_at,
            warnings=list(warnings),
        )

    def say(self, text: str) -> None:
        self._said.append(text)
        self._waiting.append(text)

    def think(self, text: str) -> None:
        self._thought.append(text)
        self._thinking.append(text)

    def repeat(self, other: Turn) -> None:
        """All that was thought and said in another attempt, at once."""
        if thought := "".join(other._thought):
            self.think(thought)
        if other.text:
            self.say(other.text)

    @property
    def waits(self) -> bool:
        """True while something was thought or said that was not taken."""
        return bool(self._thinking or self._waiting)

    def take(self) -> Text | Reasoning | None:
        """The next event of what waits, all of it joined; None when nothing does."""
        if self._thinking:
            text = "".join(self._thinking)
            self._thinking.clear()
            seq = self._number(Step.SAY)
            return Reasoning(self.conversation_id, self.turn_id, self.attempt, seq, text=text)
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            seq = self._number(Step.SAY)
            return Text(self.conversation_id, self.turn_id, self.attempt, seq, text=text)
        return None

    def done(
        self,
        *,
        finish_reason: FinishReason,
        usage: Usage,
        first_token_ms: int | None,
        duration_ms: int,
        metadata: dict[str, str],
    ) -> Done:
        seq = self._number(Step.END)
        return Done(
            self.conversation_id,
            self.turn_id,
            self.attempt,
            seq,
            finish_reason=finish_reason,
            text=self.text,
            usage=usage,
            first_token_ms=first_token_ms,
            duration_ms=duration_ms,
            metadata=metadata,
        )

    def stopped(self, metadata: dict[str, str], *, duration_ms: int) -> Done:
        """Stopped by the user before it began: no model was asked, so none told its usage."""
        seq = self._number(Step.REFUSE)
        return Done(
            self.conversation_id,
            self.turn_id,
            self.attempt,
            seq,
            finish_reason=FinishReason.CANCELLED,
            text="",
            usage=Usage(None, None),
            first_token_ms=None,
            duration_ms=duration_ms,
            metadata=metadata,
        )

    def failed(self, error: Error) -> Failed:
        step = Step.REFUSE if self._state is State.NEW else Step.END
        seq = self._number(step)
        return Failed(self.conversation_id, self.turn_id, self.attempt, seq, error=error)
