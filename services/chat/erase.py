"""Verb: a conversation is erased everywhere; what runs is stopped first, what waits is dropped."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.chat import conversation
from shared.contract import CancelRequest
from shared.errors import StorageUnavailable, Unreadable
from shared.retry import wait_until

if TYPE_CHECKING:
    from services.chat.ports import Cancels, Clock, Conversations, Remains, Voices

# A worker that is frozen or dead loses its requests after a lease; who gets them then ends them.
STOP_SECONDS: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    conversations: Conversations
    remains: Remains
    voices: Voices
    cancels: Cancels
    clock: Clock


async def erase(conversation_id: str, needs: Dependencies) -> None:
    """Stops, waits until every request was dealt with, erases.

    Requests that come meanwhile are stopped, too; a later one begins a new conversation.

    Raises:
        StorageUnavailable: the voice is still there; the same again is harmless.
    """
    with contextlib.suppress(Unreadable):  # then no turn begins either
        await needs.conversations.amend(
            conversation_id,
            lambda document: conversation.erasing(document, needs.clock.utc()),
        )
    newest = await needs.remains.newest_request()
    told: set[str] = set()

    async def is_quiet() -> bool:
        waiting = await needs.remains.requests(conversation_id, until=newest)
        for turn_id in set(waiting) - told:
            await needs.cancels.send(CancelRequest(conversation_id, turn_id))
            told.add(turn_id)
        return not waiting

    await needs.cancels.send(CancelRequest(conversation_id))
    if not await wait_until(is_quiet, STOP_SECONDS, clock=needs.clock):
        await needs.remains.drop_requests(conversation_id)
    voice_left: StorageUnavailable | None = None
    try:
        await needs.voices.erase(conversation_id)
    except StorageUnavailable as exc:
        voice_left = exc
    await needs.remains.erase(conversation_id)
    if voice_left is not None:
        raise voice_left
