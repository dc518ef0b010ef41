"""What a turn's voice has said already, from its events: pieces that are done stay done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from shared.contract import (
    H_ATTEMPT,
    H_PIECE,
    H_SEQ,
    H_TYPE,
    AudioFailed,
    Kind,
    Piece,
    PieceDone,
    Stored,
    Word,
)
from services.tts import pcm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(slots=True)
class DonePiece:
    """A piece whose audio is whole."""

    index: int
    text: str
    start: int
    end: int
    samples: int
    words: Sequence[Word] = ()


@dataclass(slots=True)
class _Open:
    attempt: int
    text: str
    start: int
    end: int
    chunks: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Recalled:
    """Fed the events of one turn, in the order of the stream."""

    pieces: dict[int, DonePiece] = field(default_factory=dict)
    audio: dict[int, bytes] = field(default_factory=dict)
    attempt: int = 0
    characters: int = 0
    end: Stored | AudioFailed | None = None
    _open: dict[int, _Open] = field(default_factory=dict)

    def add(self, headers: Mapping[str, str], data: bytes) -> None:
        match headers.get(H_TYPE):
            case Kind.STARTED:
                self.attempt = max(self.attempt, int(headers.get(H_ATTEMPT, "1")))
                self._open.clear()
            case Kind.PIECE:
                self._piece(msgspec.json.decode(data, type=Piece))
            case Kind.CHUNK:
                self._chunk(headers, data)
            case Kind.PIECE_DONE:
                self._done(msgspec.json.decode(data, type=PieceDone))
            case Kind.STORED:
                self.end = msgspec.json.decode(data, type=Stored)
            case Kind.FAILED:
                self.end = msgspec.json.decode(data, type=AudioFailed)
            case _:
                pass

    def _piece(self, event: Piece) -> None:
        if event.attempt < self.attempt:
            return  # a leftover of a replaced worker
        self.characters += len(event.text)
        self._open[event.index] = _Open(event.attempt, event.text, *event.chars)
        # Announced again: what was said before under this index and after it does not count.
        for index in [i for i in self.pieces if i >= event.index]:
            del self.pieces[index], self.audio[index]

    def _chunk(self, headers: Mapping[str, str], data: bytes) -> None:
        piece = self._open.get(int(headers.get(H_PIECE, "-1")))
        if piece is not None and piece.attempt == int(headers.get(H_ATTEMPT, "0")):
            piece.chunks[int(headers.get(H_SEQ, "0"))] = data

    def _done(self, event: PieceDone) -> None:
        piece = self._open.get(event.index)
        if piece is None or piece.attempt != event.attempt:
            return
        audio = b"".join(piece.chunks[seq] for seq in sorted(piece.chunks))
        if pcm.samples(len(audio)) != event.samples:
            return  # a chunk is missing: it has to be said again
        del self._open[event.index]
        self.audio[event.index] = audio
        self.pieces[event.index] = DonePiece(
            event.index, piece.text, piece.start, piece.end, event.samples, event.words
        )

    def in_order(self) -> list[tuple[DonePiece, bytes]]:
        """The pieces that are done without one missing before them."""
        done = []
        while len(done) in self.pieces:
            done.append((self.pieces[len(done)], self.audio[len(done)]))
        return done
