"""What streams and buckets keep of the voices of a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.tts import record
from services.tts.nats.records import NatsRecords
from services.tts.request import turn_id_of
from shared.contract import (
    SPEECH_BUCKET,
    TTS_AUDIO_STREAM,
    TTS_REQUESTS_STREAM,
    tts_audio,
    tts_request,
)
from shared.nats import read
from shared.nats.documents import Bucket
from shared.nats.read import purge, read_back

if TYPE_CHECKING:
    from shared.nats.connection import Connection


@dataclass(frozen=True, slots=True)
class NatsVoices:
    """Implements Voices."""

    connection: Connection

    @property
    def _bucket(self) -> Bucket:
        return Bucket(self.connection, SPEECH_BUCKET)

    async def drop_requests(self, conversation_id: str) -> None:
        await purge(self.connection, TTS_REQUESTS_STREAM, tts_request(conversation_id))

    async def requested(self, conversation_id: str) -> list[str]:
        subject = tts_request(conversation_id)
        # Whether all are gone is a decision: it is read from the leader.
        first = await read.first(self.connection, TTS_REQUESTS_STREAM, subject)
        if first is None:
            return []
        stored = read_back(self.connection, TTS_REQUESTS_STREAM, subject, first.sequence + 1)
        found = [first, *[message async for message in stored]]
        return [turn_id_of(m.data, m.headers, m.sequence) for m in found]

    async def stop(self, conversation_id: str, turn_id: str) -> None:
        await NatsRecords(self.connection, conversation_id, turn_id).amend(record.cancelled)

    async def drop_events(self, conversation_id: str) -> None:
        await purge(self.connection, TTS_AUDIO_STREAM, tts_audio(conversation_id))

    async def drop_records(self, conversation_id: str) -> None:
        await self._bucket.erase(f"{conversation_id}.*")
