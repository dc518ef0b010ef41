"""What a stream holds of a conversation, sent to who may not read the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.contract import (
    CHAT_DELTAS_STREAM,
    H_NEXT,
    H_SEQUENCE,
    H_TURN,
    TTS_AUDIO_STREAM,
    Replayed,
    chat_delta,
    tts_audio,
)
from shared.nats.read import read_back

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.contract import ReplayRequest
    from shared.nats.connection import Connection
    from shared.nats.read import StoredMessage

MAX_BYTES: Final = 4 * 1024 * 1024  # sent for one request, bodies and headers
MAX_READ: Final = 4_000  # messages looked at for one request, sent or not
# Read at once: what a client is slow to take waits here.
BATCH: Final = 64
# A direct get adds these to what was stored.
_ADDED: Final = frozenset(
    f"Nats-{name}"
    for name in (
        *("Stream", "Subject", "Sequence", "Time-Stamp"),
        *("Num-Pending", "Last-Sequence", "UpTo-Sequence"),
    )
)


@dataclass(frozen=True, slots=True)
class NatsReplay:
    connection: Connection
    max_bytes: int = MAX_BYTES
    max_read: int = MAX_READ

    async def send(self, conversation_id: str, request: ReplayRequest, reply: str) -> None:
        """Sends each event as it was stored, then where the next request goes on.

        Raises NatsError.
        """
        stream, subject = _source(request.what, conversation_id)
        room, read, sent, following = self.max_bytes, 0, 0, 0
        stored = read_back(self.connection, stream, subject, request.start, batch=BATCH)
        async for message in stored:
            wanted = request.turn_id in {None, message.headers.get(H_TURN)}
            headers = _headers(message) if wanted else {}
            room -= _size(message.data, headers) if wanted else 0
            if read >= self.max_read or (sent and room < 0):
                following = message.sequence
                break
            read += 1
            if wanted:
                sent += 1
                await self.connection.send(reply, message.data, headers=headers)
        await self.connection.send(reply, headers={H_NEXT: str(following)})


def _source(what: Replayed, conversation_id: str) -> tuple[str, str]:
    if what is Replayed.AUDIO:
        return TTS_AUDIO_STREAM, tts_audio(conversation_id)
    return CHAT_DELTAS_STREAM, chat_delta(conversation_id)


def _size(data: bytes, headers: Mapping[str, str]) -> int:
    return len(data) + sum(len(f"{name}: {value}\r\n") for name, value in headers.items())


def _headers(message: StoredMessage) -> dict[str, str]:
    kept = {name: value for name, value in message.headers.items() if name not in _ADDED}
    return kept | {H_SEQUENCE: str(message.sequence)}
