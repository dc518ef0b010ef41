"""The ends of voices that never began, on `tts.audio.<c>`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contract import (
    H_ATTEMPT,
    H_CONVERSATION,
    H_TURN,
    H_TYPE,
    MSG_ID,
    Kind,
    encode,
    tts_audio,
)
from shared.nats.publish import publish
from shared.process.tracing import carried

if TYPE_CHECKING:
    from shared.contract import AudioFailed
    from shared.nats.connection import Connection
    from shared.refuse import Message


@dataclass(frozen=True, slots=True)
class NatsEnds:
    """Implements Ends."""

    connection: Connection

    async def failed(self, message: Message, event: AudioFailed) -> None:
        headers = {
            MSG_ID: f"refused.{message.unique}",
            H_TYPE: Kind.FAILED.value,
            H_ATTEMPT: str(event.attempt),
            H_CONVERSATION: event.conversation_id,
            H_TURN: event.turn_id,
            **carried(message.headers),
        }
        subject = tts_audio(event.conversation_id)
        await publish(self.connection, subject, encode(event), headers)
