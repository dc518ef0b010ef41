"""What was spoken of a turn, read back from the events of its voice."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from services.chat.heard import Mark, Sound, SpokenVoice
from shared.contract import (
    H_ATTEMPT,
    H_PIECE,
    H_TURN,
    H_TYPE,
    SAMPLE_WIDTH,
    TTS_AUDIO_STREAM,
    UNREADABLE,
    Kind,
    Piece,
    PieceDone,
    tts_audio,
)
from shared.nats.read import StoredMessage, read_back

if TYPE_CHECKING:
    from services.chat.heard import SpokenPiece
    from shared.nats.connection import Connection

_NUMBER: Final = re.compile("[0-9]{1,15}")
_decode_piece = msgspec.json.Decoder(Piece).decode
_decode_piece_done = msgspec.json.Decoder(PieceDone).decode


@dataclass(frozen=True, slots=True)
class NatsHeard:
    """Implements Heard; raises NatsError."""

    connection: Connection

    async def pieces(
        self, conversation_id: str, turn_id: str, since: str
    ) -> list[SpokenPiece] | None:
        voice = SpokenVoice()
        subject = tts_audio(conversation_id)
        stored = read_back(self.connection, TTS_AUDIO_STREAM, subject, since=since)
        async for message in stored:
            if message.headers.get(H_TURN) == turn_id:
                with contextlib.suppress(*UNREADABLE):  # a stranger's
                    voice.add(_number(message, H_ATTEMPT), _event(message))
        return voice.pieces


def _number(message: StoredMessage, name: str) -> int:
    """-1, which tells nothing, for what is no number."""
    text = message.headers.get(name, "")
    return int(text) if _NUMBER.fullmatch(text) else -1


def _event(message: StoredMessage) -> Piece | Sound | PieceDone | Mark | None:
    match message.headers.get(H_TYPE):
        case Kind.STARTED:
            return Mark.STARTED
        case Kind.STORED | Kind.FAILED:
            return Mark.ENDED
        case Kind.PIECE:
            return _decode_piece(message.data)
        case Kind.CHUNK:
            return Sound(_number(message, H_PIECE), len(message.data) // SAMPLE_WIDTH)
        case Kind.PIECE_DONE:
            return _decode_piece_done(message.data)
        case _:
            return None
