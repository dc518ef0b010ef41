"""What streams and buckets keep of the voices of a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.tts import record
from shared.contract import (
    SPEECH_BUCKET,
    TTS_AUDIO_STREAM,
    TTS_REQUESTS_STREAM,
    tts_audio,
    tts_request,
)
from shared.nats.documents import Bucket
from shared.nats.read import purge

if TYPE_CHECKING:
    from services.tts.record import SpeechRecord
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

    async def records(self, conversation_id: str) -> list[SpeechRecord]:
        entries = self._bucket.entries(f"{conversation_id}.*")
        return [record.decode(data) async for _, data in entries]

    async def drop_events(self, conversation_id: str) -> None:
        await purge(self.connection, TTS_AUDIO_STREAM, tts_audio(conversation_id))

    async def drop_records(self, conversation_id: str) -> None:
        await self._bucket.erase(f"{conversation_id}.*")
