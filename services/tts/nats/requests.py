"""The requests to speak one turn, as the work queue holds them until its voice has ended."""

from __future__ import annotations

from dataclasses import dataclass

from services.tts.request import turn_id_of
from shared.contract import TTS_REQUESTS_STREAM, tts_request
from shared.nats import read
from shared.nats.connection import Connection
from shared.nats.read import StoredMessage, read_back


@dataclass(frozen=True, slots=True)
class NatsRequests:
    """Implements Requests; raises NatsError."""

    connection: Connection
    conversation_id: str
    turn_id: str

    async def is_there(self, sequence: int) -> bool:
        found = await read.at(self.connection, TTS_REQUESTS_STREAM, sequence)
        return found is not None and self._is_ours(found)

    async def any(self) -> bool:
        subject = tts_request(self.conversation_id)
        async for message in read_back(self.connection, TTS_REQUESTS_STREAM, subject):
            if self._is_ours(message):
                return True
        return False

    def _is_ours(self, message: StoredMessage) -> bool:
        turn_id = turn_id_of(message.data, message.headers, message.sequence)
        return (message.subject, turn_id) == (tts_request(self.conversation_id), self.turn_id)
