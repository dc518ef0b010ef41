"""Verb: a listener has stopped a voice; the history keeps what was heard of it.

A turn that is held by a worker is stopped there (services/chat/held_turns.py), and commits what was
heard by itself. Here the answer of a turn that has ended is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.chat import conversation
from services.chat.heard import heard_text

if TYPE_CHECKING:
    from services.chat.conversation import Conversation
    from services.chat.ports import Conversations, Heard
    from shared.contract import CancelRequest


async def cut_to_heard(
    request: CancelRequest, *, conversations: Conversations, heard: Heard
) -> None:
    """Changes nothing where the turn still runs, or where nobody says how much was heard.

    Raises:
        NatsError: nobody can tell, or the document could not be saved.
    """
    if request.heard_ms is None:
        return
    held = await conversations.load(request.conversation_id)
    answer = conversation.answer_meant(held.value, request.turn_id)
    if answer is None:
        return
    turn_id = answer.turn_id
    since = conversation.began_at(held.value, turn_id)
    pieces = await heard.pieces(request.conversation_id, turn_id, since)
    text = heard_text(pieces, request.heard_ms, answer.content)

    def cut(document: Conversation) -> Conversation:
        meant = conversation.answer_meant(document, request.turn_id)
        # Another turn has begun meanwhile: it is that one's worker who was meant.
        if meant is None or meant.turn_id != turn_id:
            return document
        return conversation.heard(document, turn_id, text)

    await conversations.amend(request.conversation_id, cut, held)
