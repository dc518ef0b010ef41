"""What was heard of a turn's voice, read back from the events of the voice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from services.chat.heard import SpokenPiece, heard_text
from shared.contract import (
    H_ATTEMPT,
    H_PIECE,
    H_TURN,
    H_TYPE,
    SAMPLE_WIDTH,
    TTS_AUDIO_STREAM,
    Kind,
    Piece,
    PieceDone,
    tts_audio,
)
from shared.nats.read import StoredMessage, read_back

if TYPE_CHECKING:
    from shared.nats.connection import Connection


class NatsHeard:
    """`since` is when the turn began: nothing of its voice is older."""

    def __init__(self, connection: Connection, since: str) -> None:
        self._connection, self._since = connection, since

    async def text(self, conversation_id: str, turn_id: str, heard_ms: int, text: str) -> str:
        pieces: dict[int, SpokenPiece] = {}
        attempts: dict[int, int] = {}
        highest = 0
        async for message in read_back(
            self._connection, TTS_AUDIO_STREAM, tts_audio(conversation_id), 1, since=self._since
        ):
            attempt = int(message.headers.get(H_ATTEMPT, "0"))
            # What carries a lower attempt is a leftover of a replaced worker.
            if message.headers.get(H_TURN) == turn_id and attempt >= highest:
                highest = attempt
                _add(pieces, attempts, message)
        return heard_text([pieces[i] for i in sorted(pieces)], heard_ms, text)


def _add(pieces: dict[int, SpokenPiece], attempts: dict[int, int], message: StoredMessage) -> None:
    kind = message.headers.get(H_TYPE)
    if kind == Kind.PIECE:
        event = msgspec.json.decode(message.data, type=Piece)
        pieces[event.index] = SpokenPiece(*event.chars)
        attempts[event.index] = event.attempt
    elif kind == Kind.CHUNK:
        index = int(message.headers.get(H_PIECE, "-1"))
        if attempts.get(index) == int(message.headers.get(H_ATTEMPT, "0")):
            pieces[index].samples += len(message.data) // SAMPLE_WIDTH
    elif kind == Kind.PIECE_DONE:
        done = msgspec.json.decode(message.data, type=PieceDone)
        if done.index in pieces:
            piece = pieces[done.index]
            piece.samples, piece.whole, piece.words = done.samples, True, done.words
