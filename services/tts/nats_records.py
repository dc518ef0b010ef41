"""The records of voices in the key-value bucket `speech`, key `<c>.<t>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.tts import record
from services.tts.ports import Conflict
from shared import nats_bus
from shared.contract import SPEECH_BUCKET

if TYPE_CHECKING:
    from services.tts.record import SpeechRecord
    from shared.nats_bus import Bus


class NatsRecords:
    """Of one turn."""

    def __init__(self, bus: Bus, conversation_id: str, turn_id: str) -> None:
        self._bucket = bus.bucket(SPEECH_BUCKET)
        self._key = f"{conversation_id}.{turn_id}"

    async def load(self) -> tuple[SpeechRecord, int]:
        document = await self._bucket.get(self._key)
        return record.decode(document.data), document.revision

    async def save(self, changed: SpeechRecord, revision: int) -> int:
        data = record.encode(changed)
        try:
            return await self._bucket.put(self._key, data, revision)
        except nats_bus.Conflict as exc:
            # The ack of our own write may have been lost on its way, and the write repeated.
            found = await self._bucket.get(self._key)
            if found.data == data:
                return found.revision
            raise Conflict(str(exc)) from exc
