"""The voices of a conversation, by what the speech workers' queue and stream hold of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from services.chat.request import turn_id_of
from shared.contract import (
    H_TURN,
    H_TYPE,
    TTS_AUDIO_STREAM,
    TTS_REQUESTS_STREAM,
    Finish,
    Kind,
    Stored,
    tts_audio,
    tts_request,
)
from shared.nats.read import last, read_back

if TYPE_CHECKING:
    from shared.nats.connection import Connection

MOMENT: Final = timedelta(seconds=5)

_decode_stored = msgspec.json.Decoder(Stored).decode


@dataclass(frozen=True, slots=True)
class NatsVoices:
    """Implements Voices; raises NatsError."""

    connection: Connection

    async def under_way(self, conversation_id: str) -> list[str]:
        """A request to speak stays in its queue until the voice has ended, and a moment longer."""
        subject = tts_request(conversation_id)
        stored = read_back(self.connection, TTS_REQUESTS_STREAM, subject)
        turns = [turn_id_of(m.data, m.headers, m.sequence, prefix="v") async for m in stored]
        over = await self._ended_last(conversation_id) if turns else None
        return [turn_id for turn_id in turns if turn_id != over]

    async def _ended_last(self, conversation_id: str) -> str | None:
        """The turn whose voice was heard to its end, where nothing was said since."""
        found = await last(self.connection, TTS_AUDIO_STREAM, tts_audio(conversation_id))
        if found is None or found.headers.get(H_TYPE) != Kind.STORED:
            return None
        stored = _decode_stored(found.data)
        return None if stored.finish is Finish.CANCELLED else stored.turn_id

    async def just_stopped(self, conversation_id: str) -> str | None:
        since = (datetime.now(UTC) - MOMENT).isoformat()
        subject = tts_audio(conversation_id)
        found = None
        async for message in read_back(self.connection, TTS_AUDIO_STREAM, subject, since=since):
            if message.headers.get(H_TYPE) == Kind.STORED:
                is_stopped = _decode_stored(message.data).finish is Finish.CANCELLED
                found = message.headers.get(H_TURN) if is_stopped else None
        return found
