"""A text that came whole, with its request: as the events of a turn that is followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.contract import Done, FinishReason, Text, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from shared.contract import Delta

SLICE: Final = 512  # characters that are cut into pieces at once


@dataclass(frozen=True, slots=True)
class GivenText:
    """Implements TurnText."""

    conversation_id: str
    turn_id: str
    text: str

    async def events(
        self, offer: Callable[[Delta], bool] | None = None
    ) -> AsyncGenerator[Delta, None]:
        for seq, at in enumerate(range(0, len(self.text), SLICE)):
            part = self.text[at : at + SLICE]
            event = Text(self.conversation_id, self.turn_id, 1, seq, text=part)
            if offer is None or not offer(event):
                yield event
        done = self._done()
        if offer is not None:
            offer(done)
        yield done

    def _done(self) -> Done:
        return Done(
            self.conversation_id,
            self.turn_id,
            1,
            -1,
            finish_reason=FinishReason.STOP,
            text=self.text,
            usage=Usage(0, 0),
            first_token_ms=None,
            duration_ms=0,
            metadata={},
        )

    async def whole(self) -> str:
        return self.text
