"""Verb: shows a conversation: what was said, and the turn under way so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.chat import conversation
from shared.contract import History, TurnUnderWay

if TYPE_CHECKING:
    from services.chat.conversation import Conversation
    from services.chat.ports import Conversations, Past


async def show(conversation_id: str, *, conversations: Conversations, past: Past) -> History:
    """A conversation that nobody knows has no messages. Raises NatsError."""
    document = (await conversations.load(conversation_id)).value
    messages = await past.messages(conversation_id, document)
    turn = await _under_way(conversation_id, document, past)
    return History(conversation_id, list(messages), turn)


async def _under_way(
    conversation_id: str, document: Conversation, past: Past
) -> TurnUnderWay | None:
    turn = document.turn
    if turn is None:
        return None
    events = await past.events(conversation_id, document.delta_sequence)
    text, seq = conversation.text_so_far(events, turn.turn_id, turn.attempt)
    return TurnUnderWay(turn.turn_id, turn.attempt, text, seq)
