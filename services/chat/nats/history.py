"""What is kept of a conversation beside its document, read back and removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contract import CHAT_DELTAS_STREAM, SPEECH_BUCKET, chat_delta
from shared.errors import NoStream
from shared.nats import read
from shared.nats.documents import Bucket
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

    async def last_event(self, conversation_id: str) -> Delta | None:
        subject = chat_delta(conversation_id)
        stored = await read.last(self.connection, CHAT_DELTAS_STREAM, subject)
        return None if stored is None else decode_delta(stored.data)

    async def erase(self, conversation_id: str) -> None:
        await purge(self.connection, CHAT_DELTAS_STREAM, chat_delta(conversation_id))
        await self.conversations.erase(conversation_id)

    async def has_voice(self, conversation_id: str) -> bool:
        bucket = Bucket(self.connection, SPEECH_BUCKET)
        try:
            async for _ in bucket.entries(f"{conversation_id}.*"):
                return True
        except NoStream:
            pass  # no speech worker was ever here
        return False
