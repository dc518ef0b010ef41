"""The records of voices in the key-value bucket `speech`, key `<c>.<t>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.tts import record
from shared.contract import SPEECH_BUCKET
from shared.nats.documents import Bucket, Held, amend

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.tts.record import SpeechRecord
    from shared.nats.connection import Connection


class NatsRecords:
    """Implements Records, of one turn."""

    def __init__(self, connection: Connection, conversation_id: str, turn_id: str) -> None:
        self._bucket = Bucket(connection, SPEECH_BUCKET)
        self._key = f"{conversation_id}.{turn_id}"

    async def load(self) -> Held[SpeechRecord]:
        held = await self._bucket.get(self._key)
        return Held(record.decode(held.value), held.revision)

    async def erase(self) -> None:
        await self._bucket.erase(self._key)

    async def amend(
        self,
        change: Callable[[SpeechRecord], SpeechRecord],
        held: Held[SpeechRecord] | None = None,
    ) -> Held[SpeechRecord]:
        return await amend(self.load, change, self._save, held)

    async def _save(self, changed: SpeechRecord, revision: int) -> int:
        return await self._bucket.put(self._key, record.encode(changed), revision)
