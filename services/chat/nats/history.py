"""What is kept of a conversation beside its document, read back and removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.chat.request import turn_id_of
from shared.contract import (
    CHAT_DEAD,
    CHAT_DELTAS_STREAM,
    CHAT_REQUEST,
    CHAT_REQUESTS_STREAM,
    DEAD_LETTERS_STREAM,
    TTS_DEAD,
    chat_delta,
    chat_request,
    of_conversation,
)
from shared.nats import read
from shared.nats.follow import decode_delta
from shared.nats.read import purge, read_back

if TYPE_CHECKING:
    from services.chat.nats.conversations import NatsConversations
    from shared.contract import Delta
    from shared.nats.connection import Connection


@dataclass(frozen=True, slots=True)
class NatsHistory:
    """Implements Past and Remains; raises NatsError."""

    connection: Connection
    conversations: NatsConversations

    async def events(self, conversation_id: str, since: int) -> list[Delta]:
        subject = chat_delta(conversation_id)
        stored = read_back(self.connection, CHAT_DELTAS_STREAM, subject, since)
        events = [decode_delta(message.data) async for message in stored]
        return [event for event in events if event is not None]

    async def newest_request(self) -> int:
        # From the leader: a server that was frozen tells of its streams what it knew by then.
        newest = await read.last(self.connection, CHAT_REQUESTS_STREAM, CHAT_REQUEST)
        return 0 if newest is None else newest.sequence

    async def requests(self, conversation_id: str, *, until: int) -> list[str]:
        subject = chat_request(conversation_id)
        # Whether all are gone is a decision: it is read from the leader.
        on_its_way = await read.first(self.connection, CHAT_REQUESTS_STREAM, CHAT_REQUEST)
        first = await read.first(self.connection, CHAT_REQUESTS_STREAM, subject)
        found = [""] if on_its_way is not None and on_its_way.sequence <= until else []
        if first is None:
            return found
        stored = read_back(self.connection, CHAT_REQUESTS_STREAM, subject, first.sequence + 1)
        waiting = [first, *[message async for message in stored]]
        return [*found, *(turn_id_of(m.data, m.headers, m.sequence) for m in waiting)]

    async def drop_requests(self, conversation_id: str) -> None:
        await purge(self.connection, CHAT_REQUESTS_STREAM, chat_request(conversation_id))

    async def erase(self, conversation_id: str) -> None:
        await purge(self.connection, CHAT_DELTAS_STREAM, chat_delta(conversation_id))
        for letters in (CHAT_DEAD, TTS_DEAD):
            subject = of_conversation(letters, conversation_id)
            await purge(self.connection, DEAD_LETTERS_STREAM, subject)
        await self.conversations.erase(conversation_id)
