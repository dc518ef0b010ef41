"""The text of a turn, as the chat service publishes it on `chat.delta.<c>`."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.contract import Done
from shared.errors import DeadlineExceeded, NatsError
from shared.nats.follow import follow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from shared.contract import Delta
    from shared.nats.connection import Connection

END_SECONDS: Final = 2.0  # after a stop: the chat service heard of it, too


@dataclass(frozen=True, slots=True)
class NatsText:
    """Implements TurnText; `start`: nothing of it lies before that sequence of the stream."""

    connection: Connection
    conversation_id: str
    turn_id: str
    start: int
    idle_seconds: float  # without an event; then the text counts as gone
    end_seconds: float = END_SECONDS

    async def events(
        self, offer: Callable[[Delta], bool] | None = None
    ) -> AsyncGenerator[Delta, None]:
        async for event in follow(
            self.connection,
            self.conversation_id,
            self.turn_id,
            start=self.start,
            idle=self.idle_seconds,
            offer=offer,
        ):
            yield event

    async def whole(self) -> str | None:
        with contextlib.suppress(TimeoutError, DeadlineExceeded, NatsError):
            async with (
                asyncio.timeout(self.end_seconds),
                contextlib.aclosing(self.events()) as events,
            ):
                async for event in events:
                    if isinstance(event, Done):
                        return event.text
        return None
