"""Verb: a listener has stopped a turn. Whoever holds it stops by itself (held_turns.py).

Here is done what no holder does: a turn that nobody holds at this moment is found stopped by who
takes it up, and of the answer of a turn that has ended the history keeps what was heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.chat import conversation
from services.chat.heard import heard_text
from shared.contract import Status

if TYPE_CHECKING:
    from services.chat.conversation import Conversation
    from services.chat.ports import Conversations, Heard, Queue, Voices
    from shared.contract import CancelRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    conversations: Conversations
    queue: Queue
    voices: Voices
    heard: Heard


async def cancel(request: CancelRequest, needs: Dependencies) -> None:
    """Changes nothing where no turn is meant, or where it has ended and nobody says what was heard.

    Raises:
        NatsError: nobody can tell, or the document could not be saved.
    """
    turn_id = request.turn_id
    if turn_id is None:
        turn_id = await _voice_meant(request, needs)
    elif await _is_to_come(request.conversation_id, turn_id, needs):
        await needs.conversations.amend(
            request.conversation_id,
            lambda document: conversation.stopped(document, turn_id, request.heard_ms),
        )
    if turn_id is not None and request.heard_ms is not None:
        await cut_to_heard(
            request.conversation_id,
            turn_id,
            request.heard_ms,
            conversations=needs.conversations,
            heard=needs.heard,
        )


async def _voice_meant(request: CancelRequest, needs: Dependencies) -> str | None:
    """The turn whose voice is under way while no text is; None where that need not be known."""
    if request.heard_ms is None:
        return None
    # Before anything else: the voice was told to stop, too.
    under_way = await needs.voices.under_way(request.conversation_id)
    document = (await needs.conversations.load(request.conversation_id)).value
    if document.turn is not None:
        return None
    if under_way:
        return under_way[-1]
    stopped = await needs.voices.just_stopped(request.conversation_id)
    answer = None if stopped is None else conversation.answer_of(document, stopped)
    # Else an earlier stop has said what was heard.
    return stopped if answer is not None and answer.status is Status.COMPLETE else None


async def _is_to_come(conversation_id: str, turn_id: str, needs: Dependencies) -> bool:
    """Whether somebody takes the turn up, now or later."""
    document = (await needs.conversations.load(conversation_id)).value
    if turn_id in document.ended:
        return False
    return conversation.knows(document, turn_id) or await needs.queue.holds(
        conversation_id, turn_id
    )


async def cut_to_heard(
    conversation_id: str,
    turn_id: str,
    heard_ms: int,
    *,
    conversations: Conversations,
    heard: Heard,
) -> None:
    """The history keeps what was heard of an answer; all of it where there is no voice of it.

    Raises:
        NatsError: nobody can tell, or the document could not be saved.
    """
    held = await conversations.load(conversation_id)
    answer = conversation.answer_of(held.value, turn_id)
    if answer is None:
        return
    since = conversation.began_at(held.value, turn_id)
    pieces = await heard.pieces(conversation_id, turn_id, since)
    if pieces is None:
        return
    text = heard_text(pieces, heard_ms, answer.content)

    def cut(document: Conversation) -> Conversation:
        return conversation.heard(document, turn_id, text)

    await conversations.amend(conversation_id, cut, held)
