"""Verb: a conversation is erased everywhere; what runs is stopped first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.chat import conversation
from shared.contract import CancelRequest
from shared.errors import Busy, StorageUnavailable
from shared.retry import wait_until

if TYPE_CHECKING:
    from services.chat.ports import Cancels, Clock, Conversations, Remains

STOP_SECONDS: Final = 8.0  # for a turn under way to end
VOICE_SECONDS: Final = 10.0  # for the speech workers to do their part


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    conversations: Conversations
    remains: Remains
    cancels: Cancels
    clock: Clock


async def erase(conversation_id: str, needs: Dependencies) -> None:
    """Stops, waits, erases.

    The speech workers hear the same request and erase the voice; their part is done when they keep
    nothing of the conversation any more.

    Raises:
        Busy: a turn could not be stopped in time; nothing was erased.
        StorageUnavailable: the voice is still there.
    """

    async def is_over() -> bool:
        document = (await needs.conversations.load(conversation_id)).value
        if document.turn is not None:
            return False
        return conversation.is_over(document, await needs.remains.last_event(conversation_id))

    async def is_silent() -> bool:
        return not await needs.remains.has_voice(conversation_id)

    await needs.cancels.send(CancelRequest(conversation_id))
    if not await wait_until(is_over, STOP_SECONDS, clock=needs.clock):
        raise Busy("a turn of this conversation could not be stopped in time")
    await needs.remains.erase(conversation_id)
    if not await wait_until(is_silent, VOICE_SECONDS, clock=needs.clock):
        raise StorageUnavailable("the voice could not be erased; ask again")
