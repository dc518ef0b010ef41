"""The records of voices in the key-value bucket `speech`, key `<c>.<t>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.tts import record
from shared.contract import SPEECH_BUCKET
from shared.nats.connection import Connection
from shared.nats.documents import Bucket

if TYPE_CHECKING:
    from services.tts.record import SpeechRecord


class NatsRecords:
    """Of one turn."""

    def __init__(self, connection: Connection, conversation_id: str, turn_id: str) -> None:
        self._bucket = Bucket(connection, SPEECH_BUCKET)
        self._key = f"{conversation_id}.{turn_id}"

    async def load(self) -> tuple[SpeechRecord, int]:
        held = await self._bucket.get(self._key)
        return record.decode(held.value), held.revision

    async def save(self, changed: SpeechRecord, revision: int) -> int:
        return await self._bucket.put(self._key, record.encode(changed), revision)
