"""The ends of turns that never began, on `chat.delta.<c>` and for their voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.contract import (
    H_ATTEMPT,
    H_CONVERSATION,
    H_TURN,
    H_TYPE,
    MSG_ID,
    AudioFailed,
    Kind,
    SpeechRequest,
    chat_delta,
    encode,
    tts_audio,
    tts_request,
)
from shared.nats.publish import publish
from shared.process.tracing import carried

if TYPE_CHECKING:
    from shared.contract import Done, Failed
    from shared.nats.connection import Connection
    from shared.refuse import Message


@dataclass(frozen=True, slots=True)
class NatsEnds:
    """Implements Ends; raises NatsError."""

    connection: Connection

    async def text(self, message: Message, end: Done | Failed) -> int:
        headers = _headers(message, end, "end")
        subject = chat_delta(end.conversation_id)
        return (await publish(self.connection, subject, encode(end), headers)).seq

    async def voice(self, message: Message, end: SpeechRequest | AudioFailed) -> None:
        headers = _headers(message, end, "voice")
        if isinstance(end, SpeechRequest):
            subject = tts_request(str(end.conversation_id))
        else:
            subject = tts_audio(end.conversation_id)
            headers |= {H_TYPE: Kind.FAILED.value, H_ATTEMPT: str(end.attempt)}
        await publish(self.connection, subject, encode(end), headers)


def _headers(
    message: Message, end: Done | Failed | SpeechRequest | AudioFailed, what: str
) -> dict[str, str]:
    """Of what follows from this one message, whatever else is said of the same turn."""
    return {
        MSG_ID: f"unstarted.{message.unique}.{what}",
        H_CONVERSATION: str(end.conversation_id),
        H_TURN: str(end.turn_id),
        **carried(message.headers),
    }
